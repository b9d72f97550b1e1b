"""The attention library: every type by name, exact, size-free, with genes, closed forms and an identity start.

Each file of this folder is a family that registers its types when it is imported; all of them are, in what follows.
"""

from importlib import import_module
from pkgutil import iter_modules

from spaces.attention.parts import Gate, IdentityStart
from spaces.attention.registry import attention_type, create_attention, describe_attentions, list_attentions, register
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

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")
