"""What a type of attention is made of: its parts, their genes, its closed forms.

A type is one part, or a channel part and a spatial part with a fusion rule. This file is the one place where genes are
resolved, so that what `params` counts, what `effective` compares and what `build` makes cannot differ.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import nn

from spaces.attention.genes import BY_NAME, Value
from spaces.attention.parts import IdentityStart, ParallelSum, Series
from spaces.errors import UsageError, shortened, unknown

# The two genes that no part is built with: of r a part sees the hidden width, and the arrangement is the type's.
REDUCTION, ARRANGEMENT = "reduction", "arrangement"
BUILT_WITH = tuple(name for name in BY_NAME if name not in (REDUCTION, ARRANGEMENT))

Default = Value | Callable[[int], int]  # of a gene: a value, or a rule over the channels


def hidden_width(channels: int, reduction: int) -> int:
    """h = C // r, never below 1: the floor of every type that publishes none (Coordinate: at least 8)."""
    return max(1, channels // reduction)


@dataclass(frozen=True)
class Sizes:
    """What one part is built with at C channels: the hidden width h, and each gene of the part by its name (``s.kernel``).

    ``hidden`` is 0 where the part has no reduction. ``values`` holds the genes but the reduction, which acts through h.
    """

    channels: int
    hidden: int
    values: Mapping[str, Value]
    dims: int = 2

    def __getattr__(self, gene: str) -> Any:
        values = vars(self).get("values", {})  # empty while a copy is being made
        if gene in values:
            return values[gene]
        raise AttributeError(f"this part is not built with {gene!r}; it is with {', '.join(values) or 'no gene'}")


@dataclass(frozen=True)
class Fit:
    """When a number fits the sizes of a part: in words (``rule``), and ``refusal(C, h, value)``, "" where it does."""

    rule: str
    refusal: Callable[[int, int, int], str]


@dataclass(frozen=True)
class Part:
    """One part of a type: how to build and count it, and its genes. Made by `part`, which says what the fields are."""

    id: str
    role: str
    build: Callable[..., nn.Module]
    params: Callable[[Sizes], int]
    genes: Mapping[str, Default] = field(default_factory=dict, hash=False)
    hidden: Callable[[int, int], int] = hidden_width
    only: Mapping[str, tuple[Value, ...]] = field(default_factory=dict, hash=False)
    fits: Mapping[str, Fit] = field(default_factory=dict, hash=False)
    flags: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False)
    dims: tuple[int, ...] = (2,)
    zero_init: bool = False
    gated: bool = True
    formula: str = ""

    def with_genes(self, **defaults: Default) -> "Part":
        """The same part with other published defaults."""
        return replace(self, genes={**self.genes, **defaults})

    def default(self, gene: str, channels: int) -> Value:
        """The published value at C channels, where that is a rule by applying it."""
        default = self.genes[gene]
        return default(channels) if callable(default) else default

    def sizes(self, channels: int, genes: Mapping[str, Value], dims: int = 2) -> Sizes:
        """What is built with these values, and with the defaults of the genes that are not given."""
        values = {gene: genes[gene] if gene in genes else self.default(gene, channels) for gene in self.genes}
        hidden = self.hidden(channels, int(values.pop(REDUCTION))) if REDUCTION in values else 0
        return Sizes(channels, hidden, values, dims)


