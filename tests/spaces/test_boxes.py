"""Boxes: the weight in a box that is open below, against comparing every point with every box."""

import numpy as np
import pytest

from spaces.boxes import weight_below


@pytest.mark.parametrize("metrics", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("values", "heaviest"), [(40, 4), (40, 1), (10**12, 300), (1, 2)])
def test_dominance_counts_of_many_sums(metrics, values, heaviest):
    rng = np.random.default_rng(0)
    sums = rng.integers(0, values, size=(2000, metrics))
    weight = rng.integers(1, heaviest + 1, size=2000)
    rooms = rng.integers(-values // 8, values + values // 4 + 1, size=(400, metrics))
    assert (weight_below(sums, weight, rooms) == (sums[None] <= rooms[:, None]).all(axis=2) @ weight).all()
