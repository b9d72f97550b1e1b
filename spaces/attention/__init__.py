"""The attention library: every type by name, exact, size-free, with genes, closed forms and an identity start.

Each file of this folder is a family that registers its types when it is imported; all of them are, when a type is first asked
for. Genes alone (``spaces.attention.genes``) can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces.attention.parts import Gate, IdentityStart
    from spaces.attention.registry import (
        attention_type,
        create_attention,
        describe_attentions,
        list_attentions,
        register,
    )
    from spaces.attention.types import AttentionType, Fit, Fusion, part

__all__ = [
    "AttentionType",
    "Fit",
    "Fusion",
    "Gate",
    "IdentityStart",
    "attention_type",
    "create_attention",
    "describe_attentions",
    "list_attentions",
    "part",
    "register",
]

_HOMES = {
    "Gate": "parts",
    "IdentityStart": "parts",
    "AttentionType": "types",
    "Fit": "types",
    "Fusion": "types",
    "part": "types",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"spaces.attention.{_HOMES.get(name, 'registry')}"), name)
    raise AttributeError(f"module 'spaces.attention' has no attribute {name!r}")
