"""Every sampler keeps what Optuna itself demands of samplers (optuna.testing), with parameters of its space and besides it."""

import pickle
import warnings
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase

from search.samplers import KnownCostSampler, create_sampler, list_samplers
from spaces.errors import UsageError

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE: dict[str, BaseDistribution] = {
    "block": CategoricalDistribution(("plain", "se", "eca")),
    "layers": IntDistribution(1, 4),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
}
REPEATS = "every allowed candidate was tried, so one is proposed again"


def space_for(request: pytest.FixtureRequest) -> dict[str, BaseDistribution]:
    """What a test is about to ask for, as far as it can be listed, beside a space that it does not know of."""
    given = request.node.callspec.params
    asked = {name: given[f"{name}_distribution"] for name in "xy" if f"{name}_distribution" in given}
    if "test_sample_relative_categorical" in request.node.name:
        asked = {"x": CategoricalDistribution([1, 10, 100]), "y": CategoricalDistribution([-1, -10, -100])}
    listable = {name: dist for name, dist in asked.items() if getattr(dist, "step", 1) is not None}
    return listable or SPACE


@pytest.mark.filterwarnings(f"ignore:{REPEATS}")
class TestSamplers(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=list_samplers())
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: create_sampler(request.param, space_for(request), seed=0)


# --- what else a study of Optuna's does --------------------------------------------------------------------------------


def goodness(trial: optuna.Trial) -> float:
    """One objective over the whole SPACE and a continuous number besides; 5.3 at best."""
    block = trial.suggest_categorical("block", ("plain", "se", "eca"))
    layers, dropout = trial.suggest_int("layers", 1, 4), trial.suggest_float("dropout", 0.0, 0.5, step=0.1)
    rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    assert 1e-3 <= rate <= 1e-1
    return {"plain": 0.0, "se": 2.0, "eca": 1.0}[block] + layers - abs(dropout - 0.3) - (0.7 if layers == 4 else 0.0)


@pytest.mark.parametrize("name", list_samplers())
def test_integers_and_floats_are_tried_out_and_the_study_ends_with_its_last_candidate(name: str) -> None:
    space = {"layers": IntDistribution(1, 5, step=2), "dropout": FloatDistribution(0.0, 0.3, step=0.1)}
    study = optuna.create_study(sampler=create_sampler(name, space, seed=0))

    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_int("layers", 1, 5, step=2) + trial.suggest_float("dropout", 0.0, 0.3, step=0.1)

    study.optimize(objective, n_trials=30)
    assert len(study.trials) == len({(t.params["layers"], round(t.params["dropout"], 3)) for t in study.trials}) == 12


@pytest.mark.parametrize("name", list_samplers())
def test_whoever_asks_for_more_gets_repetitions_and_one_warning(name: str) -> None:
    space = {"layers": IntDistribution(1, 2)}
    study = optuna.create_study(sampler=create_sampler(name, space, seed=0))

    def more() -> None:
        trial = study.ask(space)
        study.tell(trial, trial.params["layers"])

    more()
    more()
    with pytest.warns(UserWarning, match=REPEATS):
        more()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        more()
    assert {trial.params["layers"] for trial in study.trials} == {1, 2}


def test_without_costs_known_cost_improves_one_objective() -> None:
    for seed in range(3):
        study = optuna.create_study(direction="maximize", sampler=KnownCostSampler(SPACE, seed=seed))
        study.optimize(goodness, n_trials=16)  # of 72 candidates
        assert study.best_value == pytest.approx(5.3)
        assert len({(t.params["block"], t.params["layers"], t.params["dropout"]) for t in study.trials}) == 16


@pytest.mark.parametrize("log", [False, True])
def test_numbers_are_smooth(log: bool) -> None:
    """A peak among 2,000 values, found with 20 evaluations: no value by itself tells of another."""
    study = optuna.create_study(sampler=KnownCostSampler({"x": IntDistribution(1, 2000, log=log)}, seed=0))
    best = 20 if log else 700

    def distance(x: int) -> float:
        return float(np.log(x / best)) if log else x / best - 1

    study.optimize(lambda t: distance(t.suggest_int("x", 1, 2000, log=log)) ** 2, n_trials=20)
    assert abs(study.best_params["x"] - best) <= best / 100


@pytest.mark.parametrize("name", [name for name in list_samplers() if name != "gp"])
def test_threads_are_given_different_candidates(name: str) -> None:
    study = optuna.create_study(direction="maximize", sampler=create_sampler(name, SPACE, seed=0))
    study.optimize(goodness, n_trials=24, n_jobs=4)
    assert len({(t.params["block"], t.params["layers"], t.params["dropout"]) for t in study.trials}) == 24


def test_a_sampler_survives_pickling() -> None:
    runs = []
    for pickled in (False, True):
        sampler = KnownCostSampler(SPACE, seed=1)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(goodness, n_trials=5)
        study.sampler = pickle.loads(pickle.dumps(sampler)) if pickled else sampler
        study.optimize(goodness, n_trials=5)
        runs.append([{**t.params, "rate": None} for t in study.trials])
    assert runs[0] == runs[1]


def test_what_is_no_finite_space_is_named() -> None:
    with pytest.raises(UsageError, match=r"'rate'.*give it a step, or leave it out"):
        KnownCostSampler({"rate": FloatDistribution(0, 1)})
    with pytest.raises(UsageError, match=r"'width'.*1,000,001 values; give it a step"):
        KnownCostSampler({"width": IntDistribution(0, 1_000_000)})
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=KnownCostSampler(SPACE))
    with pytest.raises(UsageError, match="needs the costs that it is to know: the study has 2 objectives"):
        study.ask(SPACE)
