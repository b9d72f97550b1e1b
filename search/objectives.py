"""What a search minimises besides its task's metric, one ``Objective`` each.

Fronts, budgets, samplers, reports, export limits and the command line read the registry. An objective is known before training
and additive: the plain network's, plus what each stage's placement adds. A new one is one value more in this file, or
``register_objective`` in a plug-in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from spaces.errors import UsageError, shortened, unknown
from spaces.plugins import Registry

if TYPE_CHECKING:
    from search.tables import Costing, Table

_DECIMAL = r"([0-9]{1,18}(?:\.[0-9]{0,18})?"  # more digits than any cost has, and few enough to compute with
_RELATIVE = re.compile(_DECIMAL + r")x")  # 310X is more likely a slip for 310M than 310 times the backbone
_NUMBER = re.compile(_DECIMAL + r"(?:e\+?[0-9]{1,2})?) ?([a-z]*)", re.IGNORECASE)
MOST = 2**62  # costs are added up as 64-bit integers


@dataclass(frozen=True)
class Unit:
    """How amounts are written: suffixes with their factors, ``show`` for tables, and ``brief`` for sentences.

    ``examples`` are shown where an amount cannot be read. ``axis``: what an amount is divided by on the axis of a chart.
    """

    factors: Mapping[str, int]
    examples: str
    show: Callable[[float], str]
    brief: Callable[[float], str]
    axis: float = 1.0

    def read(self, text: str) -> int | None:
        """A whole number, rounded down without the error of binary fractions; None for what is no amount."""
        found = _NUMBER.fullmatch(text)
        if not found or found[2].lower() not in self.factors:
            return None
        return _floor(found[1], self.factors[found[2].lower()])


def human(value: float) -> str:
    """312000000 -> 312M."""
    for suffix, unit in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= unit:
            return f"{value / unit:.4g}{suffix}"
    return f"{value:.0f}"


COUNT = Unit(
    {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12},
    "310M, 3.1e8, 310000000",
    lambda value: f"{value:,.0f}",
    human,
)
TIME = Unit(
    {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9},
    "12ms, 800us, 0.5s",
    lambda value: f"{value / 10**6:.3f} ms",
    lambda value: f"{value / 10**6:.4g}ms",
    axis=1e6,
)
BYTES = Unit(
    {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9},
    "4MB, 800kB, 3100000",
    lambda value: f"{value:,.0f} B",
    lambda value: f"{human(value)}B",
)


@dataclass(frozen=True)
class Objective:
    """A cost that is known before training; less is better.

    ``tabulate`` makes the additive table that holds it in a column of its name; objectives of one table share the function.
    ``counted``: it costs nothing to know, so every run has it.
    """

    name: str
    what: str
    unit: Unit
    tabulate: Callable[[Costing], Table]
    counted: bool = False
    title: str = ""

    @property
    def label(self) -> str:
        """What it is called on axes and in tables: ``title``, else its name."""
        return self.title or self.name

    def parse(self, limit: object, reference: float | None) -> int:
        """An upper limit such as ``310M`` or, relative to the reference, ``1.05x``; raises UsageError for what is none."""
        text = _written(limit)
        if relative := _RELATIVE.fullmatch(text):
            if reference is None:
                raise UsageError(
                    f"budget {self.name}: {shortened(limit)} is relative, but the plain backbone's {self.name} is not known"
                )
            amount: int | None = _floor(relative[1], int(reference))
        else:
            amount = self.unit.read(text)
        if amount is None:
            raise UsageError(
                f"budget {self.name}: cannot read {shortened(limit)}; valid: {self.unit.examples} or 1.05x"
            )
        if not 0 < amount <= MOST:
            what = "nothing" if amount <= 0 else "too much"
            raise UsageError(f"budget {self.name}: {shortened(limit)} is {what}; valid: {self.unit.examples} or 1.05x")
        return amount


def _written(limit: object) -> str:
    """A limit as text; empty for what is none."""
    if isinstance(limit, int) and not isinstance(limit, bool) and abs(limit) > MOST:
        return "1e99"  # its digits are too many to write
    if isinstance(limit, bool) or not isinstance(limit, int | float | str):
        return ""
    return str(limit).strip().replace("_", "")[:80]


def _floor(decimal: str, factor: int) -> int:
    """decimal * factor rounded down."""
    return int(Fraction(decimal.rstrip(".")) * factor)


# --- the objectives ---------------------------------------------------------------------------------------------------
# Counting and measuring need torch and timm; whoever only reads a run does without.


def _count(costing: Costing) -> Table:
    from search import tables

    return tables.count(costing)


def _measure_latency(costing: Costing) -> Table:
    from search import tables

    return tables.measure_latency(costing)


OBJECTIVES: Registry[Objective] = Registry("objective")


def register_objective(objective: Objective) -> Objective:
    """Let searches name an objective; raises ValueError where its name is taken."""
    return OBJECTIVES.register(objective.name, objective)


register_objective(Objective("flops", "fvcore's FLOPs: one fused multiply-add is one", COUNT, _count, True, "FLOPs"))
register_objective(Objective("macs", "multiply-adds of convolutions and matrix products", COUNT, _count, True, "MACs"))
register_objective(Objective("params", "learnable parameters", COUNT, _count, True, "parameters"))
register_objective(
    Objective("activations", "elements that convolutions and products put out", COUNT, _count, counted=True)
)
register_objective(
    Objective(
        "latency", "time of a batch, estimated from measurements here", TIME, _measure_latency, title="latency, ms"
    )
)


def list_objectives() -> list[dict[str, str]]:
    """The objectives by name: what each is, and how a limit on it is written."""
    return [
        {"name": name, "what": objective.what, "limits": f"{objective.unit.examples}, 1.05x"}
        for name, objective in OBJECTIVES.items()
    ]


def parse_limits(limits: Mapping[str, Any], reference: Mapping[str, float]) -> dict[str, int]:
    """Read limits such as ``{"flops": "310M", "latency": "12ms", "params": "1.05x"}``: objective -> integer.

    ``reference`` holds the plain backbone's costs, as far as they are known.
    Raises UsageError for an unknown objective, or a limit that cannot be read.
    """
    for name in limits:
        if name not in OBJECTIVES:
            raise unknown("budget metric", name, OBJECTIVES)
    return {name: OBJECTIVES[name].parse(limit, reference.get(name)) for name, limit in limits.items()}
