"""Accuracies of which only an upper bound counts: against integration, and what they spare the model."""

import numpy as np
import pytest

from search.samplers.censored import FENCE, floors, pseudo_observations
from search.samplers.improvement import Staircase
from search.samplers.surrogate import Surrogate


def test_a_floor_is_so_many_median_gaps_below_the_best_at_no_more_cost() -> None:
    costs, accuracy = np.array([[1.0], [2.0], [2.0], [3.0], [4.0]]), np.array([10.0, 9.0, 12.0, 11.0, 2.0])
    measured = np.ones(5, dtype=bool)
    assert floors(costs, accuracy, measured) == pytest.approx(np.array([10, 12, 12, 12, 12]) - FENCE * 3.0)
    assert floors(costs[:1], accuracy[:1], measured[:1]) == pytest.approx([10.0])  # alone, and not below itself
    guessed = np.array([True, True, False, True, True])
    assert floors(costs, accuracy, guessed)[[0, 1, 3]] == pytest.approx(np.array([10, 10, 11]) - FENCE * 5.0)


def test_what_is_below_the_floor_improves_nothing() -> None:
    """The identity that censoring rests on: max(a, floor) improves a front by as much as a does, whatever a is."""
    rng = np.random.default_rng(0)
    costs, accuracy = rng.uniform(0, 1, (30, 2)), rng.normal(size=30)
    stairs = Staircase.build(costs, accuracy, np.ones(2), accuracy.min())
    floor, drawn = floors(costs, accuracy, np.ones(30, dtype=bool)), rng.normal(0, 2, 30)
    gain, same = (
        stairs.improvement(costs, np.maximum(a[:, None] - stairs.level_J, 0)) for a in (drawn, np.maximum(drawn, floor))
    )
    assert (drawn < floor).any()
    assert gain == pytest.approx(same)


def test_pseudo_observations_give_the_posterior_of_a_truncated_gaussian() -> None:
    rng = np.random.default_rng(1)
    covariance = np.array([[1.0, 0.7, 0.4], [0.7, 1.2, 0.3], [0.4, 0.3, 0.9]])
    z, censored = np.array([0.5, -0.2, 0.1]), np.array([False, True, True])
    value, variance = pseudo_observations(covariance, z, censored)
    assert (value[0], variance[0]) == (0.5, 0.0)
    weight = covariance @ np.linalg.inv(covariance + np.diag(variance))
    # Of many draws given the first, those below their bounds.
    mean = covariance[1:, 0] / covariance[0, 0] * z[0]
    rest = covariance[1:, 1:] - np.outer(covariance[1:, 0], covariance[0, 1:]) / covariance[0, 0]
    drawn = rng.multivariate_normal(mean, rest, 400_000)
    drawn = drawn[(drawn <= z[1:]).all(axis=1)]
    assert (weight @ value)[1:] == pytest.approx(drawn.mean(axis=0), abs=0.02)
    assert np.diag(covariance - weight @ covariance)[1:] == pytest.approx(drawn.var(axis=0), abs=0.02)


def test_without_censored_ones_nothing_changes() -> None:
    z = np.array([1.0, 2.0])
    value, variance = pseudo_observations(np.eye(2), z, np.zeros(2, dtype=bool))
    assert (value == z).all()
    assert (variance == 0).all()


def test_a_dead_choice_does_not_widen_what_is_expected_of_the_others() -> None:
    """Cells that score anything where one choice is dead, and nearly the same where it is not."""
    rng = np.random.default_rng(2)
    every = np.indices((4,) * 4).reshape(4, -1).T
    dead = (every == 0).sum(axis=1) >= 2
    accuracy = np.where(dead, rng.uniform(1, 50, len(every)), 58 + 0.5 * rng.normal(size=4)[every[:, 0]])
    some = rng.permutation(len(every))[:50]
    flat, measured = np.zeros((len(every), 1)), np.zeros(50, dtype=int)
    floor = floors(flat[some], accuracy[some], measured == 0)
    below = accuracy[some] < floor
    spreads = []
    for values, censored in ((accuracy[some], None), (np.maximum(accuracy[some], floor), below)):
        model = Surrogate(4, 1)
        model.learn(every[some], flat[some], values, measured, censored)
        model.condition(every[some], flat[some], values, measured, censored)
        mean, sd = model.predict(every[~dead], flat[~dead])
        spreads.append(np.mean(model.warp.excess(mean, sd, accuracy.max(keepdims=True))))
    assert below.any()
    assert spreads[1] < 0.5 * spreads[0]
