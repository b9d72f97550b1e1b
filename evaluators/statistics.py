"""How far to trust an accuracy: its spread over seeds, and whether two rungs of the ladder agree on an order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Several seeds of one architecture; std is the sample's (0 for one seed), low and high bound the mean."""

    mean: float
    std: float
    low: float
    high: float
    seeds: int


def summarize(values: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Summary:
    """Mean, standard deviation and percentile bootstrap interval of the mean (Efron 1979); the seed fixes the resampling."""
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or len(sample) == 0 or not np.isfinite(sample).all():
        raise ValueError(f"summarize needs at least one finite value, not {list(values)!r}")
    rows = np.random.default_rng(seed).integers(0, len(sample), size=(resamples, len(sample)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(sample[rows].mean(1), [tail, 1 - tail])
    std = float(sample.std(ddof=1)) if len(sample) > 1 else 0.0
    return Summary(float(sample.mean()), std, float(low), float(high), len(sample))


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two scores of the same architectures: 1 same order, 0 unrelated, -1 reversed; ties are allowed."""
    from scipy import stats  # a second and a half, for whoever compares ranks

    return float(stats.kendalltau(*_paired(first, second)).statistic)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation of two scores of the same architectures."""
    from scipy import stats

    return float(stats.spearmanr(*_paired(first, second)).statistic)


def _paired(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"two equally long lists of at least 2 scores are needed, not {len(first)} and {len(second)}")
    return np.asarray(first, dtype=float), np.asarray(second, dtype=float)
