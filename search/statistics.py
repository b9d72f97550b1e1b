"""What fresh seeds tell: posteriors of true accuracies, the probability of being non-dominated, and where the next seed helps.

Letters: N architectures, M costs, D draws. All architectures share one variance between seeds, so that three seeds each are
enough to know it: with s^2 the pooled sample variance and f = sum(n_i - 1) its degrees of freedom, and flat priors,

    sigma^2 ~ f s^2 / chi^2_f,    mu_i | sigma ~ Normal(mean_i, sigma^2 / n_i).

Racing in the manner of Maron and Moore (Hoeffding races, 1994): what is decided gets no more seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from search.pareto import as_points, hypervolume

Array = NDArray[np.float64]
DRAWS = 4000
DECIDED = 0.05  # a probability below this, or above 1 minus this, is decided


@dataclass(frozen=True)
class Posterior:
    """Draws (D, N) of the true mean accuracy of N architectures, and the pooled deviation between seeds."""

    draws_DN: Array
    deviation: float

    @property
    def mean_N(self) -> Array:
        return self.draws_DN.mean(axis=0)

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array]:
        """Lower and upper ends (N,) of the central interval of each true accuracy."""
        low_N, high_N = np.quantile(self.draws_DN, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        return low_N, high_N


def posterior(values: Sequence[Sequence[float]], *, draws: int = DRAWS, seed: int = 0) -> Posterior:
    """The posterior of N true accuracies from the values of their seeds.

    Raises ValueError where an architecture has no value, or none has two: then nothing is known of the spread.
    """
    samples = [np.asarray(value, dtype=float) for value in values]
    counts_N = np.array([len(sample) for sample in samples])
    freedom = int((counts_N - 1).sum())
    if len(samples) == 0 or counts_N.min() < 1 or freedom < 1:
        raise ValueError("every architecture needs a seed, and one of them two")
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
    rng = np.random.default_rng(seed)
    sigma_D = np.sqrt(squares / rng.chisquare(freedom, size=draws))
    mean_N = np.array([sample.mean() for sample in samples])
    noise_DN = rng.standard_normal((draws, len(samples)))
    return Posterior(mean_N + noise_DN * sigma_D[:, None] / np.sqrt(counts_N), float(np.sqrt(squares / freedom)))


def cheaper(costs_NM: Array) -> NDArray[np.bool_]:
    """(N, N): whether i costs no more than j in every respect, i and j apart."""
    costs_NM = as_points(costs_NM)
    less_NN: NDArray[np.bool_] = np.all(costs_NM[:, None] <= costs_NM[None], axis=2)
    return less_NN & ~np.eye(len(costs_NM), dtype=bool)


def front_probability(draws_DN: Array, costs_NM: Array) -> Array:
    """The probability (N,) that no architecture of the same or lower cost is truly more accurate."""
    less_NN = cheaper(costs_NM)
    best_DN = np.stack(
        [draws_DN[:, rivals].max(axis=1) if rivals.any() else np.full(len(draws_DN), -np.inf) for rivals in less_NN.T],
        axis=1,
    )
    return (draws_DN > best_DN).mean(axis=0)


def next_seed(
    values: Sequence[Sequence[float]],
    pending: Sequence[int],
    costs_NM: Array,
    *,
    seeds: int,
) -> int | None:
    """Which architecture is trained with one more seed; None when the race is over.

    Everyone gets two seeds first. Then the next goes where it narrows an undecided comparison most, up to ``seeds`` per
    architecture on average and three times as many for one, as long as a comparison is undecided.
    """
    counts_N = np.array([len(value) for value in values]) + np.array(pending)
    first = min(2, seeds)
    if (counts_N < first).any():
        return int(np.argmin(counts_N))
    if counts_N.sum() >= seeds * len(counts_N) or any(len(value) < 1 for value in values):
        return None
    if sum(len(value) - 1 for value in values) < 1:
        return None
    draws_DN = posterior(values, draws=1000).draws_DN
    front_N = front_probability(draws_DN, costs_NM)
    if ((front_N < DECIDED) | (front_N > 1 - DECIDED)).all():
        return None
    doubt_NN = np.zeros((len(counts_N), len(counts_N)))
    for i, j in zip(*np.nonzero(cheaper(costs_NM)), strict=True):
        wins = float((draws_DN[:, i] > draws_DN[:, j]).mean())
        doubt_NN[i, j] = doubt_NN[j, i] = max(doubt_NN[i, j], wins * (1 - wins) * max(front_N[i], front_N[j]))
    score_N = doubt_NN.sum(axis=1) / (counts_N * (counts_N + 1))
    score_N[counts_N >= 3 * seeds] = 0
    return int(np.argmax(score_N)) if score_N.max() > 0 else None


def hypervolume_draws(draws_DN: Array, cost_N: Array, reference: tuple[float, float], limit: int = 500) -> Array:
    """The hypervolume (D,) of a set of architectures for each draw; reference = (cost, accuracy), the worst of both."""
    points = (np.column_stack([cost_N, -row_N]) for row_N in draws_DN[:limit])
    return np.array([hypervolume(points_N2, (reference[0], -reference[1])) for points_N2 in points])


def coverage(first_NM: Array, second_NM: Array) -> float:
    """C(A, B) of Zitzler and Thiele (1998): the share of B that some point of A weakly dominates; everything minimised."""
    first_NM, second_NM = as_points(first_NM), as_points(second_NM)
    return float((first_NM[:, None] <= second_NM[None]).all(axis=2).any(axis=0).mean()) if len(second_NM) else 0.0


def permutation_test(first: Sequence[float], second: Sequence[float], *, limit: int = 20000) -> float:
    """Two-sided p-value of a difference in means by exchanging labels (Fisher 1935): exact while there are few ways."""
    pooled = np.array([*first, *second], dtype=float)
    n, total = len(first), len(pooled)
    if not 0 < n < total:
        raise ValueError("a test needs values on both sides")
    observed = abs(np.mean(first) - np.mean(second))
    ways = list(combinations(range(total), n)) if total <= 16 else []
    if not ways:
        rng = np.random.default_rng(0)
        ways = [tuple(rng.permutation(total)[:n]) for _ in range(limit)]
    sums = np.array([pooled[list(way)].sum() for way in ways])
    differences = np.abs(sums / n - (pooled.sum() - sums) / (total - n))
    return float((differences >= observed - 1e-12).mean())
