"""Accuracies of which only an upper bound counts: which they are, and what a Gaussian process may take in their place.

A candidate improves a front by what its accuracy exceeds A(c), the best at no more cost: max(a, floor) with any floor below
A(c) gives the same improvement as a does. How far below the floor an accuracy lies may therefore be left out of the model,
where it does harm: a long lower tail (cells without a path, trainings that diverged) widens what the model expects upwards.
Such an accuracy counts as censored (Tobin, 1958): all that is known is "at most the floor". Posterior by expectation
propagation: Groot and Lucas, 2012. Shapes: N trials, M costs.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import log_ndtr

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FENCE = 3.0  # a gap to the best at no more cost that is more than so many times the median gap is of a tail
ROUNDS = 8  # of expectation propagation, each site half replaced
LEAST = 1e-6  # precision of a site that says nothing


def floors(costs_NM: Array, accuracy_N: Array, measured_N: Mask) -> Array:
    """Floors (N,) of accuracies (N,): the best measured one at no more cost, minus FENCE times the median gap to it.

    Trials that are the best themselves have no gap. Most accuracies are above their floors; without a long tail, all.
    """
    known_NN = (costs_NM[None] <= costs_NM[:, None]).all(axis=2) & measured_N[None]  # trial j costs no more than i
    known_NN |= np.eye(len(costs_NM), dtype=bool)
    best_N = np.where(known_NN, accuracy_N[None], -np.inf).max(axis=1)
    gap_N = best_N - accuracy_N
    return np.asarray(best_N - FENCE * np.median(gap_N[gap_N > 0]) if (gap_N > 0).any() else accuracy_N)


def pseudo_observations(covariance_NN: Array, z_N: Array, censored_N: Mask) -> tuple[Array, Array]:
    """Values (N,) and variances (N,), on top of the covariance's, that act like "at most z" where ``censored_N``.

    ``covariance_NN`` holds the noise. Elsewhere the values are z and the variances 0.
    """
    precision_N, weighted_N = np.zeros(len(z_N)), np.zeros(len(z_N))  # of the sites, by their natural parameters
    value_N, variance_N = z_N, np.where(censored_N, 1 / LEAST, 0.0)
    for _ in range(ROUNDS if censored_N.any() else 0):
        inverse_NN = inverse(np.linalg.cholesky(covariance_NN + np.diag(variance_N)))
        diagonal_N = np.diag(inverse_NN)
        mean_N = value_N - (inverse_NN @ value_N) / diagonal_N  # without the trial's own site
        square_N = np.maximum(1 / diagonal_N - variance_N, 1e-8)
        sd_N = np.sqrt(square_N)
        bound_N = (z_N - mean_N) / sd_N
        ratio_N = np.exp(-0.5 * bound_N**2 - log_ndtr(bound_N)) / np.sqrt(2 * np.pi)
        cut_mean_N = mean_N - sd_N * ratio_N  # moments of the Gaussian that is cut off at z
        cut_square_N = np.maximum(square_N * (1 - ratio_N * (bound_N + ratio_N)), 1e-3 * square_N)
        new_N = np.maximum(1 / cut_square_N - 1 / square_N, LEAST)
        new_weighted_N = np.where(new_N > LEAST, cut_mean_N / cut_square_N - mean_N / square_N, LEAST * mean_N)
        precision_N = np.maximum(0.5 * (precision_N + new_N), LEAST)
        weighted_N = 0.5 * (weighted_N + new_weighted_N)
        variance_N = np.where(censored_N, 1 / precision_N, 0.0)
        value_N = np.where(censored_N, weighted_N / precision_N, z_N)
    return value_N, variance_N


def inverse(factor_NN: Array) -> Array:
    """The inverse (N, N) of a matrix, from its lower Cholesky factor."""
    low_NN = np.tril(lapack.dpotri(factor_NN, lower=1)[0])
    return np.asarray(low_NN + np.tril(low_NN, -1).T)
