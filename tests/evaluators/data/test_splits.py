"""Splits: cut by class, and never overlapping."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.data.splits import cut, moments


@given(st.lists(st.integers(0, 4), min_size=2, max_size=200), st.floats(0.01, 0.99), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_cut_is_a_stratified_partition(labels: list[int], share: float, seed: int) -> None:
    array = np.array(labels)
    val_size = min(max(1, round(share * len(array))), len(array) - 1)
    train, val = cut(array, val_size, seed)
    assert sorted([*train, *val]) == list(range(len(array)))
    assert len(val) == min(val_size, len(labels) - len(set(labels)))
    assert set(array[train]) == set(array), "every class keeps a training image"
    counts = np.bincount(array, minlength=5)
    ideal = counts * val_size / len(array)
    missing = np.maximum(np.ceil(ideal) - np.maximum(counts - 1, 0), 0).sum()  # what small classes cannot give
    assert (np.bincount(array[val], minlength=5) <= np.ceil(ideal) + missing).all()
    again = cut(array, val_size, seed)
    assert (again[0] == train).all()
    assert (again[1] == val).all()


def test_moments_are_those_of_the_pixels() -> None:
    images = torch.randint(0, 256, (20, 3, 5, 5), dtype=torch.uint8)
    mean, std = moments(images)
    scaled = images.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-5)
    assert std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), abs=1e-5)
