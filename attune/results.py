"""A run, for notebooks: its front at a glance, and the trained network for a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from search.evidence import EXPECTED, HIGH, LOW
from search.export import find_subject
from search.export.subject import Subject
from search.objectives import OBJECTIVES
from search.results import Results
from search.results import load as load_results
from search.weights import Weights, kept_weights
from spaces.errors import UsageError
from spaces.placement import Architecture

Budget = str | float | Mapping[str, Any] | None


@dataclass(frozen=True)
class Found:
    """An architecture of a run: what it scored and costs, and its network with the weights that the run has trained."""

    run: Run
    subject: Subject

    @property
    def architecture(self) -> Architecture:
        """As a value; ``str`` of it is its text."""
        return self.subject.arch

    @property
    def costs(self) -> dict[str, float]:
        """Its costs by name."""
        row = self.subject.row or {}
        return {cost: float(row[cost]) for cost in self.run.costs if cost in row}

    @property
    def reason(self) -> str:
        """What speaks for it, in words."""
        return self.subject.reason or ""

    @property
    def weights(self) -> Weights:
        """Where its trained weights lie, of which seed, and what they scored. Raises UsageError where the run kept none."""
        found = kept_weights(self.run, str(self.architecture))
        if found is None:
            kept = self.run.config.search.keep_weights
            raise UsageError(
                f"the weights of {self.architecture} were not kept (search.keep_weights: {kept}); valid: one of "
                "the front, or a search that keeps all"
            )
        return found

    @cached_property
    def model(self) -> nn.Module:
        """The network with its trained weights, in eval mode, on the CPU."""
        return replace(self.subject, weights=self.weights).model()

    def prepare(self, pictures_BCHW: Tensor) -> Tensor:
        """Pictures with the values that they have in the data, normalised as in the training: what ``model`` wants to see."""
        data = self.run.data
        if "mean" not in data:  # of a training function of one's own, which sees to that itself
            return pictures_BCHW
        low, high = data.get("pixel_span", (0, 255))
        mean_C, std_C = (torch.tensor(data[name], device=pictures_BCHW.device) for name in ("mean", "std"))
        scaled_BCHW = (pictures_BCHW.float() - low) / (high - low)
        return (scaled_BCHW - mean_C[:, None, None]) / std_C[:, None, None]

    def _repr_html_(self) -> str:
        facts = {
            "architecture": str(self.architecture),
            **{name: show(name, value) for name, value in self.costs.items()},
        }
        facts |= {"why": self.reason} if self.reason else {}
        rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in facts.items())
        return f"<table>{rows}</table>"


class Run(Results):
    """The results of a run directory; a search that goes on may be read too. In a notebook it shows its front."""

    def best(self, budget: Budget = None, *, architecture: str | None = None) -> Found:
        """The architecture of the best expected value under a budget, from all that was trained of it.

        ``budget``: FLOPs as ``"1.05x"`` of the plain network or ``"310M"``, or limits by name as ``{"params": "2M"}``. None:
        the knee of the front. ``architecture``: that one instead. Where the best has no weights that were kept, it is the best
        that has; ``reason`` says so. Raises UsageError where nothing keeps the budget.
        """
        return Found(self, find_subject(str(self.folder), limits_of(budget), architecture, retrain=False))

    def _repr_html_(self) -> str:
        """The front as a picture and as a table."""
        if self.summary.empty:
            return f"<p>{escape(str(self.folder))}: no complete evaluation yet</p>"
        front = self.recommended()
        names = {EXPECTED: f"expected {self.metric.name}", LOW: "from", HIGH: "to (95 %)"}
        table = front[["architecture", *names, *(cost for cost in self.costs if cost in front)]].rename(columns=names)
        head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(show(str(name), value))}</td>" for name, value in row.items()) + "</tr>"
            for row in table.to_dict("records")
        )
        told = (
            f"{len(self.evidence.rows)} architectures, {len(table)} of them on the front; run directory {self.folder}"
        )
        return f"<p>{escape(told)}</p>{front_svg(self)}<table><tr>{head}</tr>{body}</table>"


def load(folder: str | Path) -> Run:
    """The results of a run directory; raises UsageError where there is none."""
    return Run(load_results(folder).folder)


def limits_of(budget: Budget) -> dict[str, Any]:
    """Limits by name: a budget that is none of a mapping is one of FLOPs."""
    if budget is None:
        return {}
    if isinstance(budget, Mapping):
        return dict(budget)
    return {"flops": budget}


def show(name: str, value: Any) -> str:
    """A value of a column as people read it."""
    if isinstance(value, str) or pd.isna(value):
        return str(value)
    return str(OBJECTIVES[name].unit.show(value)) if name in OBJECTIVES else f"{value:.4f}"


def front_svg(run: Results, width: int = 560, height: int = 300) -> str:
    """The expected metric against the first cost: all that was trained, and the front as steps. An SVG without a library."""
    cost, metric = run.minimised[0], f"expected {run.metric.name}"
    every, front = run.evidence.rows.dropna(subset=[cost, EXPECTED]), run.recommended()
    left, top, right, bottom = 64.0, 12.0, width - 12.0, height - 40.0
    spans = {name: (float(every[name].min()), float(every[name].max())) for name in (cost, EXPECTED)}

    def place(row: Mapping[Any, Any]) -> tuple[float, float]:
        shares = [(float(row[name]) - low) / (high - low) if high > low else 0.5 for name, (low, high) in spans.items()]
        return left + 8 + shares[0] * (right - left - 16), bottom - 8 - shares[1] * (bottom - top - 16)

    dots = [place(row) for row in every.to_dict("records")]
    best = [place(row) for row in front.to_dict("records")]
    steps = [f"M{best[0][0]:.1f} {best[0][1]:.1f}"] if best else []
    steps += [f"H{x:.1f}V{y:.1f}" for x, y in best[1:]]
    ends = [
        (left, bottom + 16, "start", show(cost, spans[cost][0])),
        (right, bottom + 16, "end", show(cost, spans[cost][1])),
        ((left + right) / 2, bottom + 32, "middle", cost),
        (left - 6, bottom - 4, "end", show(EXPECTED, spans[EXPECTED][0])),
        (left - 6, top + 12, "end", show(EXPECTED, spans[EXPECTED][1])),
        (left - 6, (top + bottom) / 2, "end", metric),
    ]
    texts = "".join(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{a}">{escape(t)}</text>' for x, y, a, t in ends)
    circles = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#9aa5b1"/>' for x, y in dots)
    marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#c2410c"/>' for x, y in best)
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="currentColor">'
        f"<title>The front: {escape(metric)} against {escape(cost)}</title>"
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#9aa5b1"/>{texts}{circles}'
        f'<path d="{"".join(steps)}" fill="none" stroke="#c2410c" stroke-width="2"/>{marks}</svg>'
    )
