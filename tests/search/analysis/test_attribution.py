"""Attribution finds the law that the accuracies were drawn from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search import load
from search.analysis.attribution import attribute
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
