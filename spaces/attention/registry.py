"""The attention types by name, mixes of two, and the factory.

`A+B` mixes the channel part of A with the spatial part of B.
"""

from dataclasses import replace
from functools import cache
from typing import Any

from torch import nn

from spaces.attention.genes import BY_NAME
from spaces.attention.types import SUM, AttentionType, Part
from spaces.deprecated import renamed
from spaces.errors import UsageError, shortened, unknown
from spaces.plugins import import_files

_TYPES: dict[str, AttentionType] = {}
_discovered: list[bool] = []


def _discover() -> None:
    """Import the families of this folder, which register their types."""
    if not _discovered:
        _discovered.append(True)  # first, since a family that registers its types comes by here
        try:
            import_files("spaces.attention")
        except BaseException:
            _discovered.clear()  # or the next question would be answered by half of them
            raise


def register(*types: AttentionType) -> None:
    """Add types to the registry; a name can be taken once."""
    _discover()
    for entry in types:
        if entry.name in _TYPES:
            raise ValueError(f"attention type {entry.name!r} is registered already")
        _TYPES[entry.name] = entry


def list_attentions() -> list[str]:
    """The names of all types, sorted; any `A+B` of a type with a channel part and one with a spatial part works too."""
    _discover()
    return sorted(_TYPES)


def describe_attentions() -> list[dict[str, Any]]:
    """`AttentionType.to_dict` of every type that is registered, by name."""
    return [attention_type(name).to_dict() for name in list_attentions()]


@cache
def attention_type(name: str) -> AttentionType:
    """The type of that name, or the mix `A+B`. Raises UsageError with the valid names."""
    _discover()
    first, plus, second = name.partition("+")
    for one in (first, second) if plus else (first,):
        if one not in _TYPES:
            raise unknown("attention type", one, list_attentions())
    return _mix(_TYPES[first], _TYPES[second]) if plus else _TYPES[first]


def _mix(a: AttentionType, b: AttentionType) -> AttentionType:
    """The channel part of A with the spatial part of B, in series unless said otherwise."""

    def taken(entry: AttentionType, wanted: str) -> Part:
        for member in entry.members:
            if member.role == wanted:
                return member
        having = [name for name in list_attentions() if wanted in _TYPES[name].parts]
        raise UsageError(f"{entry.name} has no {wanted} part to mix; types with one: {', '.join(having)}")

    members = (taken(a, "channel"), taken(b, "spatial"))
    mixed = AttentionType(
        name=f"{a.name}+{b.name}",
        members=members,
        paper=f"channel part: {a.paper}; spatial part: {b.paper}",
        formula=" + ".join(member.formula for member in members),
        arrangement="series",
        fusion=b.fusion if all(member.gated for member in members) else SUM,
        equation=f"the channel part of {a.name}, the spatial part of {b.name}",
    )
    unused = tuple(gene for gene in BY_NAME if gene in (*a.genes, *b.genes) and gene not in mixed.genes)
    return replace(mixed, ignored=unused)


def create_attention(
    name: str,
    channels: int,
    *,
    identity_start: bool = False,
    dims: int = 2,
    identity_init: bool | None = None,
    **genes_and_flags: Any,
) -> nn.Module:
    """Build an attention module by the name of its type or of a mix `A+B`: (B, C, H, W) -> (B, C, H, W).

    Args:
        name: one of `list_attentions()`, or two of them joined by "+".
        channels: C of the maps it will see; H and W are free.
        identity_start: start as the exact identity, `x + g * (f(x) - x)` with a learnable g = 0.
        dims: 3 for volumes (B, C, D, H, W), where the type allows it.
        identity_init: deprecated; the former name of `identity_start`.
        genes_and_flags: the genes of the type by name (`reduction`, `kernel`, `groups`, `arrangement` ...), where None is the
            published default; and variants found in published code, see `attention_type(name).flags`.

    Raises:
        UsageError: an unknown type or flag, a gene the type does not have, a value that cannot be built.
    """
    identity_start = renamed("identity_init", identity_init, "identity_start", identity_start)
    entry = attention_type(name)
    genes = {key: value for key, value in genes_and_flags.items() if key in BY_NAME}
    flags = {key: value for key, value in genes_and_flags.items() if key not in BY_NAME}
    entry.check(channels, dims=dims, **genes)
    for flag, value in flags.items():
        if flag not in entry.flags:
            raise UsageError(f"{name} has no flag {shortened(flag)}; its flags: {', '.join(entry.flags) or 'none'}")
        if value not in entry.flags[flag]:
            raise UsageError(f"{flag}={shortened(value)} of {name}; valid: {', '.join(map(str, entry.flags[flag]))}")
    return entry.build(channels, dims=dims, identity_start=identity_start, flags=flags, **genes)
