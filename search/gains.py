"""What attention gains at each stage, by a linear model with intervals.

y = b + sum_s beta_(s, type) + genes + noise, beta ~ Normal(0, tau^2). tau and the noise have maximum evidence (MacKay,
Bayesian interpolation, 1992), so that a few dozen evaluations give honest, wide intervals.

Letters: N evaluations, P features of the model, S stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from evaluators.metric import Metric
from search.front import ACCURACY
from search.store import COMPLETE, TEST
from spaces.attention.genes import GENES, Gene, Value
from spaces.written import SITES, Written, all_placements

Array = NDArray[np.float64]
Place = tuple[int, str]  # a stage, counted from 0, and a type of attention there
Z = float(ndtri(0.975))


@dataclass(frozen=True)
class Linear:
    """Posterior of a linear model: mean (P,), covariance (P, P), and the share of variance predicted leaving one out."""

    mean_P: Array
    covariance_PP: Array
    r2: float

    def effect(self, weights_P: Array) -> tuple[float, float]:
        """Mean and standard deviation of a weighted sum of coefficients."""
        return float(weights_P @ self.mean_P), float(
            np.sqrt(max(0.0, float(weights_P @ self.covariance_PP @ weights_P)))
        )


def bayesian_linear(x_NP: Array, y_N: Array) -> Linear:
    """Posterior of centred y on centred x, with prior and noise variances by maximum evidence on a grid of their ratio."""
    x_NP, y_N = x_NP - x_NP.mean(axis=0), y_N - y_N.mean()
    n = len(y_N)
    u_NK, s_K, vt_KP = np.linalg.svd(x_NP, full_matrices=False)
    z_K = u_NK.T @ y_N
    rest = float(y_N @ y_N - z_K @ z_K)
    best: tuple[float, float, float] = (-np.inf, 1.0, 1.0)
    for ratio in np.logspace(-4, 3, 71):  # tau^2 / sigma^2
        spread_K = 1 + ratio * s_K**2
        noise = float(((z_K**2 / spread_K).sum() + max(rest, 0.0)) / max(n - 1, 1))
        if noise <= 0:
            continue
        evidence = -0.5 * ((n - 1) * np.log(noise) + np.log(spread_K).sum())
        if evidence > best[0]:
            best = (float(evidence), float(ratio), noise)
    _, ratio, noise = best
    shrink_K = ratio * s_K / (1 + ratio * s_K**2)
    mean_P = vt_KP.T @ (shrink_K * z_K)
    covariance_PP = (
        ratio * noise * (np.eye(x_NP.shape[1]) - (vt_KP.T * (ratio * s_K**2 / (1 + ratio * s_K**2))) @ vt_KP)
    )
    # Leave-one-out residuals from the hat matrix's diagonal; the mean that was subtracted has 1/n of each leverage.
    leverage_N = 1 / n + (u_NK**2) @ (ratio * s_K**2 / (1 + ratio * s_K**2))
    left_out_N = (y_N - x_NP @ mean_P) / np.maximum(1 - leverage_N, 1e-9)
    total = float(y_N @ y_N) * (n / max(n - 1, 1)) ** 2
    return Linear(mean_P, covariance_PP, 1 - float(left_out_N @ left_out_N) / total if total > 0 else 0.0)


@dataclass(frozen=True)
class Gains:
    """The model fitted to the evaluations of a run.

    ``places`` and ``genes`` name the coefficients: first one for each (stage, type) that was evaluated, then one for each
    gene that varies. ``model`` is None where fewer than two evaluations leave nothing to fit.
    """

    placements: tuple[tuple[Written, ...], ...]
    y_N: Array
    places: tuple[Place, ...]
    counts: tuple[int, ...]
    genes: tuple[str, ...]
    model: Linear | None

    @property
    def stages(self) -> int:
        return len(self.placements[0]) if self.placements else 0

    def of(self, weights: dict[Place, float]) -> tuple[float, float]:
        """Mean and standard deviation of a weighted sum of gains of places; 0 where nothing could be fitted."""
        return self._effect([weights.get(place, 0.0) for place in self.places] + [0.0] * len(self.genes))

    def of_gene(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation of the gain of one gene."""
        return self._effect([0.0] * len(self.places) + [float(gene == name) for gene in self.genes])

    def _effect(self, weights: list[float]) -> tuple[float, float]:
        return self.model.effect(np.array(weights)) if self.model else (0.0, 0.0)


def fit_gains(evaluations: pd.DataFrame, metric: Metric = ACCURACY) -> Gains:
    """Fit the model to every complete evaluation on the validation split at the highest fidelity, fresh seeds included.

    ``evaluations`` has one row per evaluation, of any purpose. A gain is an improvement, whichever way the metric goes.
    """
    rows = evaluations[(evaluations["state"] == COMPLETE) & (evaluations["purpose"] != TEST)]
    rows = rows[rows["fidelity"] == rows["fidelity"].max()]
    placements = all_placements(rows["architecture"])
    y_N = metric.sign * rows[metric.name].to_numpy(float)
    places, place_NP = _place_columns(placements)
    genes, gene_NP = _gene_columns(placements)
    model = bayesian_linear(np.hstack([place_NP, gene_NP]), y_N) if len(y_N) > 1 else None
    counts = tuple(int(column.sum()) for column in place_NP.T)
    return Gains(tuple(placements), y_N, tuple(places), counts, tuple(genes), model)


