"""Posteriors of fresh seeds, the probability of the front, racing, and the tests between runs."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t

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


def test_the_interval_is_that_of_student() -> None:
    """The central 95 % where nothing is said: mean and t times s / sqrt(n), the deviation pooled over both."""
    values = [[0.7, 0.72, 0.77, 0.73], [0.5, 0.58]]
    made = posterior(values, draws=200_000)
    assert made.deviation == pytest.approx(np.sqrt((0.0026 + 0.0032) / 4))
    for level, interval in ((0.975, made.interval()), (0.75, made.interval(0.5))):
        for low, high, value in zip(*interval, values, strict=True):
            reach = t.ppf(level, 4) * made.deviation / np.sqrt(len(value))
            assert (low, high) == pytest.approx((np.mean(value) - reach, np.mean(value) + reach), abs=0.02 * reach)
    assert np.allclose(made.mean_N, [0.73, 0.54], atol=1e-3)
    assert len(posterior(values).draws_DN) == 4000


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


def test_architectures_of_equal_cost_are_rivals() -> None:
    draws_DN = np.array([[0.5, 0.9], [0.5, 0.4], [0.5, 0.6], [0.5, 0.7]])
    assert front_probability(draws_DN, np.ones((2, 1))).tolist() == [0.25, 0.75]
    assert front_probability(draws_DN, np.array([[1.0, 2.0], [2.0, 1.0]])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("values", [[[0.5], [0.6]], [[0.5, 0.6], []], []])
def test_one_seed_each_says_nothing(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"^every architecture needs a seed, and one of them two$"):
        posterior(values)


def test_draws_are_the_same_every_time() -> None:
    values = [[0.5, 0.6]]
    first, second, other = (posterior(values, draws=50, **seed).draws_DN for seed in ({}, {"seed": 0}, {"seed": 1}))
    assert first.tolist() == second.tolist()
    assert (first != other).all()


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


def chosen_by_the_rule(values: list[list[float]], costs_NM: np.ndarray) -> int | None:
    """The doubt of every comparison, times what one more seed takes from the variance of a mean."""
    draws_DN, several = posterior(values, draws=1000).draws_DN, range(len(values))
    rivals = [[j for j in several if j != i and (costs_NM[j] <= costs_NM[i]).all()] for i in several]
    front = [np.mean([all(draw[i] > draw[j] for j in rivals[i]) for draw in draws_DN]) for i in several]
    if all(probability < 0.05 or probability > 0.95 for probability in front):
        return None
    worth = [0.0 for _ in several]
    for i in several:
        for j in several[:i]:
            if j in rivals[i] or i in rivals[j]:
                wins = np.mean(draws_DN[:, i] > draws_DN[:, j])
                for one in (i, j):
                    seeds = len(values[one])
                    worth[one] += wins * (1 - wins) * max(front[i], front[j]) * (1 / seeds - 1 / (seeds + 1))
    return int(np.argmax(worth))


def test_a_seed_goes_where_it_takes_most_doubt() -> None:
    rng = np.random.default_rng(4)
    found = []
    for _ in range(40):
        truth = rng.normal(0.8, 0.01, size=4)
        values = [list(one + 0.01 * rng.standard_normal(rng.integers(2, 9))) for one in truth]
        costs_NM = rng.integers(0, 3, size=(4, 2)).astype(float)
        found.append(next_seed(values, [0] * 4, costs_NM, seeds=10))
        assert found[-1] == chosen_by_the_rule(values, costs_NM)
    assert set(found) == {None, 0, 1, 2, 3}


@pytest.mark.parametrize(("gap", "over"), [(0.0155, False), (0.0195, True)])
def test_what_is_sure_to_nineteen_in_twenty_is_decided(gap: float, over: bool) -> None:
    """Two of three seeds each: their difference has a t distribution of 4 degrees of freedom."""
    values = [[0.79, 0.8, 0.81], [0.79 + gap, 0.8 + gap, 0.81 + gap]]
    assert (t.cdf(gap / np.sqrt(2 * 0.01**2 / 3), 4) > 0.95) == over
    chosen = next_seed(values, [0, 0], np.array([[1.0], [2.0]]), seeds=4)
    assert (chosen is None) == over


def test_no_architecture_gets_more_than_three_times_its_share() -> None:
    """Nine that are decided with two seeds, and two that no number of seeds tells apart."""
    costs_N1 = np.arange(11.0)[:, None]
    decided = [[0.1 + 0.05 * i, 0.1001 + 0.05 * i] for i in range(9)]
    for many, more in ((11, True), (12, False)):
        same = [0.9 + 1e-4 * (-1) ** i for i in range(many)]
        assert next_seed([*decided, same, same], [0] * 11, costs_N1, seeds=4) in ((9, 10) if more else (None,))
    others = [[0.95 - 1e-4, 0.95 + 1e-4]] * 2
    assert next_seed([*decided, same, same, *others], [0] * 13, np.arange(13.0)[:, None], seeds=4) in (11, 12)


def test_a_decided_race_ends_early() -> None:
    assert race([0.5, 0.6, 0.7, 0.8], noise=0.001, seeds=10) == [2, 2, 2, 2]


def test_running_trainings_count() -> None:
    assert next_seed([[], []], [2, 2], np.array([[1.0], [2.0]]), seeds=2) is None
    assert next_seed([[], []], [2, 0], np.array([[1.0], [2.0]]), seeds=2) == 1
    for waiting in ([[0.5], [0.5]], [[0.5, 0.51], []]):  # of no spread, or of one of them, is anything known yet
        assert next_seed(waiting, [2 - len(value) for value in waiting], np.array([[1.0], [2.0]]), seeds=9) is None
    assert next_seed([[0.5, 0.51], [0.5]], [0, 1], np.array([[1.0], [2.0]]), seeds=9) in (0, 1)


def test_hypervolume_of_draws() -> None:
    draws_DN = np.array([[0.5, 0.8], [0.5, 0.4]])
    assert hypervolume_draws(draws_DN, np.array([1.0, 2.0]), (3.0, 0.0)).tolist() == pytest.approx([1.3, 1.0])
    assert hypervolume_draws(draws_DN, np.array([1.0, 2.0]), (3.0, 0.3)).tolist() == pytest.approx([0.7, 0.4])
    assert len(hypervolume_draws(np.tile(draws_DN, (300, 1)), np.array([1.0, 2.0]), (3.0, 0.0))) == 500


def test_coverage() -> None:
    assert coverage(np.array([[1.0, 1.0]]), np.array([[2.0, 2.0], [0.5, 3.0]])) == 0.5
    assert coverage(np.array([[1.0, 1.0]]), np.array([[1.0, 1.0]])) == 1
    assert coverage(np.array([[1.0, 1.0]]), np.zeros((0, 2))) == 0


def test_the_permutation_test_is_exact_for_few_values() -> None:
    assert permutation_test([1, 2, 3], [11, 12, 13]) == pytest.approx(2 / 20)
    assert permutation_test([1.0, 2.0], [1.0, 2.0]) == 1.0
    assert permutation_test([9], [1, 2, 3]) == 1 / 4
    assert permutation_test(list(range(8)), list(range(20, 28))) == 2 / 12870
    for first, second in (([], [1.0]), ([1.0], [])):
        with pytest.raises(ValueError, match=r"^a test needs values on both sides$"):
            permutation_test(first, second)


def test_the_permutation_test_draws_among_many_ways() -> None:
    rng = np.random.default_rng(3)
    assert permutation_test(list(rng.normal(size=12)), list(rng.normal(size=12) + 3)) < 0.001
    first, second = list(rng.normal(size=4)), list(rng.normal(size=13))
    found = permutation_test(first, second)
    assert found == permutation_test(first, second)
    assert found * 20000 == pytest.approx(round(found * 20000))
    pooled = np.array(first + second)
    sums = np.array([pooled[list(way)].sum() for way in combinations(range(17), 4)])
    exact = (np.abs(sums / 4 - (pooled.sum() - sums) / 13) >= abs(np.mean(first) - np.mean(second)) - 1e-12).mean()
    assert found == pytest.approx(exact, abs=0.02)
    assert found != exact
