"""The attention library: every type by name, exact, size-free, with genes, closed forms and an identity start."""

from spaces.attention import (  # noqa: F401  (each registers its types)
    axes,
    channel,
    grouped,
    pairs,
    pairwise,
    spatial,
    transform,
)
from spaces.attention.parts import IdentityStart
from spaces.attention.registry import AttentionType, attention_type, create_attention, list_attentions

__all__ = ["AttentionType", "IdentityStart", "attention_type", "create_attention", "list_attentions"]
