"""Attune: where attention belongs in a convolutional network. This package is the way in; see docs/python.md.

What it gives is imported when it is first asked for, since torch and timm take seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attune.results import Run, load
    from attune.searching import search
    from evaluators.objects import count_any as count_cost
    from spaces import Architecture, Placement, SearchSpace, build_model
    from spaces.attention import create_attention, list_attentions
    from spaces.errors import UsageError
    from spaces.objects import describe_network as describe
    from spaces.objects import insert

__version__ = "0.1.0"

# What can be asked of this package: where each is found, as module:name.
_HOMES = {
    "Architecture": "spaces:Architecture",
    "Placement": "spaces:Placement",
    "Run": "attune.results:Run",
    "SearchSpace": "spaces:SearchSpace",
    "UsageError": "spaces.errors:UsageError",
    "build_model": "spaces:build_model",
    "count_cost": "evaluators.objects:count_any",
    "create_attention": "spaces.attention:create_attention",
    "describe": "spaces.objects:describe_network",
    "insert": "spaces.objects:insert",
    "list_attentions": "spaces.attention:list_attentions",
    "load": "attune.results:load",
    "search": "attune.searching:search",
}

__all__ = [
    "Architecture",
    "Placement",
    "Run",
    "SearchSpace",
    "UsageError",
    "build_model",
    "count_cost",
    "create_attention",
    "describe",
    "insert",
    "list_attentions",
    "load",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attune' has no attribute {name!r}")
    import_module("attune.shadows").refuse()
    module, _, inside = _HOMES[name].partition(":")
    return getattr(import_module(module), inside)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
