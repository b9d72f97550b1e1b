"""The registry of attention types: what each is made of, its genes, its closed forms, and the factory by name.

A type is one part, or a channel part and a spatial part with a fusion rule; `A+B` mixes the channel part of A with the
spatial part of B. This file is the one place where genes are resolved, so that what `params` counts, what `effective`
compares and what `create_attention` builds cannot differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from torch import nn

from spaces.attention.parts import IdentityStart, ParallelSum, Series
from spaces.errors import UsageError, unknown

GENES = ("reduction", "kernel", "groups", "arrangement")
ARRANGEMENTS = ("series", "parallel")
REDUCTIONS = (2, 4, 8, 16, 32)
GROUPS = (1, 2, 4, 8, 16, 32, 64)


def hidden_width(channels: int, reduction: int) -> int:
    """h = C // r, never below 1: the floor of every type that publishes none (Coordinate: at least 8)."""
    return max(1, channels // reduction)


@dataclass(frozen=True)
class Sizes:
    """What one part is built with at C channels; None where the part has no such gene."""

    channels: int
    hidden: int
    kernel: int
    groups: int
    dims: int = 2


@dataclass(frozen=True)
class Part:
    """One part: how to build and count it, and its genes with their published defaults.

    A gene is absent when its default is None; a default that is a function of C is adaptive (ECA's kernel).
    `groups_fit` says why g groups do not fit (C, h), or "" when they do; `groups_rule` says when they do. `flags` are
    variants that published code has and that are no genes: name -> valid values, the default first. `zero_init` tells
    that the published initialisation makes the part the identity, and that `build` takes `zero_init=False` to start
    otherwise. `gated` is False for a part that adds to x instead of gating it (DANet).
    """

    id: str
    kind: str
    build: Callable[..., nn.Module]
    params: Callable[[Sizes], int]
    reduction: int | None = None
    hidden: Callable[[int, int], int] = hidden_width
    kernel: int | Callable[[int], int] | None = None
    kernels: tuple[int, ...] = (3, 5, 7, 9)
    kernels_only: bool = False
    groups: int | Callable[[int], int] | None = None
    groups_fit: Callable[[int, int, int], str] = lambda channels, hidden, groups: ""
    groups_rule: str = ""
    flags: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False)
    dims: tuple[int, ...] = (2,)
    zero_init: bool = False
    gated: bool = True
    formula: str = ""

    def has(self, gene: str) -> bool:
        return getattr(self, gene, None) is not None

    def sizes(self, channels: int, genes: Mapping[str, int | None], dims: int = 2) -> Sizes:
        """Gene values as built: None becomes the default, r becomes h after its floor, adaptive rules are applied."""

        def value(gene: str) -> int:
            given, default = genes.get(gene), getattr(self, gene)
            if default is None:
                return 0
            if given is not None:
                return given
            return int(default(channels) if callable(default) else default)

        hidden = self.hidden(channels, value("reduction")) if self.has("reduction") else 0
        return Sizes(channels, hidden, value("kernel"), value("groups"), dims)


@dataclass(frozen=True)
class Fusion:
    """How two parallel parts become one map: `build(channel, spatial, channels, **flags)` and its own parameters."""

    id: str
    build: Callable[..., nn.Module]
    params: Callable[[int], int] = lambda channels: 0
    flags: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False)
    formula: str = ""


SUM = Fusion("sum", lambda channel, spatial, channels: ParallelSum(channel, spatial))


