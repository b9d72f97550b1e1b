"""Posteriors of fresh seeds, the probability of the front, racing, and the tests between runs."""

import numpy as np
import pytest

from search.statistics import coverage, front_probability, hypervolume_draws, next_seed, permutation_test, posterior


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for trial in range(300):
        truth_N = rng.normal(0.8, 0.05, size=4)
        values = [list(truth + 0.02 * rng.standard_normal(3)) for truth in truth_N]
        low_N, high_N = posterior(values, draws=800, seed=trial).interval(0.9)
        inside += list((low_N <= truth_N) & (truth_N <= high_N))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.03)


def test_the_probability_of_the_front_is_calibrated() -> None:
    rng = np.random.default_rng(1)
    costs_N1 = np.arange(4.0)[:, None]
    said, was = [], []
    for trial in range(300):
        truth_N = 0.8 + 0.02 * rng.standard_normal(4)
        values = [list(truth + 0.02 * rng.standard_normal(3)) for truth in truth_N]
        said += list(front_probability(posterior(values, draws=500, seed=trial).draws_DN, costs_N1))
        was += [bool((truth_N[i] > truth_N[:i]).all()) for i in range(4)]
    said_A, was_A = np.array(said), np.array(was)
    for low, high in ((0.1, 0.5), (0.5, 0.9), (0.95, 1.01)):
        bucket = (said_A >= low) & (said_A < high)
        assert was_A[bucket].mean() == pytest.approx(said_A[bucket].mean(), abs=0.1)


def test_the_cheapest_is_always_on_the_front_and_a_dominated_one_never() -> None:
    draws_DN = np.array([[0.5, 0.9, 0.6], [0.5, 0.8, 0.7]])
    assert front_probability(draws_DN, np.array([[1.0], [2.0], [3.0]])).tolist() == [1.0, 1.0, 0.0]


def test_one_seed_each_says_nothing() -> None:
    with pytest.raises(ValueError, match="two"):
        posterior([[0.5], [0.6]])


def race(truth: list[float], noise: float, seeds: int) -> list[int]:
    rng = np.random.default_rng(2)
    values: list[list[float]] = [[] for _ in truth]
    costs_N1 = np.arange(float(len(truth)))[:, None]
    while (chosen := next_seed(values, [0] * len(truth), costs_N1, seeds=seeds)) is not None:
        values[chosen].append(truth[chosen] + noise * rng.standard_normal())
    return [len(value) for value in values]


def test_seeds_go_where_domination_is_uncertain() -> None:
    counts = race([0.5, 0.7, 0.701, 0.9, 0.2], noise=0.01, seeds=6)
    assert sum(counts) <= 30
    assert min(counts) >= 2
    assert counts[1] + counts[2] > counts[3] + counts[4]
    assert counts[4] == 2


def test_a_decided_race_ends_early() -> None:
    assert race([0.5, 0.6, 0.7, 0.8], noise=0.001, seeds=10) == [2, 2, 2, 2]


def test_running_trainings_count() -> None:
    assert next_seed([[], []], [2, 2], np.array([[1.0], [2.0]]), seeds=2) is None
    assert next_seed([[], []], [2, 0], np.array([[1.0], [2.0]]), seeds=2) == 1


def test_hypervolume_of_draws() -> None:
    draws_DN = np.array([[0.5, 0.8], [0.5, 0.4]])
    assert hypervolume_draws(draws_DN, np.array([1.0, 2.0]), (3.0, 0.0)).tolist() == pytest.approx([1.3, 1.0])


def test_coverage_and_the_permutation_test() -> None:
    assert coverage(np.array([[1.0, 1.0]]), np.array([[2.0, 2.0], [0.5, 3.0]])) == 0.5
    assert permutation_test([1, 2, 3], [11, 12, 13]) == pytest.approx(2 / 20)
    assert permutation_test([1.0, 2.0], [1.0, 2.0]) == 1.0
    rng = np.random.default_rng(3)
    assert permutation_test(list(rng.normal(size=12)), list(rng.normal(size=12) + 3)) < 0.001
