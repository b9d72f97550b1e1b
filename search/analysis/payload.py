"""What the script of the report's page draws: tables, gains, hypervolume over time, and parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluators.metric import Metric
from search.analysis.attribution import Attribution
from search.analysis.latencies import read_latency
from search.evidence import EXPECTED, HIGH, LOW
from search.front import ranked
from search.objectives import OBJECTIVES
from search.pareto import hypervolume
from search.results import Results
from search.store import COMPLETE
from spaces import Architecture
from spaces.attention.genes import GENES
from spaces.written import all_placements

LINES = 300  # architectures in the parallel coordinates


def payload(results: Results, attribution: Attribution) -> dict[str, Any]:
    """What the page's script draws."""
    rows, metric = architecture_rows(results), results.metric
    return {
        "folder": str(results.folder),
        "cost": results.config.search.costs[0],
        "costs": {cost: OBJECTIVES[cost].label if cost in OBJECTIVES else cost for cost in _costs(results, rows)},
        "metric": {"name": metric.name, "sign": metric.sign, "scale": metric.scale, "step": metric.step},
        "confirmed": not results.confirmed.empty,
        "columns": columns(rows),
        "reasons": reasons(results),
        "heat": heat(attribution, metric),
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
    name = results.metric.name
    table = results.confirmed.rename(columns={f"test_{name}": "test", name: "fresh"})
    wanted = ["architecture", "role", "fresh", "low", "high", "seeds", "p_front", "test"]
    measured = read_latency(results)
    costs = results.costs
    summary = results.summary[["architecture", name, *costs]].rename(columns={name: "score"})
    merged = summary.merge(table[wanted], on="architecture", how="left")
    known = results.evidence.rows
    others = known[~known["architecture"].isin(summary["architecture"])][["architecture", *costs]]
    if len(others):
        others = others.merge(table[wanted], on="architecture", how="left")
        merged = pd.concat([merged, others], ignore_index=True)
    merged = merged.merge(known[["architecture", EXPECTED, LOW, HIGH]], on="architecture", how="left")
    for cost in costs:
        if cost in OBJECTIVES and OBJECTIVES[cost].unit.axis != 1:
            merged[cost] /= OBJECTIVES[cost].unit.axis
    if measured and "latency" not in costs:  # in milliseconds already
        merged["latency"] = merged["architecture"].map(measured)
    merged["plain"] = merged["architecture"] == str(Architecture.plain(results.config.space.backbone))
    merged["front"] = merged["architecture"].isin(results.front["architecture"])
    return merged


def reasons(results: Results) -> dict[str, str]:
    """What speaks for each architecture that some limit of one cost picks, in words."""
    known = results.evidence
    picked = {text for cost in results.costs if cost in known.rows for text in known.staircase(cost)}
    rows = known.rows[known.rows["architecture"].isin(picked)]
    return {str(row["architecture"]): results.reason(row) for row in rows.to_dict("records")}


def _costs(results: Results, rows: pd.DataFrame) -> list[str]:
    return [*results.costs, *(["latency"] if "latency" in rows.columns and "latency" not in results.costs else [])]


def heat(attribution: Attribution, metric: Metric) -> dict[str, Any]:
    """Gains by type and stage, in the steps of the metric."""
    effects = attribution.effects
    stages = sorted(effects["stage"].unique().tolist())
    types = sorted(effects["type"].unique().tolist())
    by_place = {(row["stage"], row["type"]): row for row in effects.to_dict("records")}
    words = {
        place: f"stage {row['stage']}, {row['type']}: {metric.difference(row['gain'], 2)} {metric.step}<br>95 % interval "
        f"{metric.difference(row['low'], 2)} to {metric.difference(row['high'], 2)}<br>{row['evaluations']} evaluations, "
        f"{row['megaflops']:.4f} MFLOPs"
        for place, row in by_place.items()
    }
    return {
        "stages": [f"stage {stage}" for stage in stages],
        "types": types,
        "gain": [
            [round(metric.scale * by_place[s, t]["gain"], 3) if (s, t) in by_place else None for s in stages]
            for t in types
        ],
        "words": [[words.get((s, t), "never evaluated") for s in stages] for t in types],
    }


def progress(results: Results) -> dict[str, Sequence[float]]:
    """The hypervolume after every evaluation of the search, as a share of the last, over their number and over seconds."""
    rows = results.searched
    done = rows[rows["state"] == COMPLETE]
    cost = results.config.search.costs[0]
    losses = -results.metric.sign * rows[results.metric.name]
    reference = np.array([1.01 * float(done[cost].max()), float(losses[done.index].max()) + 1e-9])
    start = float((rows["finished"] - rows["seconds"].fillna(0)).min())
    front: list[tuple[float, float]] = []
    volume, volumes = 0.0, []
    for complete, c, loss in zip(rows["state"] == COMPLETE, rows[cost], losses, strict=True):
        if complete and not any(other[0] <= c and other[1] <= loss for other in front):
            front = [other for other in front if other[0] < c or other[1] < loss] + [(float(c), float(loss))]
            volume = hypervolume(np.array(front), reference)
        volumes.append(volume)
    last = volumes[-1] if volumes and volumes[-1] > 0 else 1.0
    return {
        "count": list(range(1, len(volumes) + 1)),
        "seconds": (rows["finished"] - start).round(1).tolist(),
        "share": [round(value / last, 5) for value in volumes],
    }


def parallel(results: Results) -> dict[str, Any]:
    """Axes of the genes that vary, and one line per architecture: the best ones, and others evenly spread over the scores."""
    best_first = ranked(results.summary, results.metric)
    half = LINES // 2
    chosen = best_first
    if len(best_first) > LINES:
        rest = best_first.iloc[half:]
        chosen = pd.concat([best_first.iloc[:half], rest.iloc[np.linspace(0, len(rest) - 1, half).astype(int)]])
    placements = all_placements(chosen["architecture"])
    values_by_axis: dict[str, list[str]] = {}
    for stage in range(len(placements[0])):
        values_by_axis[f"type {stage + 1}"] = [one[stage].type for one in placements]
        for gene in GENES:
            values_by_axis[f"{gene.label} {stage + 1}"] = [
                str(one[stage].genes.get(gene.name) or "-") for one in placements
            ]
        values_by_axis[f"site {stage + 1}"] = [one[stage].site or "-" for one in placements]
    axes, columns = [], []
    for name, values in values_by_axis.items():
        distinct = sorted(
            set(values), key=lambda v: (v not in ("none", "-"), not v.isdigit(), int(v) if v.isdigit() else 0, v)
        )
        if len(set(distinct) - {"-"}) > 1:
            axes.append({"name": name, "values": distinct})
            columns.append(values)
    note = "" if len(best_first) <= LINES else f"the best {half} of {len(best_first):,} and {half} of the others"
    lines = [
        {"architecture": text, "score": round(score, 5), "values": [column[i] for column in columns]}
        for i, (text, score) in enumerate(zip(chosen["architecture"], chosen[results.metric.name], strict=True))
    ]
    return {"axes": axes, "lines": lines, "note": note or "darker lines are better"}


def columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Columns as JSON values, which take half the room of rows: what is missing is null, and scores keep five
    digits, but for the expected ones, which the page compares."""
    whole = {"seeds", *(name for name, objective in OBJECTIVES.items() if objective.counted)}

    def value(key: str, found: Any) -> Any:
        if pd.isna(found):
            return None
        if isinstance(found, float):
            return int(found) if key in whole else round(found, 12 if key == EXPECTED else 5)
        return int(found) if isinstance(found, bool) else found

    return {str(key): [value(str(key), found) for found in frame[key].tolist()] for key in frame.columns}
