"""The report of a run: one self-contained HTML file that works from disk, and figures and tables for papers beside it."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from search.analysis.attribution import Attribution, attribute, placements_of
from search.analysis.compare import compare
from search.analysis.honest import Verdict, curse, failures, headline, verdicts
from search.analysis.papers import write_papers
from search.config import dump_config
from search.pareto import hypervolume
from search.results import Results, load
from search.store import COMPLETE, SEARCH
from spaces import Architecture
from spaces.attention.genes import GENES
from spaces.errors import UsageError

HERE = Path(__file__).parent
METRICS = ("flops", "macs", "params", "activations")
PACKAGES = ("torch", "timm", "fvcore", "ray", "optuna", "plotly", "numpy")
LINES = 300  # architectures in the parallel coordinates
SHOWN_FAILURES = 200


@dataclass(frozen=True)
class Report:
    """Where the report lies, and what it found, in words."""

    path: Path
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"report": str(self.path), "sentences": list(self.sentences)}


def analyze(runs: Sequence[str | Path]) -> Report:
    """Write ``report.html``, ``figures/`` and ``tables/`` into a run directory; of several runs ``comparison.html``.

    Raises UsageError where a folder holds no run or nothing complete, or where runs cannot be compared.
    """
    found = [load(run) for run in runs]
    for results in found:
        if results.summary.empty:
            raise UsageError(f"{results.folder} has no complete evaluation yet")
    if len(found) > 1:
        comparison = compare(found)
        path = found[0].folder / "comparison.html"
        path.write_text(comparison.html)
        return Report(path, comparison.sentences)
    results = found[0]
    compared, attribution = verdicts(results), attribute(results)
    path = results.folder / "report.html"
    sentences = findings(results, compared)
    path.write_text(render(results, sentences, attribution))
    write_papers(results, attribution, progress(results))
    return Report(path, (*sentences, *attribution.sentences))


def findings(results: Results, compared: Sequence[Verdict]) -> tuple[str, ...]:
    """The sentences at the top: what was found, whether it beat the baselines, and how optimistic the search was."""
    front = results.front
    best = front.sort_values("accuracy").iloc[-1]
    words = [
        f"The search's front holds {len(front)} architectures; the most accurate, {best['architecture']}, reached "
        f"{best['accuracy']:.4f} in the search with {best['flops']:,} FLOPs."
    ]
    words.append(headline(results, compared))
    words += [one.sentence for one in compared if one.sentence not in words[-1]]
    gap = curse(results)
    if gap is not None:
        error = f" ± {100 * gap[1]:.1f}" if np.isfinite(gap[1]) else ""
        words.append(
            f"Winner's curse: on the front the search's accuracies lie {100 * gap[0]:+.1f}{error} points above those of "
            "fresh seeds."
        )
    test = results.confirmed.dropna(subset=["test_accuracy"])
    chosen = test[test["role"] != "uniform"].sort_values("accuracy")
    if len(chosen):
        row = chosen.iloc[-1]
        words.append(
            f"Test accuracy, measured once: {row['architecture']} {row['test_accuracy']:.4f} over {row['seeds']} seeds"
            + "".join(
                f"; the plain backbone {value:.4f}" for value in test.loc[test["role"] == "plain", "test_accuracy"]
            )
            + "."
        )
    return tuple(words)


def render(results: Results, sentences: Sequence[str], attribution: Attribution) -> str:
    """The report as HTML; every name from outside is escaped."""
    rows = results.evaluations
    counts = rows["kind"].value_counts()
    broken = failures(results)
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string((HERE / "report.html.jinja").read_text())
    return page.render(
        name=results.config.name,
        backbone=results.config.space.backbone,
        data=results.config.data,
        counts=f"{counts.get(SEARCH, 0):,} evaluations of the search"
        + "".join(f", {counts[kind]:,} of {words}" for kind, words in _KINDS.items() if kind in counts)
        + f"; {len(broken)} failed",
        sentences=sentences,
        attribution=attribution.sentences,
        effects=attribution.effects.to_dict("records"),
        genes=attribution.genes.to_dict("records"),
        failures=broken.head(SHOWN_FAILURES).to_dict("records"),
        more_failures=max(0, len(broken) - SHOWN_FAILURES),
        config=dump_config(results.config),
        versions=versions(),
        css=(HERE / "page.css").read_text(),
        payload=embed(payload(results, attribution)),
        plotly=plotly_source(),
        script=(HERE / "report.js").read_text(),
    )


_KINDS = {"confirm": "fresh seeds", "random": "random search", "test": "the test split"}


def payload(results: Results, attribution: Attribution) -> dict[str, Any]:
    """What the page's script draws."""
    rows = architecture_rows(results)
    return {
        "folder": str(results.folder),
        "cost": results.config.search.costs[0],
        "metrics": [*METRICS, *(["latency"] if "latency" in rows.columns else [])],
        "confirmed": not results.confirmed.empty,
        "columns": columns(rows),
        "heat": heat(attribution),
        "shares": {
            "names": attribution.shares["stages"].tolist(),
            "share": [round(value, 4) for value in attribution.shares["share"]],
            "std": [round(value, 4) for value in attribution.shares["std"]],
        },
        "progress": progress(results),
        "parallel": parallel(results),
    }


