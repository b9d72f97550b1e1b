"""Attune: where attention belongs in a convolutional network. This package is the way in; see docs/python.md.

What it gives is imported when it is first asked for, since torch and timm take seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces import Architecture, Placement, SearchSpace, build_model
    from spaces.attention import create_attention, list_attentions
    from spaces.errors import UsageError

__version__ = "0.1.0"

# What can be asked of this package, and the module that each is of.
_HOMES = {
    "Architecture": "spaces",
    "Placement": "spaces",
    "SearchSpace": "spaces",
    "UsageError": "spaces.errors",
    "build_model": "spaces",
    "create_attention": "spaces.attention",
    "list_attentions": "spaces.attention",
}

__all__ = [
    "Architecture",
    "Placement",
    "SearchSpace",
    "UsageError",
    "build_model",
    "create_attention",
    "list_attentions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attune' has no attribute {name!r}")
    import_module("attune.shadows").refuse()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
