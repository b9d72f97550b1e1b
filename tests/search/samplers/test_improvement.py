"""Staircases: the improvement that their boxes add up to, against hypervolumes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.pareto import hypervolume
from search.samplers.improvement import Staircase


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
