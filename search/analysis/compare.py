"""Several runs beside each other: fronts, hypervolume with one reference point, coverage, and a test over seeds."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from search.analysis.page import render_page
from search.front import ranked
from search.pareto import hypervolume
from search.results import Results
from search.statistics import coverage, permutation_test
from spaces.errors import UsageError


@dataclass(frozen=True)
class Comparison:
    """``runs``: one row per run; ``tests``: one per pair of settings; ``covers``: C(row, column); and what they say."""

    runs: pd.DataFrame
    covers: pd.DataFrame
    tests: pd.DataFrame
    sentences: tuple[str, ...]


def compare(runs: Sequence[Results]) -> Comparison:
    """Compare the fronts of the searches of runs on the same data with the same costs.

    Runs that differ in nothing but seed and name form one setting; two settings with two runs each or more are compared by
    a permutation test on their hypervolumes. Raises UsageError for runs on different data or with different costs.
    """
    first = runs[0]
    for other in runs[1:]:
        for what, mine, theirs in (
            ("data", first.config.data, other.config.data),
            ("metric", first.metric, other.metric),
            ("search.costs", first.config.search.costs, other.config.search.costs),
        ):
            if mine != theirs:
                raise UsageError(
                    f"{first.folder} and {other.folder} differ in {what} ({mine!r} and {theirs!r}): not comparable"
                )
    names = _names(runs)
    costs = list(first.config.search.costs)
    name, sign = first.metric.name, first.metric.sign

    def losses(rows: pd.DataFrame) -> np.ndarray:
        return np.column_stack([rows[costs].to_numpy(float), -sign * rows[name]])

    points = [losses(r.front) for r in runs]
    together = np.vstack([losses(r.summary) for r in runs])
    span = np.ptp(together, axis=0)
    reference = together.max(axis=0) + 0.01 * np.where(span > 0, span, 1.0)
    scale = np.where(span > 0, span, 1.0)
    volumes = [hypervolume(one / scale, reference / scale) for one in points]
    settings = _settings(runs)
    table = pd.DataFrame(
        {
            "run": names,
            "setting": settings,
            "evaluations": [len(r.searched) for r in runs],
            "front": [len(r.front) for r in runs],
            "best": [float(ranked(r.front, first.metric)[name].iloc[0]) for r in runs],
            "hypervolume": volumes,
        }
    )
    covers = pd.DataFrame([[coverage(a, b) for b in points] for a in points], index=names, columns=names)
    tests = _tests(table)
    return Comparison(table, covers, tests, _sentences(table, tests, name))


def comparison_page(runs: Sequence[Results], comparison: Comparison) -> str:
    """The comparison as HTML: the fronts in one chart, and the tables."""
    names = comparison.runs["run"].tolist()
    cost, metric = runs[0].config.search.costs[0], runs[0].metric
    traces = [
        {
            "name": html.escape(name),
            "x": r.front[cost].tolist(),
            "y": r.front[metric.name].tolist(),
            "text": [html.escape(text) for text in r.front["architecture"]],
            "mode": "lines+markers",
            "line": {"shape": "hv"},
            "hovertemplate": "%{text}<br>%{x:,}, %{y:.4f}<extra></extra>",
        }
        for name, r in zip(names, runs, strict=True)
    ]
    shape = {
        "margin": {"l": 60, "r": 15, "t": 30, "b": 55},
        "xaxis": {"title": {"text": cost}},
        "yaxis": {"title": {"text": f"validation {metric.name}"}},
        "legend": {"orientation": "h", "y": 1.15},
        "showlegend": True,
    }
    return render_page(
        "comparison.html.jinja",
        payload={"traces": traces, "layout": shape},
        sentences=comparison.sentences,
        rows=comparison.runs.to_dict("records"),
        names=names,
        covers=comparison.covers.to_numpy().tolist(),
    )


def _names(runs: Sequence[Results]) -> list[str]:
    """The folders' names, with their parents where these are not enough."""
    names = [r.folder.resolve().name for r in runs]
    return names if len(set(names)) == len(names) else [str(r.folder) for r in runs]


def _settings(runs: Sequence[Results]) -> list[str]:
    """A letter for each distinct configuration, seed and name left out."""
    contents = [json.dumps(r.config.model_dump(mode="json", exclude={"name", "seed"}), sort_keys=True) for r in runs]
    order = list(dict.fromkeys(contents))
    return [chr(ord("A") + order.index(one)) if len(order) <= 26 else f"S{order.index(one)}" for one in contents]


def _tests(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    groups = {str(name): group["hypervolume"].tolist() for name, group in table.groupby("setting")}
    for a, b in combinations(sorted(groups), 2):
        if len(groups[a]) >= 2 and len(groups[b]) >= 2:
            gap = float(np.mean(groups[a]) - np.mean(groups[b]))
            rows.append({"first": a, "second": b, "difference": gap, "p": permutation_test(groups[a], groups[b])})
    return pd.DataFrame(rows, columns=["first", "second", "difference", "p"])


def _sentences(table: pd.DataFrame, tests: pd.DataFrame, metric: str) -> tuple[str, ...]:
    best = table.sort_values("hypervolume").iloc[-1]
    words = [
        f"The largest hypervolume has {best['run']} ({best['hypervolume']:.4f}), with the best {metric} {best['best']:.4f}."
    ]
    for row in tests.to_dict("records"):
        sure = "a real difference" if row["p"] < 0.05 else "no difference that these seeds can show"
        words.append(
            f"Setting {row['first']} against {row['second']}: mean hypervolume {row['difference']:+.4f}, permutation test "
            f"p = {row['p']:.3f}: {sure}."
        )
    if tests.empty:
        words.append("A test needs two settings with two or more runs each that differ in the seed only.")
    return tuple(words)