def features(placements: Sequence[tuple[Written, ...]]) -> Array:
    """What the model sees of architectures: (N, P), which type each stage has, and the genes that vary."""
    return np.hstack([_place_columns(placements)[1], _gene_columns(placements)[1]])


def gain_table(gains: Gains, added_flops: Callable[[int, Sequence[Written]], Array]) -> pd.DataFrame:
    """One row per (stage, type): what it gains against no attention there, alone and per million FLOPs.

    ``added_flops(stage, placements)`` gives the FLOPs that each of these placements adds at a stage, counted from 0.
    Columns: ``stage`` (from 1), ``type``, ``evaluations`` that have it, ``gain`` in the metric's unit with its 95 % interval
    ``low`` to ``high``, ``probability`` of a gain above 0, ``megaflops`` added on average, and ``gain_per_megaflop`` with
    its interval, which is missing where attention adds no FLOPs.
    """
    rows = []
    for place, count in zip(gains.places, gains.counts, strict=True):
        if gains.model is None:
            break
        stage, name = place
        seen = [one[stage] for one in gains.placements if one[stage].type == name]
        cost = float(added_flops(stage, seen).mean()) / 1e6
        gain, std = gains.of({place: 1.0})
        divisor = cost if cost > 0 else np.nan
        rows.append(
            {
                "stage": stage + 1,
                "type": name,
                "evaluations": count,
                "gain": gain,
                "low": gain - Z * std,
                "high": gain + Z * std,
                "probability": float(ndtr(gain / std)) if std > 0 else 0.5,
                "megaflops": cost,
                "gain_per_megaflop": gain / divisor,
                "low_per_megaflop": (gain - Z * std) / divisor,
                "high_per_megaflop": (gain + Z * std) / divisor,
            }
        )
    columns = ["stage", "type", "evaluations", "gain", "low", "high", "probability", "megaflops", "gain_per_megaflop"]
    return pd.DataFrame(rows, columns=[*columns, "low_per_megaflop", "high_per_megaflop"])


def gene_table(gains: Gains) -> pd.DataFrame:
    """One row per gene that varies: ``gain`` in the metric's unit with its 95 % interval ``low`` to ``high``."""
    rows = []
    for name in gains.genes:
        if gains.model is None:
            break
        gain, std = gains.of_gene(name)
        rows.append({"gene": name, "gain": gain, "low": gain - Z * std, "high": gain + Z * std})
    return pd.DataFrame(rows, columns=["gene", "gain", "low", "high"])


def _place_columns(placements: Sequence[tuple[Written, ...]]) -> tuple[list[Place], Array]:
    """One column per (stage, type) that any of them has."""
    stages = len(placements[0]) if placements else 0
    places = sorted({(s, one[s].type) for one in placements for s in range(stages) if not one[s].is_none})
    found = np.array([[float(one[s].type == name) for s, name in places] for one in placements])
    return places, found.reshape(len(placements), len(places))


def _gene_columns(placements: Sequence[tuple[Written, ...]]) -> tuple[list[str], Array]:
    """One column per gene, summed over stages and centred within each type, so that types and genes do not mix."""
    names, columns = [], []
    for name, read in readings(GENES).items():
        values = [[read(p) for p in one] for one in placements]
        by_type: dict[tuple[int, str], list[float]] = {}
        for one, row in zip(placements, values, strict=True):
            for s, value in enumerate(row):
                if value is not None:
                    by_type.setdefault((s, one[s].type), []).append(value)
        centre = {place: float(np.mean(found)) for place, found in by_type.items()}
        column = [
            sum(v - centre[s, one[s].type] for s, v in enumerate(row) if v is not None)
            for one, row in zip(placements, values, strict=True)
        ]
        if np.ptp(column) > 1e-9:
            names.append(name)
            columns.append(column)
    return names, np.array(columns, dtype=float).reshape(len(names), len(placements)).T


def readings(genes: Sequence[Gene]) -> dict[str, Callable[[Written], float | None]]:
    """What a placement has of each gene and of its site, as numbers, by the name of the effect; None: it has no such gene."""

    def of_gene(gene: Gene, read: Callable[[Value], float]) -> Callable[[Written], float | None]:
        return lambda placement: None if (value := placement.genes.get(gene.name)) is None else read(value)

    def of_site(site: str) -> Callable[[Written], float | None]:
        return lambda placement: None if placement.site is None else float(placement.site.partition("/")[0] == site)

    first, *others = SITES
    found = {name: of_gene(gene, read) for gene in genes for name, read in gene.readings().items()}
    return found | {f"site {site} instead of {first}": of_site(site) for site in others}