def architecture_rows(results: Results) -> pd.DataFrame:
    """One row per architecture of the search, with what fresh seeds say, then the baselines that the search did not try."""
    table = results.confirmed.rename(columns={"test_accuracy": "test", "accuracy": "fresh"})
    wanted = ["architecture", "role", "fresh", "low", "high", "seeds", "p_front", "test"]
    measured = read_latency(results)
    searched = bool(results.summary["latency"].notna().any())  # then every architecture has an estimate, in nanoseconds
    costs = [*METRICS, "latency"] if searched else [*METRICS]
    summary = results.summary[["architecture", "accuracy", *costs]]
    merged = summary.merge(table[wanted], on="architecture", how="left")
    others = table[~table["architecture"].isin(summary["architecture"])][[*wanted, *costs]]
    if len(others):
        merged = pd.concat([merged, others], ignore_index=True)
    if searched:
        merged["latency"] /= 1e6
    elif measured:
        merged["latency"] = merged["architecture"].map(measured)
    merged["plain"] = merged["architecture"] == str(Architecture.plain(results.config.space.backbone))
    merged["front"] = merged["architecture"].isin(results.front["architecture"])
    return merged


def read_latency(results: Results) -> dict[str, float]:
    """Milliseconds by architecture, where ``analyze --latency`` has measured them."""
    path = results.folder / "latency.json"
    return json.loads(path.read_text()) if path.exists() else {}


def measure_latencies(folder: str | Path) -> None:
    """Measure a single image's latency of the front and of everything confirmed on this machine, into ``latency.json``."""
    from evaluators.latency import measure_latency

    results = load(folder)
    data = json.loads((results.folder / "data.json").read_text())
    known = read_latency(results)
    for text in dict.fromkeys([*results.front["architecture"], *results.confirmed["architecture"]]):
        if text not in known:
            latency = measure_latency(
                Architecture.parse(text),
                image_size=data["image_size"],
                num_classes=data["num_classes"],
                in_chans=data["in_chans"],
                native=results.config.space.native,
            )
            known[text] = 1000 * latency.seconds
    (results.folder / "latency.json").write_text(json.dumps(known))


def heat(attribution: Attribution) -> dict[str, Any]:
    """Gains in points by type and stage."""
    effects = attribution.effects
    stages = sorted(effects["stage"].unique().tolist())
    types = sorted(effects["type"].unique().tolist())
    by_place = {(row["stage"], row["type"]): row for row in effects.to_dict("records")}
    words = {
        place: f"stage {row['stage']}, {row['type']}: {100 * row['gain']:+.2f} points<br>95 % interval "
        f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}<br>{row['evaluations']} evaluations, "
        f"{row['megaflops']:.4f} MFLOPs"
        for place, row in by_place.items()
    }
    return {
        "stages": [f"stage {stage}" for stage in stages],
        "types": types,
        "gain": [
            [round(100 * by_place[s, t]["gain"], 3) if (s, t) in by_place else None for s in stages] for t in types
        ],
        "words": [[words.get((s, t), "never evaluated") for s in stages] for t in types],
    }