@dataclass(frozen=True)
class AttentionType:
    """A type of attention or a mix of two: its parts, genes, valid values and closed forms.

    Genes are passed by keyword; None stands for the published default. In two-part types `reduction` goes to every
    part that has it, `kernel` and `groups` to the spatial part when that has one, else to the channel part (AAM's
    channel kernel therefore keeps ECA's adaptive rule). `equation` is what it computes, in its default arrangement,
    `formula` the number of its parameters. In parallel, the fusion is that of the type, and of B in a
    mix A+B: BAM's and GALA's own rules where both parts are gates, else the sum of the two gated maps.
    """

    name: str
    members: tuple[Part, ...]
    paper: str
    formula: str
    arrangement: str | None = None
    fusion: Fusion = SUM
    ignored: tuple[str, ...] = ()
    equation: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """("channel",), ("spatial",), ("channel", "spatial") or ("whole",)."""
        return tuple(part.kind for part in self.members)

    @property
    def genes(self) -> tuple[str, ...]:
        """The genes that change what is built, in the order of the text form."""
        return tuple(gene for gene in GENES if self._owners(gene) or (gene == "arrangement" and len(self.members) == 2))

    @property
    def dims(self) -> tuple[int, ...]:
        """(2,) for maps only, (2, 3) when volumes work too."""
        return tuple(dims for dims in (2, 3) if all(dims in part.dims for part in self.members))

    @property
    def flags(self) -> dict[str, tuple[Any, ...]]:
        """Variants of published code that `create_attention` takes by keyword: name -> valid values, default first."""
        merged: dict[str, tuple[Any, ...]] = {}
        for part in self.members:
            merged |= part.flags
        return merged | (dict(self.fusion.flags) if len(self.members) == 2 else {})

    def _owners(self, gene: str) -> tuple[Part, ...]:
        """The parts that a gene's value goes to."""
        owners = tuple(part for part in self.members if gene != "arrangement" and part.has(gene))
        return owners if gene == "reduction" else owners[-1:]

    def default(self, gene: str) -> int | str | None:
        """The published default; None when it depends on C (ECA's kernel), see `resolve`."""
        self._require(gene, None)
        if gene == "arrangement":
            return self.arrangement
        default = getattr(self._owners(gene)[0], gene)
        return None if callable(default) else default

    def valid(self, gene: str, channels: int) -> tuple[Any, ...]:
        """Sensible values at C channels: each passes `check` beside the other defaults, no two build the same."""
        self._require(gene, None)
        if gene == "arrangement":
            return ARRANGEMENTS
        owner = self._owners(gene)[0]
        default = self.resolve(channels)[gene]
        usual = {"reduction": REDUCTIONS, "kernel": owner.kernels, "groups": GROUPS}[gene]
        values: dict[tuple[Any, ...], int] = {}
        for value in (default, *usual):
            try:
                self.check(channels, **{gene: value})
            except UsageError:
                continue
            values.setdefault(self.effective(channels, **{gene: value}), value)
        return tuple(sorted(values.values()))

    def check(
        self,
        channels: int,
        *,
        reduction: int | None = None,
        kernel: int | None = None,
        groups: int | None = None,
        arrangement: str | None = None,
    ) -> None:
        """Raise UsageError for a gene that the type does not have or a value that cannot be built at C channels."""
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise UsageError(f"channels must be a whole number of at least 1, not {channels!r}")
        genes = {"reduction": reduction, "kernel": kernel, "groups": groups, "arrangement": arrangement}
        for gene, value in genes.items():
            if value is None:
                continue
            self._require(gene, value)
            if gene == "arrangement":
                if value not in ARRANGEMENTS:
                    raise unknown("arrangement", value, ARRANGEMENTS)
            elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{gene} of {self.name} must be a whole number of at least 1, not {value!r}")
        if kernel is not None and self._owners("kernel"):
            part = self._owners("kernel")[0]
            if part.kernels_only and kernel not in part.kernels:
                raise UsageError(f"kernel {kernel} of {self.name}: valid are {', '.join(map(str, part.kernels))}")
            if kernel % 2 == 0:
                raise UsageError(f"kernel {kernel} of {self.name} is even; valid are odd numbers such as 3, 5, 7")
        for part, sizes in self._built(channels, genes):
            if reason := (part.groups_fit(channels, sizes.hidden, sizes.groups) if part.has("groups") else ""):
                fits = [g for g in range(1, channels + 1) if not part.groups_fit(channels, sizes.hidden, g)]
                valid = f"valid: {', '.join(map(str, fits))}" if fits else "no group count fits"
                raise UsageError(f"groups {sizes.groups} of {self.name} at {channels} channels: {reason}; {valid}")

    def resolve(self, channels: int, **genes: Any) -> dict[str, Any]:
        """Every gene of the type spelled out: the given value, else the default, adaptive rules applied at C."""
        spelled: dict[str, Any] = {}
        for gene in self.genes:
            if genes.get(gene) is not None:
                spelled[gene] = genes[gene]
            elif gene == "arrangement":
                spelled[gene] = self.arrangement
            else:
                default = getattr(self._owners(gene)[0], gene)
                spelled[gene] = default(channels) if callable(default) else default
        return spelled

    def effective(self, channels: int, **genes: Any) -> tuple[Any, ...]:
        """What is really built at C channels, hashable: equal exactly when the networks are the same."""
        built = tuple((part.id, size.hidden, size.kernel, size.groups) for part, size in self._built(channels, genes))
        if len(self.members) == 1:
            return built
        arrangement = genes.get("arrangement") or self.arrangement
        return (*built, self.fusion.id if arrangement == "parallel" else arrangement)

    def params(self, channels: int, *, dims: int = 2, **genes: Any) -> int:
        """Parameters in closed form (with default flags and without the scalar of an identity start)."""
        total = sum(part.params(sizes) for part, sizes in self._built(channels, genes, dims))
        parallel = len(self.members) == 2 and (genes.get("arrangement") or self.arrangement) == "parallel"
        return total + (self.fusion.params(channels) if parallel else 0)

    def build(
        self, channels: int, *, dims: int = 2, identity_init: bool = False, flags: Mapping[str, Any], **genes: Any
    ) -> nn.Module:
        """The module; use `create_attention`, which checks what it is given."""

        def chosen(declared: Mapping[str, Any]) -> dict[str, Any]:
            return {name: flags.get(name, values[0]) for name, values in declared.items()}

        modules = []
        for part, sizes in self._built(channels, genes, dims):
            extra = {"zero_init": not identity_init} if part.zero_init else {}
            modules.append(part.build(sizes, **chosen(part.flags), **extra))
        if len(modules) == 1:
            module = modules[0]
        elif (genes.get("arrangement") or self.arrangement) == "series":
            module = Series(*modules)
        else:
            module = self.fusion.build(*modules, channels, **chosen(self.fusion.flags))
        return IdentityStart(module) if identity_init else module

    def to_dict(self) -> dict[str, Any]:
        """Everything about the type in JSON's own types."""
        genes = {}
        for gene in self.genes:
            default = self.default(gene)
            genes[gene] = {"default": "adaptive by C" if default is None else default, "valid": self._rule(gene)}
        return {
            "name": self.name,
            "formula": self.equation,
            "parts": list(self.parts),
            "genes": genes,
            "paper": self.paper,
            "parameters": self.formula,
            "dims": list(self.dims),
            "flags": {name: list(values) for name, values in self.flags.items()},
        }

    def _rule(self, gene: str) -> str:
        """The valid values of a gene in words; `valid` lists the usual ones of them at C channels."""
        if gene == "arrangement":
            return ", ".join(ARRANGEMENTS)
        part = self._owners(gene)[0]
        usual = ", ".join(map(str, {"reduction": REDUCTIONS, "kernel": part.kernels, "groups": GROUPS}[gene]))
        if gene == "kernel" and part.kernels_only:
            return usual
        every = {"reduction": "whole numbers from 1", "kernel": "odd numbers", "groups": part.groups_rule}[gene]
        return f"{every}; usual: {usual}"

    def _built(self, channels: int, genes: Mapping[str, Any], dims: int = 2) -> tuple[tuple[Part, Sizes], ...]:
        """Every part with the sizes that the genes give it."""
        spelled = self.resolve(channels, **genes)
        built = []
        for part in self.members:
            own = {gene: spelled[gene] for gene in self.genes if part in self._owners(gene)}
            built.append((part, part.sizes(channels, own, dims)))
        return tuple(built)

    def _require(self, gene: str, value: object) -> None:
        """Refuse a gene that the type neither has nor, as a mix, tolerates."""
        if gene in self.genes or (value is not None and gene in self.ignored):
            return
        given = gene if value is None else f"{gene}={value}"
        raise UsageError(f"{self.name} has no gene {given}; its genes: {', '.join(self.genes) or 'none'}")


