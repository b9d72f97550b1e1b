"""What attention bought, and where, in numbers and in words: gains of (stage, type), of genes, and interactions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluators.metric import Metric
from search.analysis.fanova import fanova
from search.gains import Gains, Z, gene_table
from search.objectives import COUNT
from search.results import Results

LEAST = 8  # evaluations below which variance is not divided over the stages


@dataclass(frozen=True)
class Attribution:
    """``effects`` per (stage, type), ``genes`` per gene, ``shares`` of variance per stage and pair of stages, in words too.

    ``additive_r2``: the share of the variance between evaluations that the additive model predicts, each from the others.
    ``undecided``: those of the sentences that say that something cannot be told.
    """

    effects: pd.DataFrame
    genes: pd.DataFrame
    shares: pd.DataFrame
    additive_r2: float
    sentences: tuple[str, ...]
    undecided: frozenset[str] = frozenset()


def attribute(results: Results) -> Attribution:
    """The attribution of a run, from every complete evaluation on the validation split at the highest fidelity."""
    gains, effects = results.gains, results.attribution
    enough = len(gains.y_N) >= LEAST
    shares = fanova(gains.placements, gains.y_N) if enough else pd.DataFrame(columns=["stages", "share", "std"])
    r2 = gains.model.r2 if gains.model else 0.0
    words, undecided = _stage_words(gains, effects, results.metric)
    return Attribution(
        effects, gene_table(gains), shares, r2, (*words, *_share_words(shares, r2)), frozenset(undecided)
    )


def _stage_words(gains: Gains, effects: pd.DataFrame, metric: Metric) -> tuple[list[str], list[str]]:
    """One sentence per stage: what attention buys there, or that it buys nothing that can be seen; and which say the latter."""
    words, undecided = [], []
    for s in range(gains.stages):
        here = effects[effects["stage"] == s + 1]
        if here.empty:
            words.append(f"No evaluation has attention at stage {s + 1}.")
            undecided.append(words[-1])
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
                f"({told(best['gain'])}, {_per(best)})."
            )
        elif best["low"] > 0:
            words.append(
                f"At stage {s + 1} it depends on the type: {best['type']} gains {told(best['gain'])} {step} "
                f"({told(best['low'])} to {told(best['high'])}, {_per(best)}), attention on average "
                f"{told(mean)} ({interval})."
            )
        elif mean + Z * std < 0:
            words.append(
                f"Attention at stage {s + 1} costs {metric.name}: {told(mean)} {step} on average ({interval})."
            )
        else:
            words.append(
                f"Attention at stage {s + 1} buys nothing here that {len(gains.y_N)} evaluations can show: "
                f"{told(mean)} {step} on average ({interval}){_would_tell(len(gains.y_N), mean, std)}."
            )
            undecided.append(words[-1])
    return words, undecided


def _would_tell(evaluations: int, mean: float, std: float) -> str:
    """How many evaluations would show an effect as large as the one that was found, where that is no more than ten times."""
    factor = (Z * std / mean) ** 2 if mean else np.inf
    return (
        f"; about {int(np.ceil(factor * evaluations)):,} evaluations would, if it is that large" if factor <= 10 else ""
    )


def _per(row: pd.Series) -> str:
    return f"for {COUNT.brief(1e6 * row['megaflops'])} FLOPs" if row["megaflops"] > 0 else "for no FLOPs"


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
