"""What the command line prints for people: tables on stdout, remarks on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.objectives import OBJECTIVES
from spaces.written import placements_of

if TYPE_CHECKING:
    from evaluators.cost import Cost
    from evaluators.metric import Metric
    from search.problem import Problem
    from spaces.network import NetworkSpec

SHOWN = ("flops", "params")  # costs of a printed front; those that are only measured are shown where they were
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan", "bright_magenta", "bright_green")


def print_front(rows: Sequence[Mapping[str, Any]], metric: Metric, title: str) -> None:
    """The recommended front of a run, numbers and below them the architecture, in 80 columns."""
    measured = [name for name, objective in OBJECTIVES.items() if not objective.counted]
    costs = [*SHOWN, *(name for name in measured if any(row.get(name) is not None for row in rows))]
    searched, again = f"search_{metric.name}", f"fresh_{metric.name}"
    fresh = any(row["fresh_seeds"] for row in rows)
    names = [OBJECTIVES[cost].label.partition(",")[0] for cost in costs]
    lines = [[*names, f"expected {metric.name}", "in the search", *(["mean of fresh seeds"] if fresh else [])]]
    for row in rows:
        interval = metric.interval(row["expected_low"], row["expected_high"])
        confirmed = f"{metric.told(row[again])} ({row['fresh_seeds']})" if row["fresh_seeds"] else "-"
        lines.append(
            [
                *(OBJECTIVES[cost].unit.brief(row[cost]) for cost in costs),
                f"{metric.told(row['expected'])} ({interval})",
                metric.told(row[searched]) if row[searched] is not None else "-",
                *([confirmed] if fresh else []),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    console = Console()
    console.print(title, style="italic", markup=False, highlight=False, soft_wrap=True)
    for number, line in enumerate(lines):
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        console.print(numbers, style="" if number else "bold", markup=False, highlight=False, soft_wrap=True)
        if number:
            console.print(Text("    ").append(strip(rows[number - 1]["architecture"])), soft_wrap=True)
    print(
        "expected: the posterior's mean (95 % interval) from everything that was trained,\n"
        "by which export and the report choose; in the search: its own raw score"
        + ("; fresh\nseeds: their mean (how many)" if fresh else ""),
        file=sys.stderr,
    )


def strip(text: str) -> Text:
    """An architecture as its canonical text, each type of attention in its colour; a line can be broken between stages."""
    head, colon, _ = text.rpartition(":")
    found = Text(head + colon)
    for number, placement in enumerate(placements_of(text)):
        style = "dim" if placement.is_none else COLOURS[crc32(placement.type.encode()) % len(COLOURS)]
        found.append("," if number else "").append(str(placement), style)
    return found


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
    """One of the lists of what can be named: a table where it fits the terminal, else each row in lines of its own."""
    console = Console()
    cells = [[_cell(value) for value in row.values()] for row in rows]
    names = list(rows[0])
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    if sum(widths) + 2 * len(names) <= console.width:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in names:
            table.add_column(name, overflow="fold")
        for line in cells:
            table.add_row(*map(Text, line))
        console.print(table)
        return
    for line in cells:
        console.print(Text(line[0], "bold"))
        rest = Table.grid(padding=(0, 1))
        rest.add_column(style="dim", no_wrap=True, min_width=max(map(len, names)) + 2, justify="right")
        rest.add_column(overflow="fold", ratio=1)
        for name, cell in zip(names[1:], line[1:], strict=True):
            if cell:
                rest.add_row(Text(name), Text(cell))
        console.print(rest)


def _cell(value: Any) -> str:
    """A value of a list in words; Python's own braces and quotes are for programs."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_cell(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return "" if value is None else str(value)


def print_findings(groups: Mapping[str, Sequence[str]]) -> None:
    """Sentences under their headings on stderr, with bullets and wrapped at words."""
    console = Console(stderr=True)
    for heading, sentences in groups.items():
        if sentences:
            console.print(Text(heading, "bold"))
        for sentence in sentences:
            line = Table.grid(padding=(0, 1, 0, 0))
            line.add_column(no_wrap=True)
            line.add_column(overflow="fold")
            line.add_row("-", Text(sentence.replace(" %", "\u00a0%")))
            console.print(line)
