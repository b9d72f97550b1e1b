"""Figures (PNG, SVG) and tables (CSV, Markdown, LaTeX) for papers, written beside the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluators.metric import Metric
from search.analysis.attribution import Attribution
from search.analysis.classes import class_table
from search.results import Results
from spaces import Architecture

SIZE = (5.2, 3.6)  # inches: one column of a paper
_LATEX = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
_LATEX |= {"^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


def write_papers(results: Results, attribution: Attribution, progress: Mapping[str, Sequence[float]]) -> None:
    """``figures/{front,gains,hypervolume}.{png,svg}`` and ``tables/{front,classes}.{csv,md,tex}`` in the run directory.

    There is no table of classes where the run knows of none.
    """
    figures, tables = results.folder / "figures", results.folder / "tables"
    figures.mkdir(exist_ok=True)
    tables.mkdir(exist_ok=True)
    drawn = {"front": front_figure(results), "hypervolume": progress_figure(progress)}
    if len(attribution.effects):
        drawn["gains"] = gains_figure(attribution.effects, results.metric)
    for name, figure in drawn.items():
        FigureCanvasAgg(figure)
        figure.savefig(figures / f"{name}.png", dpi=200)
        figure.savefig(figures / f"{name}.svg")
    for name, table in (("front", paper_table(results)), ("classes", class_table(results).round(4))):
        if len(table):
            table.to_csv(tables / f"{name}.csv", index=False)
            (tables / f"{name}.md").write_text(markdown(table))
            (tables / f"{name}.tex").write_text(latex(table))


def front_figure(results: Results) -> Figure:
    """The metric against the first cost: every architecture, the front, and fresh seeds with their intervals."""
    cost, name = results.config.search.costs[0], results.metric.name
    summary, front, table = results.summary, results.front, results.confirmed
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot(xlabel=cost, ylabel=f"validation {name}")
    axes.plot(summary[cost], summary[name], ".", color="0.7", label="evaluated", rasterized=True)
    axes.step(front[cost], front[name], where="post", color="tab:blue", marker="o", ms=4, label="front of the search")
    for role, marker, color in (
        ("searched", "D", "tab:green"),
        ("uniform", "s", "tab:red"),
        ("random", "^", "tab:orange"),
        ("plain", "x", "black"),
    ):
        rows = table[table["role"] == role]
        if len(rows):
            spread = np.abs(rows[["low", "high"]].to_numpy() - rows[[name]].to_numpy()).T
            axes.errorbar(rows[cost], rows[name], spread, fmt=marker, ms=4, color=color, lw=1, label=f"{role}, fresh")
    axes.legend(fontsize="x-small")
    return figure


def gains_figure(effects: pd.DataFrame, metric: Metric) -> Figure:
    """Gain of every type at every stage."""
    grid = metric.scale * effects.pivot(index="type", columns="stage", values="gain")
    figure = Figure(figsize=(SIZE[0], 1 + 0.28 * len(grid)), layout="constrained")
    axes = figure.add_subplot(xlabel="stage")
    reach = float(np.nanmax(np.abs(grid.to_numpy())))
    image = axes.imshow(grid, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    axes.set_xticks(range(grid.shape[1]), [str(stage) for stage in grid.columns])
    axes.set_yticks(range(len(grid)), [str(name) for name in grid.index])
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        if np.isfinite(value):
            axes.text(column, row, f"{value:+.1f}", ha="center", va="center", fontsize="small")
    figure.colorbar(image, label=f"{metric.step} of {metric.name}")
    return figure


def progress_figure(progress: Mapping[str, Sequence[float]]) -> Figure:
    """The share of the final hypervolume over evaluations."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot(xlabel="evaluations", ylabel="share of the final hypervolume")
    axes.step(progress["count"], progress["share"], where="post")
    return figure


def paper_table(results: Results) -> pd.DataFrame:
    """The front of the search by rising cost with fresh means and test scores where they are known, the plain one too."""
    name = results.metric.name
    table = results.confirmed.set_index("architecture")
    plain = str(Architecture.plain(results.config.space.backbone))
    rows = results.summary[results.summary["architecture"].isin({*results.front["architecture"], plain})]
    frame = rows[["architecture", "flops", "macs", "params"]].assign(search=rows[name].round(4))
    if len(table):
        for column in (name, "low", "high", "p_front", f"test_{name}"):
            frame[column] = frame["architecture"].map(table[column]).round(4)
        frame = frame.rename(columns={name: "fresh"})
    return frame.dropna(axis=1, how="all")


def markdown(table: pd.DataFrame) -> str:
    lines = [
        table.columns.tolist(),
        ["---"] * len(table.columns),
        *(map(_shown, row) for row in table.to_numpy(object)),
    ]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def latex(table: pd.DataFrame) -> str:
    """A tabular that needs booktabs."""
    body = [" & ".join(_escaped(_shown(cell)) for cell in row) + r" \\" for row in table.to_numpy(object)]
    head = " & ".join(_escaped(str(name)) for name in table.columns) + r" \\"
    columns = "l" + "r" * (len(table.columns) - 1)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _shown(value: Any) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
