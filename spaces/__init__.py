"""What can be built: attention types, placements, backbones and the space of architectures over them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces.backbone import describe_backbone, list_backbones
    from spaces.network import NetworkSpec, build_model, insert_attention
    from spaces.placement import Architecture, Placement
    from spaces.space import SearchSpace

__all__ = [
    "Architecture",
    "NetworkSpec",
    "Placement",
    "SearchSpace",
    "build_model",
    "describe_backbone",
    "insert_attention",
    "list_backbones",
]

# torch and timm take seconds to import; a mistake on the command line should not wait for them.
_HOMES = {
    "Architecture": "placement",
    "Placement": "placement",
    "SearchSpace": "space",
    "NetworkSpec": "network",
    "build_model": "network",
    "describe_backbone": "backbone",
    "insert_attention": "network",
    "list_backbones": "backbone",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"spaces.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'spaces' has no attribute {name!r}")
