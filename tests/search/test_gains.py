"""The linear model behind the gains."""

import numpy as np
import pytest

from search.gains import bayesian_linear


def test_the_linear_model_shrinks_noise_to_nothing() -> None:
    rng = np.random.default_rng(1)
    x_NP, noise_N = rng.integers(0, 2, size=(60, 10)).astype(float), rng.standard_normal(60)
    assert np.abs(bayesian_linear(x_NP, noise_N).mean_P).max() < 0.5
    fitted = bayesian_linear(x_NP, 3 * x_NP[:, 0] + 0.01 * noise_N)
    assert fitted.mean_P[0] == pytest.approx(3, abs=0.02)
    assert fitted.r2 > 0.99


def test_the_share_explained_is_that_of_evaluations_left_out() -> None:
    rng = np.random.default_rng(2)
    x_NP, y_N = rng.standard_normal((12, 8)), rng.standard_normal(12)
    y_N += 2 * x_NP[:, 0]
    whole = bayesian_linear(x_NP, y_N)
    residuals = y_N - y_N.mean() - (x_NP - x_NP.mean(axis=0)) @ whole.mean_P
    in_sample = 1 - residuals @ residuals / ((y_N - y_N.mean()) @ (y_N - y_N.mean()))
    assert whole.r2 < in_sample
