"""What the script of the report's page draws: architectures, the network around them, gains, progress, and genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluators.counting import METRICS
from search.analysis.attribution import Attribution
from search.analysis.latencies import read_latency
from search.evidence import EXPECTED, HIGH, LOW
from search.objectives import OBJECTIVES, TIME
from search.pareto import hypervolume
from search.results import Results
from search.store import COMPLETE
from search.weights import kept_texts
from spaces.attention.genes import GENES
from spaces.written import SITES, Written, all_placements

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def payload(results: Results, attribution: Attribution) -> dict[str, Any]:
    """What the page's script draws."""
    rows, metric = architecture_rows(results), results.metric
    return {
        "folder": str(results.folder),
        "backbone": results.config.space.backbone,
        "cost": results.minimised[0],
        "minimised": list(results.minimised),
        "costs": {cost: OBJECTIVES[cost].label if cost in OBJECTIVES else cost for cost in _costs(results, rows)},
        "units": {cost: _unit(cost) for cost in _costs(results, rows)},
        "metric": {"name": metric.name, "sign": metric.sign, "scale": metric.scale, "step": metric.step},
        "confirmed": not results.confirmed.empty,
        "columns": columns(rows),
        "knee": str(results.pick({})["architecture"]),
        "choices": choices(results),
        "network": network(results),
        "shares": {
            "names": attribution.shares["stages"].tolist(),
            "share": [round(value, 4) for value in attribution.shares["share"]],
            "std": [round(value, 4) for value in attribution.shares["std"]],
        },
        "progress": progress(results),
        "genes": genes(results),
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
    seeds = ["search_seeds", "fresh_seeds", "random_seeds"]
    merged = merged.merge(known[["architecture", EXPECTED, LOW, HIGH, *seeds]], on="architecture", how="left")
    for cost in costs:
        if cost in OBJECTIVES and OBJECTIVES[cost].unit.axis != 1:
            merged[cost] /= OBJECTIVES[cost].unit.axis
    if measured and "latency" not in costs:  # in milliseconds already
        merged["latency"] = merged["architecture"].map(measured)
    merged["plain"] = merged["architecture"] == results.plain
    merged["front"] = merged["architecture"].isin(results.recommended()["architecture"])
    merged["kept"] = merged["architecture"].isin(kept_texts(results))
    return merged


def choices(results: Results) -> dict[str, dict[str, Any]]:
    """What is said of each architecture that some limit picks: a cheaper one that cannot be told apart from it, with the
    probability that that is worse; the probability that it is better than the plain network; and what each stage adds."""
    known, plain = results.evidence, results.plain
    trained = set(known.rows["architecture"])
    picked = {text for cost in results.costs if cost in known.rows for text in known.staircase(cost)}
    picked |= {str(results.pick({})["architecture"])}
    found = {}
    for row in known.rows[known.rows["architecture"].isin(picked)].to_dict("records"):
        text = str(row["architecture"])
        rival = known.rival(row, results.minimised)
        added_SM = results.added_costs(text)
        found[text] = {
            "rival": rival,
            "sure": None if rival is None else round(known.probability(text, rival), 3),
            "gain": round(known.probability(text, plain), 3) if plain and plain in trained and text != plain else None,
            "added": {name: [int(value) for value in added_SM[:, m]] for m, name in enumerate(METRICS)},
        }
    return found


def network(results: Results) -> dict[str, Any]:
    """The plain network as a picture shows it: its stages with channels, resolution and blocks, what goes in and comes out."""
    spec, backbone = results.network, results.config.space.backbone
    shapes = spec.site_shapes(backbone)
    stages = []
    for number, stage in enumerate(spec.stages(backbone), start=1):
        there = next((sites[-1] for kind in (*SITES[::-1], "decoder") if (sites := stage.sites.get(kind))), None)
        shape = shapes.get(there) if there is not None else None
        stages.append(
            {
                "name": stage.name or f"stage {number}",
                "channels": int(shape[0]) if shape else stage.channels,
                "size": list(map(int, shape[1:])) if shape else [],
                "blocks": len(stage.blocks),
            }
        )
    size = [results.data.get("in_chans"), *spec.size]
    return {"input": " × ".join(map(str, size)), "output": f"{results.data['num_classes']} classes", "stages": stages}


def _costs(results: Results, rows: pd.DataFrame) -> list[str]:
    return [*results.costs, *(["latency"] if "latency" in rows.columns and "latency" not in results.costs else [])]


def _unit(cost: str) -> dict[str, Any]:
    """How a limit on a cost is written, for amounts as they stand on the axis."""
    unit = OBJECTIVES[cost].unit if cost in OBJECTIVES else TIME
    return {
        "factors": {suffix: factor / unit.axis for suffix, factor in unit.factors.items()},
        "examples": unit.examples,
        "axis": unit.axis,
    }


def progress(results: Results) -> dict[str, Sequence[float]]:
    """The hypervolume after every evaluation of the search, as a share of the last, over their number and over seconds."""
    rows = results.searched
    done = rows[rows["state"] == COMPLETE]
    cost = results.minimised[0]
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


def genes(results: Results) -> list[dict[str, Any]]:
    """For every choice that varies, and each value of it, how the scores of the search spread: their quantiles."""
    placements = all_placements(results.summary["architecture"])
    scores_N = results.summary[results.metric.name].to_numpy(float)
    found = []
    for title, values in _read_genes(placements):
        written = {value for value in values if value is not None}
        distinct = sorted(written, key=lambda v: (v != "none", not v.isdigit(), int(v) if v.isdigit() else 0, v))
        if len(distinct) > 1:
            by_value = [scores_N[[one == value for one in values]] for value in distinct]
            found.append(
                {
                    "title": title,
                    "values": distinct,
                    "counts": [len(some) for some in by_value],
                    "quantiles": [[round(float(q), 5) for q in np.quantile(some, QUANTILES)] for some in by_value],
                }
            )
    return found


def _read_genes(placements: Sequence[tuple[Written, ...]]) -> list[tuple[str, list[str | None]]]:
    """What each architecture has of every choice at every stage; None where it has no such choice there."""
    found: list[tuple[str, list[str | None]]] = []
    for s in range(len(placements[0]) if placements else 0):
        here = [one[s] for one in placements]
        found.append((f"stage {s + 1}: type", [one.type for one in here]))
        for gene in GENES:
            values = [one.genes.get(gene.name) for one in here]
            found.append((f"stage {s + 1}: {gene.label}", [None if value is None else str(value) for value in values]))
        found.append((f"stage {s + 1}: site", [one.site for one in here]))
    return found


def columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Columns as JSON values, which take half the room of rows: what is missing is null, and scores keep five
    digits, but for the expected ones, which the page compares."""
    whole = {
        "seeds",
        "search_seeds",
        "fresh_seeds",
        "random_seeds",
        *(name for name, objective in OBJECTIVES.items() if objective.counted),
    }

    def value(key: str, found: Any) -> Any:
        if pd.isna(found):
            return None
        if isinstance(found, float):
            return int(found) if key in whole else round(found, 12 if key == EXPECTED else 5)
        return int(found) if isinstance(found, bool) else found

    return {str(key): [value(str(key), found) for found in frame[key].tolist()] for key in frame.columns}
