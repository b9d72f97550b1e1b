"""The report of a run: one self-contained HTML file with the interactive front and its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined

from search.config import dump_config
from search.results import Results, load
from search.store import FAILED
from spaces import Architecture
from spaces.errors import UsageError

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}: Pareto front</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; color: #1c2733; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #d8dee4; }
th:last-child, td:last-child { text-align: left; overflow-wrap: anywhere; }
pre { background: #f3f5f7; padding: 1rem; overflow-x: auto; }
.scroll { overflow-x: auto; }
</style>
</head>
<body>
<h1>{{ name }}</h1>
<p>{{ evaluated }} evaluations of <code>{{ backbone }}</code> on <code>{{ data }}</code>, {{ failures|length }} failed.
{% if best %}The plain backbone reaches {{ "%.4f"|format(plain) }}; the most accurate architecture
<code>{{ best.architecture }}</code> reaches {{ "%.4f"|format(best.accuracy) }} with
{{ "%+.1f"|format(100 * (best.flops / plain_flops - 1)) }} % FLOPs.{% endif %}</p>
{{ figure|safe }}
<h2>The front</h2>
<div class="scroll"><table>
<thead><tr><th>accuracy</th><th>FLOPs</th><th>MACs</th><th>parameters</th><th>architecture</th></tr></thead>
<tbody>
{%- for row in front %}
<tr><td>{{ "%.4f"|format(row.accuracy) }}</td><td>{{ "{:,}".format(row.flops) }}</td><td>{{ "{:,}".format(row.macs) }}</td>
<td>{{ "{:,}".format(row.params) }}</td><td><code>{{ row.architecture }}</code></td></tr>
{%- endfor %}
</tbody></table></div>
{% if failures %}
<h2>Failures</h2>
<ul>{% for row in failures %}<li><code>{{ row.architecture }}</code>: {{ row.reason }}</li>{% endfor %}</ul>
{% endif %}
<h2>Configuration</h2>
<pre>{{ config }}</pre>
</body>
</html>
"""


def analyze(runs: Sequence[str | Path]) -> Path:
    """Write ``report.html`` into the run directory and return its path.

    Raises UsageError where a folder holds no run or nothing complete, and for more than one run.
    """
    if len(runs) != 1:
        raise UsageError(f"analyze takes one run directory, not {len(runs)}")
    results = load(runs[0])
    if results.summary.empty:
        raise UsageError(f"{results.folder} has no complete evaluation yet")
    path = results.folder / "report.html"
    path.write_text(render(results))
    return path


def render(results: Results) -> str:
    """The report as HTML; every name from outside is escaped."""
    summary, front = results.summary, results.front
    plain = summary[summary["architecture"] == str(Architecture.plain(results.config.space.backbone))]
    failures = results.evaluations[results.evaluations["state"] == FAILED]
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
    return page.render(
        name=results.config.name,
        evaluated=len(results.evaluations),
        backbone=results.config.space.backbone,
        data=results.config.data,
        failures=failures.to_dict("records"),
        best=front.iloc[-1].to_dict() if len(plain) else None,
        plain=float(plain["accuracy"].iloc[0]) if len(plain) else None,
        plain_flops=int(plain["flops"].iloc[0]) if len(plain) else None,
        figure=front_figure(results).to_html(full_html=False, include_plotlyjs=True, config={"responsive": True}),
        front=front.to_dict("records"),
        config=dump_config(results.config),
    )


def front_figure(results: Results) -> go.Figure:
    """Accuracy against FLOPs: every architecture, the front as a line, the plain backbone marked."""
    summary, front = results.summary, results.front
    plain = summary[summary["architecture"] == str(Architecture.plain(results.config.space.backbone))]
    figure = go.Figure(
        layout={
            "template": "plotly_white",
            "xaxis": {"title": "FLOPs (fvcore)"},
            "yaxis": {"title": "validation accuracy"},
            "legend": {"orientation": "h", "y": 1.1},
            "margin": {"l": 60, "r": 20, "t": 40, "b": 60},
        }
    )
    hover = "%{customdata}<br>accuracy %{y:.4f}, FLOPs %{x:,}<extra></extra>"
    for rows, name, style in (
        (summary, "evaluated", {"mode": "markers", "marker": {"size": 7, "color": "#9aa7b4"}}),
        (
            front,
            "front",
            {"mode": "lines+markers", "line": {"shape": "hv", "color": "#0b6bcb"}, "marker": {"size": 10}},
        ),
        (plain, "plain backbone", {"mode": "markers", "marker": {"size": 14, "symbol": "x", "color": "#c2410c"}}),
    ):
        names = [_plotly_text(text) for text in rows["architecture"]]
        figure.add_scatter(
            x=rows["flops"].tolist(),
            y=rows["accuracy"].tolist(),
            customdata=names,
            name=name,
            hovertemplate=hover,
            **style,
        )
    return figure


def _plotly_text(text: str) -> str:
    """plotly reads a subset of HTML in hover labels."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
