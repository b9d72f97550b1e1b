"""Pareto arithmetic against brute force, against counted grid cells, and against Optuna's own hypervolume."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume

from search import pareto

SIDE = 6  # coordinates are integers in [0, SIDE], so ties and duplicates are common and volumes are exact


@st.composite
def clouds(draw: st.DrawFn, least: int = 0, objectives: tuple[int, int] = (1, 4)) -> np.ndarray:
    m = draw(st.integers(*objectives))
    n = draw(st.integers(least, 9))
    return draw(arrays(float, (n, m), elements=st.integers(0, SIDE).map(float)))


def count_cells(points: np.ndarray, reference: float) -> int:
    """Unit cells of the grid below `reference` that some point dominates."""
    axes = itertools.product(range(int(reference)), repeat=points.shape[1])
    return sum(bool((points <= np.array(cell)).all(axis=1).any()) for cell in axes)


@given(clouds())
def test_the_front_is_what_nothing_dominates(points: np.ndarray) -> None:
    expected = [not any(pareto.dominates(other, point) for other in points) for point in points]
    assert pareto.non_dominated(points).tolist() == expected


@given(clouds())
def test_ranks_peel_fronts(points: np.ndarray) -> None:
    rank = pareto.non_domination_rank(points)
    for i, point in enumerate(points):
        worse = [rank[j] for j, other in enumerate(points) if pareto.dominates(other, point)]
        assert rank[i] == max(worse, default=-1) + 1


@settings(deadline=None)
@given(clouds(objectives=(1, 3)), st.integers(1, SIDE))
def test_hypervolume_counts_cells(points: np.ndarray, reference: int) -> None:
    expected = count_cells(points, reference)
    assert pareto.hypervolume(points, np.full(points.shape[1], float(reference))) == pytest.approx(expected)


@settings(deadline=None)
@given(clouds(objectives=(2, 5)))
def test_hypervolume_agrees_with_optuna(points: np.ndarray) -> None:
    reference = np.full(points.shape[1], SIDE + 1.0)
    assert pareto.hypervolume(points, reference) == pytest.approx(compute_hypervolume(points, reference))


@given(clouds(least=1, objectives=(2, 3)))
def test_a_knee_lies_on_the_front(points: np.ndarray) -> None:
    assert pareto.non_dominated(points)[pareto.knee(points)]


def test_the_knee_of_an_elbow_is_its_corner() -> None:
    assert pareto.knee([[0, 10], [1, 1], [10, 0], [5, 0.9], [11, 11]]) == 1


@given(clouds(least=1), st.integers(1, 9), st.integers(-9, 9))
def test_coordinates_are_scaled_to_the_unit_box(points: np.ndarray, stretch: int, shift: int) -> None:
    """Whatever the units of an objective: the least becomes 0, the greatest 1, and what is halfway 0.5."""
    scaled = pareto.normalise(stretch / 4 * points + shift)
    assert scaled == pytest.approx(pareto.normalise(points))
    for column, values in zip(scaled.T, points.T, strict=True):
        spread = np.ptp(values)
        assert column[values.argmin()] == 0
        assert column[values.argmax()] == (1 if spread else 0)
        assert np.diff(column) * spread == pytest.approx(np.diff(values))


def test_crowding_prefers_the_lonely() -> None:
    distance = pareto.crowding_distance([[0, 10], [1, 9], [2, 8], [9, 1], [10, 0]])
    assert np.isinf(distance[[0, 4]]).all()
    assert distance[3] > distance[1]


@pytest.mark.parametrize(
    ("bad", "words"),
    [([[np.nan, 1.0]], "points must not hold NaN"), ([1.0, 2.0], r"points must have shape \(N, M\), not \(2,\)")],
)
def test_nonsense_is_refused(bad: list, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}$"):
        pareto.non_dominated(bad)


def test_a_reference_of_other_objectives_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^reference of shape \(3,\) does not fit points of shape \(1, 2\)$"):
        pareto.hypervolume([[1, 2]], [3, 3, 3])


def test_whole_numbers_are_points_too() -> None:
    assert pareto.as_points([[1, 2]]).dtype == float
    assert pareto.hypervolume([[0, 1], [1, 0]], [2, 3]) == 5
    assert pareto.crowding_distance([[0, 4], [1, 1], [4, 0]]).tolist() == [np.inf, 2, np.inf]
    assert pareto.crowding_distance([[0, 4, 7], [1, 1, 7], [4, 0, 7]]).tolist() == [np.inf, 2, np.inf]
    assert pareto.crowding_distance(np.zeros((0, 2))).tolist() == []
    close = 5 + np.array([[0, 4], [1, 1], [4, 0]]) / 1024  # in whatever unit and from whatever origin
    assert pareto.crowding_distance(close).tolist() == [np.inf, 2, np.inf]


def test_an_empty_front_has_no_volume_and_no_knee() -> None:
    empty = np.zeros((0, 2))
    assert pareto.hypervolume(empty, [1, 1]) == 0
    assert pareto.normalise(empty).shape == (0, 2)
    with pytest.raises(ValueError, match=r"^an empty front has no knee$"):
        pareto.knee(empty)
