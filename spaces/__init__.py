"""What can be built: attention types, placements, backbones and the space of architectures over them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces.backbone import build_model, describe_backbone, list_backbones
    from spaces.placement import Architecture, Placement
    from spaces.space import SearchSpace

__all__ = ["Architecture", "Placement", "SearchSpace", "build_model", "describe_backbone", "list_backbones"]

# torch and timm take seconds to import; a mistake on the command line should not wait for them.
_HOMES = {
    "Architecture": "placement",
    "Placement": "placement",
    "SearchSpace": "space",
    "build_model": "backbone",
    "describe_backbone": "backbone",
    "list_backbones": "backbone",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"spaces.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'spaces' has no attribute {name!r}")
