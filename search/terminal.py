"""What the command line prints for people: tables on stdout, remarks on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.objectives import OBJECTIVES

if TYPE_CHECKING:
    from evaluators.cost import Cost
    from search.problem import Problem
    from spaces.network import NetworkSpec

SHOWN = ("flops", "params")  # costs of a printed front; those that are only measured are shown where they were


def print_front(rows: Sequence[Mapping[str, Any]], metric: str, title: str) -> None:
    """The front of a run, a line for each architecture."""
    others = [name for name, objective in OBJECTIVES.items() if not objective.counted]
    costs = [*SHOWN, *(name for name in others if any(row.get(name) is not None for row in rows))]
    table = Table(title=title, title_justify="left")
    for column in (metric, *costs, "architecture"):
        table.add_column(column, justify="left" if column == "architecture" else "right", overflow="fold")
    for row in rows:
        spread = f" ± {row[f'{metric}_std']:.4f}" if row[f"{metric}_std"] is not None else ""
        amounts = [OBJECTIVES[cost].unit.show(row[cost]) for cost in costs]
        table.add_row(f"{row[metric]:.4f}{spread}", *amounts, row["architecture"])
    Console().print(table)


def print_cost(costs: Cost, names: Sequence[str]) -> None:
    """What an architecture costs, stage by stage and whole; ``names`` of the stages, empty for those of the backbone."""
    table = Table(title=costs.architecture, title_justify="left")
    for column in ("", "params", "macs", "flops"):
        table.add_column(column, justify="left" if not column else "right")
    for number, (stage, name) in enumerate(zip(costs.stages, names, strict=True), start=1):
        called = f"stage {number} ({name})" if name else f"stage {number}"
        table.add_row(
            f"{called}: {stage.placement}", *(f"{value:,}" for value in (stage.params, stage.macs, stage.flops))
        )
    table.add_section()
    table.add_row("whole network", f"{costs.params:,}", f"{costs.macs:,}", f"{costs.flops:,}")
    Console().print(table)
    print(f"activations {costs.activations:,}")
    for op in costs.uncounted_ops:
        print(f"warning: {op} is not counted", file=sys.stderr)


def print_space(problem: Problem, source: str, network: NetworkSpec) -> None:
    """The choices of each stage, how many architectures they make, and between which costs these lie."""
    table = Table(title=f"{problem.space.backbone} in {source}", title_justify="left")
    for column in ("stage", "choices", "placements"):
        table.add_column(column, overflow="fold")
    for number, placements in enumerate(problem.space.choices, start=1):
        table.add_row(str(number), str(len(placements)), ", ".join(map(str, placements)))
    Console().print(table)
    print(network.describe_stem(problem.space.backbone))
    print(f"architectures {problem.space.size:,}, inside the budget {problem.feasible.count:,}")
    for name, costs in problem.ranges().items():
        show = OBJECTIVES[name].unit.show if name in OBJECTIVES else str
        plain, least, most = map(show, costs)
        limit = f", limit {show(problem.limits[name])}" if name in problem.limits else ""
        print(f"{name:<12} plain {plain}, from {least} to {most}{limit}")
    for name, measured in problem.kept.items():
        how = ", ".join(f"{key} {value}" for key, value in measured.get("setting", {}).items())
        print(f"{name:<12} estimated from networks measured on {measured.get('machine', 'this machine')} ({how})")


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """One of the lists of what can be named."""
    table = Table()
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = (", ".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in row.values())
        table.add_row(*map(escape, cells))
    Console().print(table)