_TYPES: dict[str, AttentionType] = {}


def register(*types: AttentionType) -> None:
    """Add types to the registry; a name can be taken once."""
    for kind in types:
        if kind.name in _TYPES:
            raise ValueError(f"attention type {kind.name!r} is registered already")
        _TYPES[kind.name] = kind


def list_attentions() -> list[str]:
    """The names of all types, sorted; any `A+B` of a type with a channel part and one with a spatial part works too."""
    return sorted(_TYPES)


@cache
def attention_type(name: str) -> AttentionType:
    """The type of that name, or the mix `A+B`. Raises UsageError with the valid names."""
    first, plus, second = name.partition("+")
    for part in (first, second) if plus else (first,):
        if part not in _TYPES:
            raise unknown("attention type", part, list_attentions())
    return _mix(_TYPES[first], _TYPES[second]) if plus else _TYPES[first]


def _mix(a: AttentionType, b: AttentionType) -> AttentionType:
    """The channel part of A with the spatial part of B, in series unless said otherwise."""

    def part(kind: AttentionType, wanted: str) -> Part:
        for member in kind.members:
            if member.kind == wanted:
                return member
        having = [name for name in list_attentions() if wanted in _TYPES[name].parts]
        raise UsageError(f"{kind.name} has no {wanted} part to mix; types with one: {', '.join(having)}")

    members = (part(a, "channel"), part(b, "spatial"))
    mixed = AttentionType(
        name=f"{a.name}+{b.name}",
        members=members,
        paper=f"channel part: {a.paper}; spatial part: {b.paper}",
        formula=" + ".join(member.formula for member in members),
        arrangement="series",
        fusion=b.fusion if all(member.gated for member in members) else SUM,
        equation=f"the channel part of {a.name}, the spatial part of {b.name}",
    )
    unused = tuple(gene for gene in GENES if gene in (*a.genes, *b.genes) and gene not in mixed.genes)
    return replace(mixed, ignored=unused)


