"""Attribution finds the law that the accuracies were drawn from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search import load
from search.analysis.attribution import attribute, bayesian_linear, fanova
from spaces import Placement
from tests.search.conftest import GAINS


@pytest.fixture(scope="module")
def attribution(tmp_path_factory: pytest.TempPathFactory) -> object:
    from tests.search.conftest import make_run

    return attribute(load(make_run(tmp_path_factory.mktemp("runs") / "run", 120)))


def test_gains_of_stage_and_type_are_found_with_their_intervals(attribution) -> None:  # type: ignore[no-untyped-def]
    effects = attribution.effects.set_index(["stage", "type"])
    assert len(effects) == 9
    inside = [
        row["low"] <= GAINS.get((stage - 1, kind), 0.0) <= row["high"] for (stage, kind), row in effects.iterrows()
    ]
    assert np.mean(inside) > 0.75
    best = effects.loc[(3, "cbam")]
    assert best["gain"] == pytest.approx(0.08, abs=0.01)
    assert best["gain_per_megaflop"] == pytest.approx(best["gain"] / best["megaflops"])
    assert attribution.additive_r2 > 0.9


def test_a_stage_that_buys_nothing_is_named(attribution) -> None:  # type: ignore[no-untyped-def]
    sentences = attribution.sentences
    assert "stage 1 buys nothing" in sentences[0]
    assert "stage 2 pays" in sentences[1] or "stage 2 it depends on the type" in sentences[1]
    assert "cbam" in sentences[2]


def test_variance_goes_to_the_stages_that_cause_it(attribution) -> None:  # type: ignore[no-untyped-def]
    shares = attribution.shares.set_index("stages")["share"]
    assert shares["stage 3"] > shares["stage 2"] > shares["stage 1"]
    assert shares["stage 1"] < 0.1
    assert shares.sum() < 1.1


def test_an_interaction_is_not_taken_for_a_main_effect() -> None:
    rng = np.random.default_rng(0)
    rows = [tuple(Placement(str(rng.choice(["none", "se"]))) for _ in range(3)) for _ in range(200)]
    y_N = np.array([float((one[0].type == "se") != (one[1].type == "se")) for one in rows])
    shares = fanova(rows, y_N).set_index("stages")["share"]
    assert shares["stage 1 x stage 2"] > 0.8
    assert shares[["stage 1", "stage 2", "stage 3", "stage 1 x stage 3"]].max() < 0.1


def test_genes_have_effects_of_their_own(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    genes = attribute(load(run_maker(tmp_path / "run", 60))).genes.set_index("gene")
    assert {"r doubled", "parallel instead of series"} <= set(genes.index)
    assert genes["gain"].abs().max() < 0.01  # the law gives genes no effect
    assert (genes["low"] < genes["gain"]).all()
    assert (genes["gain"] < genes["high"]).all()


def test_a_run_of_one_evaluation_has_nothing_to_attribute(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    found = attribute(load(run_maker(tmp_path / "run", 1, failures=0)))
    assert found.effects.empty
    assert found.shares.empty


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