def progress(results: Results) -> dict[str, Sequence[float]]:
    """The hypervolume after every evaluation of the search, as a share of the last, over their number and over seconds."""
    rows = results.searched
    done = rows[rows["state"] == COMPLETE]
    cost = results.config.search.costs[0]
    reference = np.array([1.01 * float(done[cost].max()), 0.0])
    reference[1] = -float(done["accuracy"].min()) + 1e-9
    start = float((rows["finished"] - rows["seconds"].fillna(0)).min())
    front: list[tuple[float, float]] = []
    volume, volumes = 0.0, []
    for complete, c, accuracy in zip(rows["state"] == COMPLETE, rows[cost], rows["accuracy"], strict=True):
        if complete and not any(other[0] <= c and other[1] <= -accuracy for other in front):
            front = [other for other in front if other[0] < c or other[1] < -accuracy] + [(float(c), -float(accuracy))]
            volume = hypervolume(np.array(front), reference)
        volumes.append(volume)
    last = volumes[-1] if volumes and volumes[-1] > 0 else 1.0
    return {
        "count": list(range(1, len(volumes) + 1)),
        "seconds": (rows["finished"] - start).round(1).tolist(),
        "share": [round(value / last, 5) for value in volumes],
    }


def parallel(results: Results) -> dict[str, Any]:
    """Axes of the genes that vary, and one line per architecture: the best ones, and others evenly spread over accuracy."""
    ranked = results.summary.sort_values("accuracy", ascending=False, ignore_index=True)
    half = LINES // 2
    chosen = ranked
    if len(ranked) > LINES:
        rest = ranked.iloc[half:]
        chosen = pd.concat([ranked.iloc[:half], rest.iloc[np.linspace(0, len(rest) - 1, half).astype(int)]])
    placements = [placements_of(text) for text in chosen["architecture"]]
    readers: list[tuple[str, Any]] = []
    for stage in range(len(placements[0])):
        readers.append((f"type {stage + 1}", lambda one, s=stage: one[s].type))
        for field, label in (*((gene.name, gene.label) for gene in GENES), ("site", "site")):
            readers.append((f"{label} {stage + 1}", lambda one, s=stage, f=field: str(getattr(one[s], f) or "-")))
    axes, columns = [], []
    for name, read in readers:
        values = [read(one) for one in placements]
        distinct = sorted(
            set(values), key=lambda v: (v not in ("none", "-"), not v.isdigit(), int(v) if v.isdigit() else 0, v)
        )
        if len(set(distinct) - {"-"}) > 1:
            axes.append({"name": name, "values": distinct})
            columns.append(values)
    note = "" if len(ranked) <= LINES else f"the best {half} of {len(ranked):,} and {half} of the others"
    lines = [
        {"architecture": text, "accuracy": round(accuracy, 5), "values": [column[i] for column in columns]}
        for i, (text, accuracy) in enumerate(zip(chosen["architecture"], chosen["accuracy"], strict=True))
    ]
    return {"axes": axes, "lines": lines, "note": note or "darker lines are more accurate"}


def columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Columns as JSON values, which take half the room of rows: accuracies keep five digits, what is missing is null."""
    whole = {"seeds", *METRICS}

    def value(key: str, found: Any) -> Any:
        if pd.isna(found):
            return None
        if isinstance(found, float):
            return int(found) if key in whole else round(found, 5)
        return int(found) if isinstance(found, bool) else found

    return {str(key): [value(str(key), found) for found in frame[key].tolist()] for key in frame.columns}


def embed(content: Any) -> str:
    """JSON that can stand inside of a script element whatever it holds."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def plotly_source() -> str:
    """plotly.js, as the Python package brings it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def versions() -> str:
    """What a result depends on, in one line."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} of unknown version")
    return ", ".join(found) + f"; {platform.system()} {platform.machine()}"
