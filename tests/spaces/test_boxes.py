"""Boxes: the weight in a box that is open below, against comparing every point with every box."""

import numpy as np
import pytest

from spaces import boxes
from spaces.boxes import Boxes, weight_below


@pytest.mark.parametrize("metrics", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("values", "heaviest"), [(40, 4), (40, 1), (10**12, 300), (1, 2)])
def test_dominance_counts_of_many_sums(metrics, values, heaviest):
    rng = np.random.default_rng(0)
    sums = rng.integers(0, values, size=(2000, metrics))
    weight = rng.integers(1, heaviest + 1, size=2000)
    rooms = rng.integers(-values // 8, values + values // 4 + 1, size=(400, metrics))
    assert (weight_below(sums, weight, rooms) == (sums[None] <= rooms[:, None]).all(axis=2) @ weight).all()


@pytest.mark.parametrize("metrics", [1, 3])
@pytest.mark.parametrize("heaviest", [2**46, 1])
def test_weights_are_exact_beyond_what_floats_hold(metrics, heaviest):
    rng = np.random.default_rng(2)
    sums = rng.integers(0, 50, size=(300, metrics))
    weight = rng.integers(1, heaviest + 1, size=300) * (2**8 + 1) + (heaviest > 1)
    rooms = rng.integers(0, 60, size=(100, metrics))
    inside = (sums[None] <= rooms[:, None]).all(axis=2)
    assert weight_below(sums, weight, rooms).tolist() == [sum(weight[row].tolist()) for row in inside]


@pytest.mark.parametrize("metrics", [2, 3, 5])
def test_slabs_are_as_small_as_their_table_may_be_large(metrics):
    def fits(points, shift):
        return (-(-points // 2**shift) + 1) ** metrics <= min(boxes.TABLE, 256 * points)

    for points in (1, 64, 65, 100, 5000, 70_000, 10**6, 3 * 10**7, 10**9):
        shift = Boxes.shift(points, metrics)
        assert fits(points, shift)
        assert shift == 6 or not fits(points, shift - 1)


def test_sets_are_kept_while_there_is_room(monkeypatch):
    rng = np.random.default_rng(1)
    sums, weight = rng.integers(0, 10**6, size=(2048, 3)), np.ones(2048, dtype=np.int64)
    rooms = rng.integers(0, 10**6, size=(300, 3))
    found = []
    for change in (0, -1):
        made = Boxes(sums, weight)
        with monkeypatch.context() as patch:
            patch.setattr(boxes, "TABLE", 3**2 * 2048 * made._size // 64 + change)
            found.append(made.weight(made.ranks(rooms)).tolist())
        assert bool(made._known) == (change == 0)
    assert found[0] == found[1] == [int((sums <= room).all(axis=1).sum()) for room in rooms]


def test_rooms_of_other_metrics_are_refused():
    made = Boxes(np.arange(20).reshape(10, 2), np.ones(10, dtype=np.int64))
    with pytest.raises(ValueError, match="zip"):
        made.ranks(np.zeros((1, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="zip"):
        made._in_slab(0, 0, [np.zeros(1, dtype=np.int32)], np.zeros(2, dtype=np.int64))