def create_attention(
    name: str,
    channels: int,
    *,
    reduction: int | None = None,
    kernel: int | None = None,
    groups: int | None = None,
    arrangement: str | None = None,
    identity_init: bool = False,
    dims: int = 2,
    **flags: Any,
) -> nn.Module:
    """Build an attention module, (B, C, H, W) -> (B, C, H, W), by the name of its type or of a mix `A+B`.

    Args:
        name: one of `list_attentions()`, or two of them joined by "+".
        channels: C of the maps it will see; H and W are free.
        reduction, kernel, groups, arrangement: the genes; None is the published default.
        identity_init: start as the exact identity, `x + g * (f(x) - x)` with a learnable g = 0.
        dims: 3 for volumes (B, C, D, H, W), where the type allows it.
        flags: variants of the type found in published code, see `attention_type(name).flags`.

    Raises:
        UsageError: an unknown type or flag, a gene the type does not have, a value that cannot be built.
    """
    kind = attention_type(name)
    genes = {"reduction": reduction, "kernel": kernel, "groups": groups, "arrangement": arrangement}
    kind.check(channels, **genes)  # type: ignore[arg-type]
    if dims not in kind.dims:
        raise UsageError(f"dims={dims!r} of {name}; valid: {', '.join(map(str, kind.dims))}")
    for flag, value in flags.items():
        if flag not in kind.flags:
            raise UsageError(f"{name} has no flag {flag!r}; its flags: {', '.join(kind.flags) or 'none'}")
        if value not in kind.flags[flag]:
            raise UsageError(f"{flag}={value!r} of {name}; valid: {', '.join(map(str, kind.flags[flag]))}")
    return kind.build(channels, dims=dims, identity_init=identity_init, flags=flags, **genes)
