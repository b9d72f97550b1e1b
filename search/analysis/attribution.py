"""What attention bought, and where, in numbers and in words: gains of (stage, type), of genes, and interactions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluators.metric import Metric
from search.analysis.fanova import fanova
from search.gains import Gains, Z, gene_table
from search.results import Results

SURE = 0.95
LEAST = 8  # evaluations below which variance is not divided over the stages


@dataclass(frozen=True)
class Attribution:
    """``effects`` per (stage, type), ``genes`` per gene, ``shares`` of variance per stage and pair of stages, in words too.

    ``additive_r2``: the share of the variance between evaluations that the additive model predicts, each from the others.
    """

    effects: pd.DataFrame
    genes: pd.DataFrame
    shares: pd.DataFrame
    additive_r2: float
    sentences: tuple[str, ...]


def attribute(results: Results) -> Attribution:
    """The attribution of a run, from every complete evaluation on the validation split at the highest fidelity."""
    gains, effects = results.gains, results.attribution
    enough = len(gains.y_N) >= LEAST
    shares = fanova(gains.placements, gains.y_N) if enough else pd.DataFrame(columns=["stages", "share", "std"])
    r2 = gains.model.r2 if gains.model else 0.0
    words = [*_stage_words(gains, effects, results.metric), *_share_words(shares, r2)]
    return Attribution(effects, gene_table(gains), shares, r2, tuple(words))


def _stage_words(gains: Gains, effects: pd.DataFrame, metric: Metric) -> list[str]:
    """One sentence per stage: what attention buys there, or that it buys nothing that can be seen."""
    words = []
    for s in range(gains.stages):
        here = effects[effects["stage"] == s + 1]
        if here.empty:
            words.append(f"No evaluation has attention at stage {s + 1}.")
            continue
        total = here["evaluations"].sum()
        shares = {(s, str(row["type"])): float(row["evaluations"] / total) for _, row in here.iterrows()}
        mean, std = gains.of(shares)
        best = here.sort_values("gain").iloc[-1]
        told, step = metric.difference, metric.step
        interval = f"{told(mean - Z * std)} to {told(mean + Z * std)}"
        if mean - Z * std > 0:
            words.append(
                f"Attention at stage {s + 1} pays: {told(mean)} {step} on average ({interval}), most with {best['type']} "
                f"({told(best['gain'])}, {_per(best, metric)})."
            )
        elif best["probability"] > SURE:
            words.append(
                f"At stage {s + 1} it depends on the type: {best['type']} gains {told(best['gain'])} {step} "
                f"({told(best['low'])} to {told(best['high'])}, {_per(best, metric)}), attention on average "
                f"{told(mean)} ({interval})."
            )
        elif mean + Z * std < 0:
            words.append(
                f"Attention at stage {s + 1} costs {metric.name}: {told(mean)} {step} on average ({interval})."
            )
        else:
            words.append(
                f"Attention at stage {s + 1} buys nothing here that {len(gains.y_N)} evaluations can show: "
                f"{told(mean)} {step} on average ({interval}), at best {best['type']} with {told(best['gain'])}."
            )
    return words


def _per(row: pd.Series, metric: Metric) -> str:
    per = metric.scale * row["gain_per_megaflop"]
    return f"{per:+,.1f} {metric.step} per million FLOPs" if np.isfinite(per) else "for no FLOPs"


def _share_words(shares: pd.DataFrame, r2: float) -> list[str]:
    if shares.empty:
        return []
    pairs = shares[shares["stages"].str.contains(" x ")]
    mains = shares[~shares["stages"].str.contains(" x ")]
    top = mains.sort_values("share").iloc[-1]
    words = [
        f"From the other evaluations the additive model predicts {100 * max(r2, 0):.0f} % of the variance; by fANOVA "
        f"{top['stages']} matters most ({100 * top['share']:.0f} %)."
    ]
    if len(pairs):
        pair = pairs.sort_values("share").iloc[-1]
        words.append(f"The strongest interaction is {pair['stages']} with {100 * pair['share']:.0f} % of the variance.")
    return words
