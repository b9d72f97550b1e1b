"""What a run knows of true values: one posterior from its search, its fresh seeds and its baselines, and what that recommends.

A score of the search is one draw, and the best of many draws is a lucky one. The model takes every training at full length,
with the metric signed so that more is better:

    y_ij = x_i b + u_i + e_ij,    b ~ Normal(0, tau^2 I),    u_i ~ Normal(0, omega^2),    e_ij ~ Normal(0, sigma^2)

for seed j of architecture i: its features x (what types, genes and sites add, see ``search.gains``), what these leave over, and
the seed. Seeds of the search and fresh ones count alike. The three deviations are integrated over a grid with a prior that is
flat in their logarithms (Gelman et al., Bayesian Data Analysis, 3rd ed., ch. 5); the draws of true values are exact given them.

Letters: A architectures, P features, D draws, H combinations of the deviations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from evaluators.metric import Metric
from search.front import ACCURACY
from search.gains import features
from search.pareto import non_dominated
from search.store import COMPLETE, CONFIRM, RANDOM, SEARCH, TEST, cost_columns
from spaces.written import all_placements

Array = NDArray[np.float64]
DRAWS = 2000
FITTED = 300  # architectures by which the deviations are judged; those with several seeds first
SPREADS = np.logspace(-1.5, 0.5, 9)  # of each deviation, in units of the scores' own
SURE = 0.975  # of being better: where the 95 % interval of the difference excludes zero
EXPECTED, LOW, HIGH = "expected", "expected_low", "expected_high"


@dataclass(frozen=True)
class Evidence:
    """``rows``: one per architecture that was trained; ``draws_DA`` of their true values in that order, more is better.

    Columns of ``rows``: architecture; METRIC, the mean of all its seeds, METRIC_std and ``seeds``; ``search_METRIC``, what it
    reached in the search (the mean of its ``search_seeds``); ``fresh_METRIC``, the mean of its ``fresh_seeds``;
    ``random_seeds``; ``expected`` with its 95 % interval ``expected_low`` to ``expected_high``, of the true mean over seeds;
    ``fidelity`` and the costs.
    """

    rows: pd.DataFrame
    draws_DA: Array
    metric: Metric

    def probability(self, first: str, second: str) -> float:
        """That one architecture is truly better than another."""
        return float(self._better(first, self.rows["architecture"] == second)[0])

    def _better(self, text: str, others_A: NDArray[np.bool_] | pd.Series) -> Array:
        """The probabilities that an architecture is truly better than each of some others."""
        own_D1 = self.draws_DA[:, (self.rows["architecture"] == text).to_numpy()]
        return np.asarray((own_D1 > self.draws_DA[:, np.asarray(others_A)]).mean(axis=0))

    def best(self, rows: pd.DataFrame) -> pd.Series:
        """Of some of ``rows`` the one with the best expected value, of equal ones the one with the least FLOPs."""
        return rows.sort_values([EXPECTED, "flops"], ascending=[self.metric.sign < 0, True], kind="stable").iloc[0]

    def front(self, costs: Sequence[str], rows: pd.DataFrame | None = None) -> pd.DataFrame:
        """Of some rows, else of all, those that no other beats in expected value and costs, by rising cost."""
        found = (self.rows if rows is None else rows).dropna(subset=list(costs))
        if found.empty:
            return found
        points_NM = np.column_stack([-self.metric.sign * found[EXPECTED], found[list(costs)].to_numpy(float)])
        return found[non_dominated(points_NM)].sort_values(list(costs), kind="stable", ignore_index=True)

    def staircase(self, cost: str) -> list[str]:
        """Every architecture that ``best`` gives under some limit of one cost, by rising limit."""
        found: list[str] = []
        top: tuple[float, float] | None = None
        for row in self.rows.dropna(subset=[cost]).sort_values([cost, "flops"], kind="stable").to_dict("records"):
            place = (-self.metric.sign * row[EXPECTED], row["flops"])
            if top is None or place < top:
                top = place
                found.append(str(row["architecture"]))
        return found

    def reason(self, row: Mapping[Any, Any], costs: Sequence[str]) -> str:
        """What speaks for an architecture, in words: its expected value, the seeds behind it, and a cheaper one like it."""
        kinds = {"search": "seed{} of the search", "fresh": "fresh seed{}", "random": "seed{} of random search"}
        counts = {words: int(row[f"{kind}_seeds"]) for kind, words in kinds.items()}
        seeds = " and ".join(f"{count} {words.format('s' * (count > 1))}" for words, count in counts.items() if count)
        words = (
            f"expected {self.metric.name} {self.metric.told(row[EXPECTED])}, 95 % interval "
            f"{self.metric.interval(row[LOW], row[HIGH])}, from {seeds} and what similar ones reached"
        )
        rival = self.rival(row, costs)
        if rival is None:
            return words
        sure = self.probability(str(row["architecture"]), rival)
        return f"{words}; {rival} costs less and cannot be told apart from it: it is worse with a probability of {sure:.2f}"

    def rival(self, row: Mapping[Any, Any], costs: Sequence[str]) -> str | None:
        """The cheapest architecture that costs less than another and cannot be told apart from it; None: it beats them all."""
        names = list(costs)
        own_M, all_AM = np.array([row[cost] for cost in names], dtype=float), self.rows[names].to_numpy(float)
        cheaper_A = np.asarray(np.all(all_AM <= own_M, axis=1) & np.any(all_AM < own_M, axis=1), dtype=bool)
        cheaper_A[cheaper_A] = self._better(str(row["architecture"]), cheaper_A) < SURE
        alike = self.rows.loc[cheaper_A]
        return None if alike.empty else str(alike.sort_values(names, kind="stable")["architecture"].iloc[0])


def gather(evaluations: pd.DataFrame, metric: Metric = ACCURACY) -> Evidence:
    """What the complete evaluations at the highest fidelity tell together, those of the test split apart.

    Where the search scored in another way than fresh seeds are trained (a supernet, a proxy), its scores do not compare with
    theirs: then what was trained as the fresh seeds were counts alone, and without any what was scored as in the search.
    """
    rows = evaluations[(evaluations["state"] == COMPLETE) & (evaluations["purpose"] != TEST)]
    for purpose in (CONFIRM, SEARCH):
        if (leading := rows["purpose"] == purpose).any():
            rows = rows[rows["identity"].isin(rows.loc[leading, "identity"])]
            break
    rows = rows[rows["fidelity"] == rows["fidelity"].max()]
    purposes = {"search": SEARCH, "fresh": CONFIRM, "random": RANDOM}
    rows = rows.assign(**{f"{word}_seeds": (rows["purpose"] == one).astype("int64") for word, one in purposes.items()})
    groups = rows.groupby("architecture", sort=False)
    found = groups.agg(
        **{
            metric.name: (metric.name, "mean"),
            f"{metric.name}_std": (metric.name, "std"),
            "seeds": (metric.name, "size"),
            **{f"{word}_seeds": (f"{word}_seeds", "sum") for word in purposes},
            "fidelity": ("fidelity", "first"),
            **{cost: (cost, "first") for cost in cost_columns(evaluations, metric.name)},
        }
    ).reset_index()
    draws_DA = posterior(
        found["architecture"].tolist(), [metric.sign * group.to_numpy(float) for _, group in groups[metric.name]]
    )
    low_A, high_A = np.quantile(draws_DA, [0.025, 0.975], axis=0) if len(found) else (np.empty(0), np.empty(0))
    for word in ("search", "fresh"):
        means = rows[rows[f"{word}_seeds"] == 1].groupby("architecture")[metric.name].mean()
        found[f"{word}_{metric.name}"] = found["architecture"].map(means).astype(float)
    ends = (low_A, high_A) if metric.sign > 0 else (-high_A, -low_A)
    found[EXPECTED] = metric.sign * draws_DA.mean(axis=0)
    found[LOW], found[HIGH] = ends
    return Evidence(found, draws_DA, metric)


def posterior(texts: Sequence[str], values: Sequence[Array], *, draws: int = DRAWS, seed: int = 0) -> Array:
    """Draws (D, A) of the true values of architectures, from the scores of the seeds of each."""
    if not texts:
        return np.empty((draws, 0))
    mean_A = np.array([value.mean() for value in values])
    count_A = np.array([len(value) for value in values], dtype=float)
    squares = sum(float(((value - value.mean()) ** 2).sum()) for value in values)
    centre = float(np.average(mean_A, weights=count_A))
    scale = float(np.std(np.concatenate(values))) or 1e-9
    y_A, within = (mean_A - centre) / scale, squares / scale**2
    x_AP = features(all_placements(texts))
    x_AP = np.hstack([x_AP - x_AP.mean(axis=0), np.full((len(texts), 1), 10.0)])  # the last is a mean, as good as free
    rng = np.random.default_rng(seed)
    some = np.argsort(-count_A + rng.random(len(texts)), kind="stable")[:FITTED]
    freedom = float(count_A.sum() - len(texts))
    seeds = SPREADS
    if freedom and within:  # then seeds tell their deviation, the better the more there are
        seeds = np.sqrt(within / freedom) * np.exp(np.linspace(-3, 3, len(SPREADS)) / np.sqrt(2 * freedom))
    grid_H3 = np.array([*product(SPREADS, SPREADS, seeds)])
    log_H = np.array(
        [_evidence(x_AP[some], y_A[some], count_A[some], within, freedom, *row) for row in grid_H3.tolist()]
    )
    weight_H = np.exp(log_H - log_H.max())
    # Two draws at a time that mirror each other, spread evenly over the weights: so the mean of all draws, by which is chosen,
    # has next to no chance in it.
    couples = -(-draws // 2)
    ends_H = np.cumsum(weight_H / weight_H.sum())
    places = (np.arange(couples) + 0.5) / couples
    drawn = np.bincount(np.searchsorted(ends_H[:-1], places, side="right"), minlength=len(grid_H3))
    parts = []
    for h in np.flatnonzero(drawn):
        tau, omega, sigma = grid_H3[h].tolist()
        parts.append(_draw(x_AP, y_A, count_A, tau, omega, sigma, int(drawn[h]), rng))
    return centre + scale * np.concatenate(parts)[:draws]


def _coefficients(x_AP: Array, y_A: Array, spread_A: Array, tau: float) -> tuple[Array, Array]:
    """The mean (P,) of b and the lower factor (P, P) of its precision, where y ~ Normal(x b, spread)."""
    weighted_AP = x_AP / spread_A[:, None]
    precision_PP = x_AP.T @ weighted_AP
    precision_PP[np.diag_indices(len(precision_PP))] += 1 / tau**2
    factor_PP = cholesky(precision_PP, lower=True)
    return cho_solve((factor_PP, True), weighted_AP.T @ y_A), factor_PP


def _evidence(
    x_AP: Array, y_A: Array, count_A: Array, within: float, freedom: float, tau: float, omega: float, sigma: float
) -> float:
    """The logarithm of the likelihood of the deviations: of the means over seeds, and of the seeds around them."""
    spread_A = omega**2 + sigma**2 / count_A
    mean_P, factor_PP = _coefficients(x_AP, y_A, spread_A, tau)
    rest_A = y_A - x_AP @ mean_P
    between = (rest_A**2 / spread_A).sum() + (mean_P**2).sum() / tau**2 + np.log(spread_A).sum()
    between += 2 * np.log(np.diag(factor_PP)).sum() + 2 * len(mean_P) * np.log(tau)
    return float(-0.5 * (between + within / sigma**2) - freedom * np.log(sigma))


def _draw(
    x_AP: Array,
    y_A: Array,
    count_A: Array,
    tau: float,
    omega: float,
    sigma: float,
    couples: int,
    rng: np.random.Generator,
) -> Array:
    """Draws (2 * couples, A) of x b + u given the deviations; each has its mirror image at their mean."""
    mean_P, factor_PP = _coefficients(x_AP, y_A, omega**2 + sigma**2 / count_A, tau)
    noise_PD = solve_triangular(factor_PP, rng.standard_normal((len(mean_P), couples)), lower=True, trans="T")
    precision_A = 1 / omega**2 + count_A / sigma**2
    share_A = count_A / sigma**2 / precision_A  # of its own scores in an architecture's value; the rest is of the line
    mean_A = x_AP @ mean_P
    mean_A += share_A * (y_A - mean_A)
    away_DA = (1 - share_A) * (x_AP @ noise_PD).T + rng.standard_normal((couples, len(y_A))) / np.sqrt(precision_A)
    return np.concatenate([mean_A + away_DA, mean_A - away_DA])
