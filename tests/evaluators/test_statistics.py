"""The statistics that say how far to trust a score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.statistics import kendall, spearman, summarize


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_summary_brackets_the_mean(values: list[float]) -> None:
    found = summarize(values, resamples=200)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1) if len(values) > 1 else 0)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=30, unique=True))
def test_rank_correlations_see_the_order_only(values: list[int]) -> None:
    cubes = [value**3 for value in values]
    for correlation in (kendall, spearman):
        assert correlation(values, cubes) == pytest.approx(1)
        assert correlation(values, [-value for value in values]) == pytest.approx(-1)
    with pytest.raises(ValueError, match="equally long"):
        kendall(values, values[:-1])
