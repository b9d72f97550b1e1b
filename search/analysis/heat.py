"""The table of gains by type and stage: an effect is shown as one only where its interval excludes zero."""

from __future__ import annotations

from typing import Any

from evaluators.metric import Metric
from search.analysis.attribution import Attribution
from search.analysis.verdicts import spoken

LEAST = 0.01  # of a share: a gain whose interval lies within this much of zero is told to be about zero
FULL = 55  # per cent of colour of the largest gain


def heat(attribution: Attribution, metric: Metric) -> dict[str, Any]:
    """Rows of cells for the page, in the steps of the metric.

    ``state`` of a cell: gain or loss where its interval excludes zero, nil where that lies close around zero, unknown where
    neither can be told, never where nothing was evaluated there.
    """
    effects = attribution.effects
    stages = sorted(effects["stage"].unique().tolist())
    by_place = {(row["stage"], row["type"]): row for row in effects.to_dict("records")}
    sure = [abs(row["gain"]) for row in by_place.values() if row["low"] > 0 or row["high"] < 0]
    reach = max(sure, default=1.0)
    least = LEAST if metric.unit == "share" else 0.1 * reach

    def cell(stage: int, kind: str) -> dict[str, Any]:
        row = by_place.get((stage, kind))
        if row is None:
            return {"state": "never", "weight": 0, "gain": "", "error": "", "words": "never evaluated"}
        if row["low"] > 0 or row["high"] < 0:
            state = "gain" if row["gain"] > 0 else "loss"
        else:
            state = "nil" if max(-row["low"], row["high"]) <= least else "unknown"
        told = {"nil": "≈ 0", "unknown": "?"}.get(state, metric.difference(row["gain"]))
        half = metric.scale * (row["high"] - row["low"]) / 2
        words = (
            f"stage {stage}, {kind}: {metric.difference(row['gain'], 2)} {metric.step}, 95 % interval "
            f"{metric.difference(row['low'], 2)} to {metric.difference(row['high'], 2)}, {row['evaluations']} evaluations"
        )
        weight = round(10 + (FULL - 10) * min(1.0, abs(row["gain"]) / reach)) if state in ("gain", "loss") else 0
        return {"state": state, "weight": weight, "gain": told, "error": f"±{half:.1f}", "words": words}

    kinds = sorted(effects["type"].unique().tolist())
    return {
        "types": kinds,
        "stages": [f"stage {stage}" for stage in stages],
        "rows": [{"type": spoken(kind), "cells": [cell(stage, kind) for stage in stages]} for kind in kinds],
        "least": f"{metric.scale * least:.3g} {metric.step}",
    }
