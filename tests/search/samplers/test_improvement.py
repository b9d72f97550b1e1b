"""Staircases: the improvement that their boxes add up to, against hypervolumes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.pareto import hypervolume
from search.samplers.improvement import Staircase

REFERENCE, WORST = 5.0, 1.0


@st.composite
def trials(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Staircase]:
    """Costs and accuracies with many ties, some of them beyond the reference, and their staircase."""
    m, n = draw(st.integers(1, 3)), draw(st.integers(0, 7))
    costs_NM = draw(arrays(float, (n, m), elements=st.integers(0, 6).map(float)))
    accuracy_N = draw(arrays(float, n, elements=st.integers(0, 6).map(float)))
    return costs_NM, accuracy_N, Staircase.build(costs_NM, accuracy_N, np.full(m, REFERENCE), WORST)


@given(trials())
@settings(max_examples=30)
def test_boxes_are_disjoint_and_of_the_best_accuracy_that_their_costs_buy(
    made: tuple[np.ndarray, np.ndarray, Staircase],
) -> None:
    costs_NM, accuracy_N, stairs = made
    points_KM = np.indices((7,) * costs_NM.shape[1]).reshape(costs_NM.shape[1], -1).T - 0.5
    points_KM = np.vstack([points_KM, points_KM + 0.5])  # between the costs of trials, and on them
    points_KM = points_KM[(points_KM < REFERENCE).all(axis=1)]
    inside_KB = ((points_KM[:, None] >= stairs.low_BM) & (points_KM[:, None] < stairs.high_BM)).all(axis=2)
    assert (inside_KB.sum(axis=1) == 1).all()
    useful_N = (costs_NM < REFERENCE).all(axis=1)
    best_K = [accuracy_N[useful_N & (costs_NM <= point).all(axis=1)].max(initial=WORST) for point in points_KM]
    assert stairs.level_J[stairs.level_of_B[inside_KB.argmax(axis=1)]].tolist() == best_K
    assert stairs.reached(points_KM).tolist() == best_K
    assert stairs.reached(points_KM).dtype == float
    assert sorted(set(best_K)) == sorted(set(stairs.level_J))


@given(trials())
@settings(max_examples=30)
def test_the_volume_is_that_of_the_front(made: tuple[np.ndarray, np.ndarray, Staircase]) -> None:
    costs_NM, accuracy_N, stairs = made
    reference = np.array([-WORST, *[REFERENCE] * costs_NM.shape[1]])
    rise_B = (stairs.level_J - WORST)[stairs.level_of_B]
    won = rise_B > 0
    volume = (np.prod(stairs.high_BM[won] - stairs.low_BM[won], axis=1) * rise_B[won]).sum()
    assert volume == pytest.approx(hypervolume(np.column_stack([-accuracy_N, costs_NM]), reference))


@given(trials())
@settings(max_examples=30)
def test_what_is_dominated_cuts_no_box(made: tuple[np.ndarray, np.ndarray, Staircase]) -> None:
    costs_NM, accuracy_N, stairs = made
    worse = np.vstack([costs_NM, costs_NM + 0.25]), np.append(accuracy_N, accuracy_N - 0.25)
    again = Staircase.build(*worse, np.full(costs_NM.shape[1], REFERENCE), WORST)
    assert len(again.level_of_B) == len(stairs.level_of_B)
    assert len(stairs.level_of_B) == len(stairs.level_J) or costs_NM.shape[1] > 1


def test_many_candidates_improve_as_each_of_them_does() -> None:
    """So many boxes and candidates that they are worked off in parts."""
    rng = np.random.default_rng(0)
    costs_N1, accuracy_N = np.arange(1000.0)[:, None], np.arange(1000.0) / 1000
    stairs = Staircase.build(costs_N1, accuracy_N, np.array([1000.0]), -1.0)
    new_costs, new_accuracy = rng.uniform(0, 1000, (8200, 1)), rng.uniform(0, 1, 8200)
    gain_K = stairs.improvement(new_costs, np.maximum(new_accuracy[:, None] - stairs.level_J, 0))
    for k in (0, 3999, 4000, 7999, 8000, 8199):
        steps = np.append(np.floor(new_costs[k]), np.arange(np.floor(new_costs[k, 0]) + 1, 1000))
        widths = np.diff(np.append(steps, 1000.0).clip(min=new_costs[k, 0]))
        assert gain_K[k] == pytest.approx((widths * np.maximum(new_accuracy[k] - steps / 1000, 0)).sum())


def test_boxes_that_do_not_belong_together_are_refused() -> None:
    one, two = np.zeros((1, 1)), np.ones((2, 1))
    for stairs in (
        Staircase(one, two, np.zeros(1), np.zeros(2, int)),
        Staircase(one, one, np.zeros(1), np.zeros(2, int)),
    ):
        with pytest.raises(ValueError, match="zip"):
            stairs.reached(np.zeros((1, 1)))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3), st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_improvement_of_a_certain_accuracy_is_the_hypervolume_improvement(m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs, accuracy = rng.integers(0, 6, (n, m)).astype(float), rng.integers(0, 6, n).astype(float)
    reference, worst = np.full(m, 5.0), 1.0
    stairs = Staircase.build(costs, accuracy, reference, worst)
    new_costs, new_accuracy = rng.integers(0, 6, (5, m)).astype(float), rng.uniform(0, 6, 5)
    gain = stairs.improvement(new_costs, np.maximum(new_accuracy[:, None] - stairs.level_J, 0))
    corner = np.append(reference, -worst)
    before = np.column_stack([costs, -accuracy])
    expected = [
        hypervolume(np.vstack([before, [*c, -a]]), corner) - hypervolume(before, corner)
        for c, a in zip(new_costs, new_accuracy, strict=True)
    ]
    assert gain == pytest.approx(expected, abs=1e-9)