def part(
    id: str,
    role: str,
    build: Callable[..., nn.Module],
    params: Callable[[Sizes], int],
    *,
    hidden: Callable[[int, int], int] = hidden_width,
    only: Mapping[str, tuple[Value, ...]] | None = None,
    fits: Mapping[str, Fit] | None = None,
    flags: Mapping[str, tuple[Any, ...]] | None = None,
    dims: tuple[int, ...] = (2,),
    zero_init: bool = False,
    gated: bool = True,
    formula: str = "",
    **genes: Default,
) -> Part:
    """One part of an attention type, with its genes by name and their published defaults: ``reduction=16, kernel=7``.

    A default that is a function of C is a rule (ECA's kernel). A gene that is not given is one that the part does not have.

    Args:
        id: a name of its own; parts with the same id and the same sizes are the same module.
        role: "channel", "spatial", or "whole" for a type that cannot be taken apart.
        build: the module for given `Sizes`, and for one value of each flag by keyword.
        params: the number of its parameters, with the default of each flag.
        hidden: the hidden width h of C and r.
        only: the values of a gene, where there are no others.
        fits: for a gene of numbers, when a number fits C and h.
        flags: variants that published code has and that are no genes, name -> valid values, the default first.
        dims: 2 for maps, 3 for volumes.
        zero_init: the published initialisation makes the part the identity; `build` then takes `zero_init=False` too.
        gated: False for a part that adds to x instead of gating it (DANet).
        formula: the number of parameters in words, in C, h, k and g.

    Raises:
        UsageError: a gene that the table of genes does not hold.
    """
    for gene in genes:
        if gene not in BY_NAME or gene == ARRANGEMENT:
            raise unknown("gene of a part", gene, [name for name in BY_NAME if name != ARRANGEMENT])
    return Part(
        id, role, build, params, genes, hidden, only or {}, fits or {}, flags or {}, dims, zero_init, gated, formula
    )


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

    Genes are passed by keyword; None stands for the published default. In two-part types a shared gene (the reduction) goes
    to every part that has it. Any other gene goes to the spatial part when that has it, else to the channel part; AAM's
    channel kernel therefore keeps ECA's rule. `equation` is what the type computes, in its default arrangement, and
    `formula` the number of its parameters; `use` says when it is worth a try. In parallel the fusion is that of the type, and
    in a mix A+B that of B, BAM's and GALA's own rules where both parts are gates, else the sum of the two gated maps.
    """

    name: str
    members: tuple[Part, ...]
    paper: str
    formula: str
    arrangement: str | None = None
    fusion: Fusion = SUM
    ignored: tuple[str, ...] = ()
    equation: str = ""
    use: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """("channel",), ("spatial",), ("channel", "spatial") or ("whole",)."""
        return tuple(member.role for member in self.members)

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """The genes that change what is built, in the order of the text form."""
        two = len(self.members) == 2
        return tuple(name for name in BY_NAME if name in self._owners or (name == ARRANGEMENT and two))

    @property
    def dims(self) -> tuple[int, ...]:
        """(2,) for maps only, (2, 3) when volumes work too."""
        return tuple(dims for dims in (2, 3) if all(dims in member.dims for member in self.members))

    @property
    def flags(self) -> dict[str, tuple[Any, ...]]:
        """Variants of published code that `create_attention` takes by keyword: name -> valid values, default first."""
        merged: dict[str, tuple[Any, ...]] = {}
        for member in self.members:
            merged |= member.flags
        return merged | (dict(self.fusion.flags) if len(self.members) == 2 else {})

    @cached_property
    def outside(self) -> bool:
        """Whether code from outside of `spaces` builds it, so that nothing kept on disk can know what that code is."""
        return any(module.partition(".")[0] != __name__.partition(".")[0] for module in self.modules)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """The Python modules that the functions which build it are written in."""
        builders = [member.build for member in self.members]
        builders += [self.fusion.build] if len(self.members) == 2 else []
        return tuple(dict.fromkeys(_module(build) for build in builders))

    @cached_property
    def _owners(self) -> dict[str, tuple[Part, ...]]:
        """The parts that each gene's value goes to."""
        having = {name: tuple(member for member in self.members if name in member.genes) for name in BY_NAME}
        return {name: owners if BY_NAME[name].shared else owners[-1:] for name, owners in having.items() if owners}

    def default(self, gene: str) -> Value | None:
        """The published default; None when it depends on C (ECA's kernel), see `resolve`."""
        self._require(gene, None)
        default = self.arrangement if gene == ARRANGEMENT else self._owners[gene][0].genes[gene]
        return None if callable(default) else default

    def valid(self, gene: str, channels: int) -> tuple[Any, ...]:
        """Sensible values at C channels: each passes `check` beside the other defaults, no two build the same."""
        self._require(gene, None)
        usual = self._only(gene) or BY_NAME[gene].usual
        if not BY_NAME[gene].letter:
            return usual
        values: dict[tuple[Any, ...], int] = {}
        for value in (self.resolve(channels)[gene], *usual):
            try:
                self.check(channels, **{gene: value})
            except UsageError:
                continue
            values.setdefault(self.effective(channels, **{gene: value}), value)
        return tuple(sorted(values.values()))

    def check_value(self, gene: str, value: object) -> None:
        """Raise UsageError for a value of a gene that the type cannot have, whatever the channels."""
        only = self._only(gene)
        if only and value not in only:
            raise UsageError(f"{gene} {shortened(value)} of {self.name}: valid are {', '.join(map(str, only))}")
        BY_NAME[gene].check(value, self.name)

    def check(self, channels: int, *, dims: int = 2, **genes: Value | None) -> None:
        """Raise UsageError for a gene that the type does not have or a value that cannot be built at C channels.

        ``dims``: 3 for clips; a type that knows maps only is refused there.
        """
        if dims not in self.dims:
            raise UsageError(f"dims={shortened(dims)} of {self.name}; valid: {', '.join(map(str, self.dims))}")
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise UsageError(f"channels must be a whole number of at least 1, not {shortened(channels)}")
        for gene, value in genes.items():
            if value is not None:
                self._require(gene, value)
                self.check_value(gene, value)
        for member, sizes in self._built(channels, genes):
            for gene, fit in member.fits.items():
                if reason := fit.refusal(channels, sizes.hidden, int(sizes.values[gene])):
                    fitting = [n for n in range(1, channels + 1) if not fit.refusal(channels, sizes.hidden, n)]
                    valid = f"valid: {', '.join(map(str, fitting))}" if fitting else "none fits"
                    raise UsageError(
                        f"{gene} {sizes.values[gene]} of {self.name} at {channels} channels: {reason}; {valid}"
                    )

    def resolve(self, channels: int, **genes: Any) -> dict[str, Any]:
        """Every gene of the type spelled out: the given value, else the default, adaptive rules applied at C."""
        spelled: dict[str, Any] = {}
        for gene in self.genes:
            if genes.get(gene) is not None:
                spelled[gene] = genes[gene]
            elif gene == ARRANGEMENT:
                spelled[gene] = self.arrangement
            else:
                spelled[gene] = self._owners[gene][0].default(gene, channels)
        return spelled

    def effective(self, channels: int, **genes: Any) -> tuple[Any, ...]:
        """What is really built at C channels, hashable: equal exactly when the networks are the same.

        For each part its id, its hidden width and the other genes, 0 where it has none; then what two parts are joined by.
        """
        built = tuple(
            (member.id, sizes.hidden, *(sizes.values.get(gene, 0) for gene in BUILT_WITH))
            for member, sizes in self._built(channels, genes)
        )
        if len(self.members) == 1:
            return built
        arrangement = genes.get(ARRANGEMENT) or self.arrangement
        return (*built, self.fusion.id if arrangement == "parallel" else arrangement)

    def params(self, channels: int, *, dims: int = 2, **genes: Any) -> int:
        """Parameters in closed form (with default flags and without the scalar of an identity start)."""
        total = sum(member.params(sizes) for member, sizes in self._built(channels, genes, dims))
        parallel = len(self.members) == 2 and (genes.get(ARRANGEMENT) or self.arrangement) == "parallel"
        return total + (self.fusion.params(channels) if parallel else 0)

    def build(
        self, channels: int, *, dims: int = 2, identity_start: bool = False, flags: Mapping[str, Any], **genes: Any
    ) -> nn.Module:
        """The module; use `create_attention`, which checks what it is given."""

        def chosen(declared: Mapping[str, Any]) -> dict[str, Any]:
            return {name: flags.get(name, values[0]) for name, values in declared.items()}

        modules = []
        for member, sizes in self._built(channels, genes, dims):
            extra = {"zero_init": not identity_start} if member.zero_init else {}
            modules.append(member.build(sizes, **chosen(member.flags), **extra))
        if len(modules) == 1:
            module = modules[0]
        elif (genes.get(ARRANGEMENT) or self.arrangement) == "series":
            module = Series(*modules)
        else:
            module = self.fusion.build(*modules, channels, **chosen(self.fusion.flags))
        return IdentityStart(module) if identity_start else module

    def to_dict(self) -> dict[str, Any]:
        """The facts about the type in JSON's own types."""
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

    def _only(self, gene: str) -> tuple[Value, ...]:
        """The values of a gene where its part has no others, else none."""
        return next((owner.only[gene] for owner in self._owners.get(gene, ()) if gene in owner.only), ())

    def _rule(self, gene: str) -> str:
        """The valid values of a gene in words; `valid` lists the usual ones of them at C channels."""
        only = self._only(gene)
        usual = ", ".join(map(str, only or BY_NAME[gene].usual))
        if only or not BY_NAME[gene].letter:
            return usual
        fits = [owner.fits[gene].rule for owner in self._owners[gene] if gene in owner.fits]
        return f"{', '.join(fits) or BY_NAME[gene].rule}; usual: {usual}"

    def _built(self, channels: int, genes: Mapping[str, Any], dims: int = 2) -> tuple[tuple[Part, Sizes], ...]:
        """Every part with the sizes that the genes give it."""
        spelled = self.resolve(channels, **genes)
        built = []
        for member in self.members:
            own = {gene: spelled[gene] for gene, owners in self._owners.items() if member in owners}
            built.append((member, member.sizes(channels, own, dims)))
        return tuple(built)

    def _require(self, gene: str, value: object) -> None:
        """Refuse a gene that the type neither has nor, as a mix, tolerates."""
        if gene in self.genes or (value is not None and gene in self.ignored):
            return
        given = gene if value is None else f"{gene}={value}"
        raise UsageError(f"{self.name} has no gene {given}; its genes: {', '.join(self.genes) or 'none'}")


def _module(build: Callable[..., nn.Module]) -> str:
    """The module that a builder is written in."""
    while isinstance(build, functools.partial):
        build = build.func
    return build.__module__
