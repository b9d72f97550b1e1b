"""What the script of the report's page draws: tables, gains, hypervolume over time, and parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from search.analysis.attribution import Attribution
from search.analysis.latencies import read_latency
from search.gains import placements_of
from search.pareto import hypervolume
from search.results import Results
from search.store import COMPLETE
from spaces import Architecture

METRICS = ("flops", "macs", "params", "activations")
LINES = 300  # architectures in the parallel coordinates


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
    values_by_axis: dict[str, list[str]] = {}
    for stage in range(len(placements[0])):
        values_by_axis[f"type {stage + 1}"] = [one[stage].type for one in placements]
        for gene, letter in (("reduction", "r"), ("kernel", "k"), ("arrangement", "way"), ("site", "site")):
            values_by_axis[f"{letter} {stage + 1}"] = [str(getattr(one[stage], gene) or "-") for one in placements]
    axes, columns = [], []
    for name, values in values_by_axis.items():
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
