"""SearchSpace: the placements that each stage may get, and the arithmetic of architectures over them.

An architecture of a space is a vector of choice indices, one per stage (``indices_S``, integers); a set of them is a
matrix ``indices_NS``. Letters: N architectures, S stages, F features.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from spaces.attention import attention_type
from spaces.attention.genes import BY_NAME, GENES, Value
from spaces.backbone import Stage, describe_backbone
from spaces.errors import UsageError, unknown
from spaces.placement import BEYOND, NONE, SITES, Architecture, Placement, canonical, check_site

# What is asked for one after another: words first. Samplers and the parameters of studies depend on the order.
FIELDS = ("type", "site", *(gene.name for gene in sorted(GENES, key=lambda gene: gene.letter != "")))
_LABELS = {field: BY_NAME[field].label if field in BY_NAME else field for field in FIELDS}
_FIELD_OF = {label: field for field, label in _LABELS.items()}


class Suggests(Protocol):
    """The one method of ``optuna.Trial`` that a define-by-run suggestion needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class SearchSpace:
    """A backbone and, for each of its stages, the tuple of canonical placements to choose from.

    ``beyond``: the stages of the head, which follow those of the backbone and have choices too.
    """

    backbone: str
    choices: tuple[tuple[Placement, ...], ...]
    beyond: tuple[Stage, ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        stages = self.stages
        if len(self.choices) != len(stages):
            raise UsageError(
                f"{self.backbone} has {len(stages)} stages, the space gives choices for {len(self.choices)}"
            )
        found = []
        for stage, placements in zip(stages, self.choices, strict=True):
            if not placements:
                raise UsageError(f"a stage of {self.backbone} has no choice at all; give at least 'none'")
            found.append(tuple(dict.fromkeys(placement.at(stage) for placement in placements)))
        object.__setattr__(self, "choices", tuple(found))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the backbone, as it lies alone, then those of the head."""
        return (*describe_backbone(self.backbone).stages, *self.beyond)

    @classmethod
    def build(
        cls,
        backbone: str,
        attentions: Sequence[str],
        *,
        sites: Sequence[str] = ("slot",),
        stages: Mapping[int, Sequence[str]] | None = None,
        beyond: Sequence[Stage] = (),
        **genes: Sequence[Value] | None,
    ) -> SearchSpace:
        """Every combination of the given genes, for each type those that it has.

        ``attentions`` holds types (``cbam``, ``eca+cbam``, ``none``) and full placements (``se-r16@block``), which are
        taken as they stand. ``genes`` are lists of values by the plurals of the table (``reductions=[4, 16]``,
        ``kernels``, ``groups``, ``arrangements``); where one is left out, a type has its published default.
        Combinations that do not fit a stage's channels are left out. ``stages`` gives single stages (from 1) their own
        list of attentions. ``beyond``: the stages of the head, numbered on from the backbone's. They get attention where
        ``decoder`` is among the sites, or where ``stages`` names them; full placements go where their site is.

        Raises UsageError for an unknown type, gene, site or stage, and for a type of which nothing fits a stage.
        """
        for name in genes:
            if name not in (plurals := [gene.plural for gene in GENES]):
                raise unknown("list of genes", name, plurals)
        own = stages or {}
        found = (*describe_backbone(backbone).stages, *beyond)
        for number in own:
            if not 1 <= number <= len(found):
                raise UsageError(f"space.stages: {backbone} has stages 1 to {len(found)}, not {number}")
        values = {gene.name: genes.get(gene.plural) for gene in GENES}
        wanted = [*sites, *(name.partition("@")[2] for name in attentions)]
        if BEYOND in wanted and not beyond:
            raise UsageError(f"@{BEYOND} is a site of stages beyond the backbone's, and this task's network has none")
        choices = []
        for number, stage in enumerate(found, start=1):
            outside = number > len(found) - len(beyond)
            names = own.get(number) or _of_stage(attentions, outside)
            where = [site for site in sites if (site == BEYOND) == outside]
            if not where and number in own:
                where = [BEYOND if outside else SITES[0]]
            if not where:  # a head's stage that nobody asked for, or a backbone's where only the head's are wanted
                names = [name for name in names if name == "none" or _is_full(name)]
            expanded = itertools.chain.from_iterable(_expand(name, values, where, stage) for name in names)
            choices.append(tuple(expanded) or (NONE,))
        return cls(backbone, tuple(choices), tuple(beyond))

    # --- size, conversion ------------------------------------------------------------------------------------------

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of choices per stage."""
        return tuple(len(placements) for placements in self.choices)

    @property
    def size(self) -> int:
        """The number of architectures, exactly (a Python integer)."""
        return math.prod(self.sizes)

    def architecture(self, indices_S: Sequence[int] | np.ndarray) -> Architecture:
        placements = tuple(stage[int(i)] for stage, i in zip(self.choices, indices_S, strict=True))
        return Architecture(self.backbone, placements)

    def indices(self, architecture: Architecture) -> np.ndarray:
        """The choice indices of an architecture, shape (S,); raises UsageError where it is not in the space."""
        if architecture.backbone != self.backbone:
            raise UsageError(f"the space is over {self.backbone}, not {architecture.backbone}")
        found = []
        placements = canonical(architecture, self.stages)
        for number, (lookup, placement) in enumerate(zip(self._positions, placements, strict=True), start=1):
            if placement not in lookup:
                raise UsageError(f"placement '{placement}' is not among the space's choices for stage {number}")
            found.append(lookup[placement])
        return np.array(found)

    def __contains__(self, architecture: Architecture) -> bool:
        if architecture.backbone != self.backbone or len(architecture.placements) > len(self.choices):
            return False
        placements = canonical(architecture, self.stages)
        return all(placement in lookup for lookup, placement in zip(self._positions, placements, strict=True))

    @cached_property
    def _positions(self) -> tuple[dict[Placement, int], ...]:
        return tuple({placement: i for i, placement in enumerate(stage)} for stage in self.choices)

    # --- many at once ----------------------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n architectures, uniform and independent: indices_NS."""
        return np.stack([rng.integers(size, size=n) for size in self.sizes], axis=1)

    def all_indices(self) -> np.ndarray:
        """Every architecture of the space as indices_NS, in lexicographic order; mind ``size`` before you call it."""
        return np.indices(self.sizes).reshape(len(self.sizes), -1).T

    # --- features --------------------------------------------------------------------------------------------------

    def genes(self, indices_NS: np.ndarray) -> np.ndarray:
        """Gene codes, (N, S * F) integers: for each stage those of ``FIELDS``, F of them; -1 is 'has none'.

        Two architectures have an equal code in a column if and only if they have the same value of that gene.
        """
        return np.concatenate([codes[indices_NS[:, s]] for s, codes in enumerate(self._codes)], axis=1)

    @cached_property
    def _codes(self) -> tuple[np.ndarray, ...]:
        tables = []
        for stage in self._values:
            columns = []
            for values in stage.values():
                order = {value: code for code, value in enumerate(_ordered(values))}
                columns.append([order.get(value, -1) for value in values])
            tables.append(np.array(columns).T)
        return tuple(tables)

    # --- define by run ---------------------------------------------------------------------------------------------

    def suggest(self, trial: Suggests) -> np.ndarray:
        """Ask an Optuna trial for an architecture, gene by gene, each gene only where the type has it: indices_S.

        Parameters are called ``stage1.type``, ``stage1.r`` and so on. A gene that is open to some types only in part has
        its values in the name (``stage1.r{4,8}``), since Optuna wants one set of values per name.
        """
        return np.array([self._walk(stage, trial.suggest_categorical) for stage in range(len(self.choices))])

    def params(self, indices_S: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """The Optuna parameters whose suggestion gives this architecture."""
        params: dict[str, Any] = {}
        for stage, index in enumerate(indices_S):
            wanted = self.choices[stage][int(index)]

            def answer(name: str, values: Sequence[Any], wanted: Placement = wanted) -> Any:
                params[name] = _value(wanted, _field_of(name))
                return params[name]

            self._walk(stage, answer)
        return params

    def from_params(self, params: Mapping[str, Any]) -> np.ndarray:
        """The architecture of a set of Optuna parameters: indices_S; raises KeyError where one is missing."""
        return np.array([self._walk(stage, lambda name, _: params[name]) for stage in range(len(self.choices))])

    @cached_property
    def distributions(self) -> dict[str, tuple[Any, ...]]:
        """Every parameter name that can occur, with its values; which of them occur depends on the types."""
        found: dict[str, tuple[Any, ...]] = {}
        for stage, placements in enumerate(self.choices):
            for wanted in placements:

                def answer(name: str, values: Sequence[Any], wanted: Placement = wanted) -> Any:
                    found[name] = tuple(values)
                    return _value(wanted, _field_of(name))

                self._walk(stage, answer)
        return found

    def _walk(self, stage: int, answer: Any) -> int:
        """Narrow a stage's choices gene by gene with ``answer(name, values)`` until one is left; returns its index."""
        left = list(range(len(self.choices[stage])))
        for field in FIELDS:
            of = self._values[stage][field]
            values = _ordered(of[i] for i in left)
            if len(values) > 1:
                name = f"stage{stage + 1}.{_LABELS[field]}"
                if values != self._distinct[stage][field]:
                    name += "{" + ",".join(map(str, values)) + "}"
                value = answer(name, values)
                left = [i for i in left if of[i] == value]
        return left[0]

    @cached_property
    def _values(self) -> tuple[dict[str, list[Any]], ...]:
        """Per stage and field, the value of every choice."""
        return tuple({field: [_value(choice, field) for choice in stage] for field in FIELDS} for stage in self.choices)

    @cached_property
    def _distinct(self) -> tuple[dict[str, list[Any]], ...]:
        return tuple({field: _ordered(values) for field, values in stage.items()} for stage in self._values)


def _field_of(name: str) -> str:
    return _FIELD_OF[name.partition(".")[2].partition("{")[0]]


def _value(placement: Placement, field: str) -> Any:
    """A field's value; None where the type has no such gene, ``auto`` where its value follows a rule over the channels."""
    value = getattr(placement, field)
    if value is None and field in BY_NAME and BY_NAME[field].auto and not placement.is_none:
        return "auto" if field in attention_type(placement.type).genes else None
    return value


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Distinct values but None: numbers ascending, then words in the order they come."""
    distinct = [value for value in dict.fromkeys(values) if value is not None]
    numbers = sorted(value for value in distinct if isinstance(value, int))
    return numbers + [value for value in distinct if not isinstance(value, int)]


def _is_full(name: str) -> bool:
    """Whether an entry of ``attentions`` is a placement as it stands, and not a type."""
    return "-" in name or "@" in name


def _of_stage(names: Sequence[str], outside: bool) -> list[str]:
    """The entries of ``attentions`` for a stage of the backbone, or of the head: types, and placements at its sites."""
    return [name for name in names if not _is_full(name) or (name.partition("@")[2] == BEYOND) == outside]


def _expand(
    name: str, genes: Mapping[str, Sequence[Any] | None], sites: Sequence[str], stage: Stage
) -> list[Placement]:
    """All placements of one entry of ``attentions`` that fit the stage."""
    if name == "none":
        return [NONE]
    if _is_full(name):
        return [Placement.parse(name).at(stage)]
    entry = attention_type(name)
    options = [values if values and gene in entry.genes else [None] for gene, values in genes.items()]
    sites = list(map(check_site, sites))
    fitting: list[Placement] = []
    refusal: UsageError | None = None
    for site in sites:
        for values in itertools.product(*options):
            try:
                fitting.append(Placement(name, **dict(zip(genes, values, strict=True)), site=site).at(stage))
            except UsageError as error:
                refusal = error
    if not fitting and refusal is not None:
        raise UsageError(f"no gene of {name!r} that the space lists fits a stage: {refusal}")
    return fitting
