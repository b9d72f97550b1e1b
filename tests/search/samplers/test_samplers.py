"""Every sampler in a plain Optuna study: inside the limits, nothing twice, conditional and outside trials included."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from search.samplers import Candidates, create_sampler, list_samplers
from spaces.errors import UsageError

optuna.logging.set_verbosity(optuna.logging.WARNING)
GENES = 5
SPACE = {f"gene{g}": CategoricalDistribution((0, 1, 2, 3)) for g in range(GENES)}
QUICK = [name for name in list_samplers() if name != "gp"]  # Optuna's GP takes seconds a trial and has its own test


def costs_of(params: list[dict[str, Any]]) -> np.ndarray:
    return np.array([[10.0 + sum((g + 1) * p[f"gene{g}"] for g in range(GENES))] for p in params])


def accuracy_of(params: Mapping[str, Any]) -> float:
    return 1 - np.exp(-0.2 * sum(params[f"gene{g}"] * (1 + (g % 2)) for g in range(GENES)))


def objective(trial: optuna.Trial) -> tuple[float, float]:
    params = {name: trial.suggest_categorical(name, dist.choices) for name, dist in SPACE.items()}
    return accuracy_of(params), float(costs_of([params])[0, 0])


def keys(study: optuna.Study) -> list[tuple]:
    return [tuple(sorted(trial.params.items())) for trial in study.trials]


@pytest.mark.parametrize("name", QUICK)
def test_inside_the_limits_and_nothing_twice(name: str) -> None:
    sampler = create_sampler(name, SPACE, costs_of, seed=1, limits=[25])
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=60)
    assert max(trial.values[1] for trial in study.trials) <= 25
    assert len(set(keys(study))) == 60


@pytest.mark.slow
def test_optunas_gp_stays_inside_too() -> None:
    sampler = create_sampler("gp", SPACE, costs_of, seed=1, limits=[25])
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=14)
    assert max(trial.values[1] for trial in study.trials) <= 25
    assert len(set(keys(study))) == 14


@pytest.mark.parametrize("name", QUICK)
def test_a_seed_repeats_a_search(name: str) -> None:
    runs = []
    for _ in range(2):
        study = optuna.create_study(
            directions=["maximize", "minimize"], sampler=create_sampler(name, SPACE, costs_of, seed=7)
        )
        study.optimize(objective, n_trials=30)
        runs.append(keys(study))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", QUICK)
def test_a_small_space_is_tried_out_and_the_study_ends(name: str) -> None:
    space = {"a": CategoricalDistribution(("x", "y", "z")), "b": CategoricalDistribution((True, False))}
    sampler = create_sampler(name, space, lambda params: np.ones((len(params), 1)), seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(
        lambda t: (
            len(t.suggest_categorical("a", ("x", "y", "z"))) + t.suggest_categorical("b", (True, False)),
            1.0,
        ),
        n_trials=20,
    )
    assert len(set(keys(study))) == len(study.trials) == 6
    assert sampler.exhausted


CONDITIONAL = {
    "op": CategoricalDistribution(("none", "conv", "pool")),
    "kernel": CategoricalDistribution((3, 5, 7, 9)),
    "stride": CategoricalDistribution((1, 2)),
}


def conditional_costs(params: list[dict[str, Any]]) -> np.ndarray:
    return np.array([{"none": 0, "conv": p["kernel"], "pool": p["stride"]}[p["op"]] for p in params], dtype=float)


def conditional(trial: optuna.Trial) -> tuple[float, float]:
    op = trial.suggest_categorical("op", ("none", "conv", "pool"))
    size = trial.suggest_categorical("kernel", (3, 5, 7, 9)) if op == "conv" else 0
    stride = trial.suggest_categorical("stride", (1, 2)) if op == "pool" else 0
    return size / 10 + stride / 9, float(size + stride)


@pytest.mark.parametrize("name", QUICK)
def test_what_a_conditional_space_does_not_ask_for_makes_no_new_candidate(name: str) -> None:
    sampler = create_sampler(name, CONDITIONAL, conditional_costs, seed=3)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(conditional, n_trials=7)  # 1 + 4 + 2 different candidates, of 24 combinations
    assert len(set(keys(study))) == 7


@pytest.mark.parametrize("name", QUICK)
def test_trials_from_outside_running_enqueued_and_failed_ones_are_not_repeated(name: str) -> None:
    space = {"a": CategoricalDistribution((0, 1, 2)), "b": CategoricalDistribution((0, 1))}
    sampler = create_sampler(name, space, lambda params: np.array([[p["a"] + p["b"]] for p in params]), seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.add_trial(
        optuna.trial.create_trial(params={"a": 0, "b": 0}, distributions=space, values=[0.1, 1.0]),
    )
    study.enqueue_trial({"a": 1, "b": 1})
    in_flight = [study.ask(space) for _ in range(3)]
    study.tell(in_flight[1], state=optuna.trial.TrialState.FAIL)
    study.ask(space)
    study.ask(space)
    assert len({(t.params["a"], t.params["b"]) for t in study.trials}) == 6


def test_other_parameters_of_a_study_are_left_to_chance() -> None:
    sampler = create_sampler("random", {"a": CategoricalDistribution((0, 1, 2))}, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    trial = study.ask({"a": CategoricalDistribution((0, 1, 2)), "lr": FloatDistribution(0.1, 0.2)})
    assert 0.1 <= trial.params["lr"] <= 0.2


def test_a_huge_space_with_a_tight_limit_is_still_sampled() -> None:
    space = {f"gene{g}": CategoricalDistribution(tuple(range(6))) for g in range(20)}

    def total(params: list[dict[str, Any]]) -> np.ndarray:
        return np.array([sum(p.values()) for p in params], dtype=float)

    candidates = Candidates(space, total, limits=[6])  # one in about 10^10 candidates keeps it
    assert candidates.count is None
    drawn = candidates.draw(np.random.default_rng(0), 50, np.zeros((0, 20), dtype=np.int64))
    assert len(drawn) == len(np.unique(drawn, axis=0)) == 50
    assert drawn.sum(axis=1).max() <= 6


def test_mistakes_are_named() -> None:
    with pytest.raises(UsageError, match=r"unknown sampler 'tpee'.*did you mean 'tpe'"):
        create_sampler("tpee", SPACE)
    with pytest.raises(UsageError, match="least costs are 10"):
        create_sampler("random", SPACE, costs_of, limits=[9])
    with pytest.raises(UsageError, match="limits are given without"):
        create_sampler("random", SPACE, limits=[9])
    with pytest.raises(UsageError, match="2 limits are given for 1 costs"):
        create_sampler("random", SPACE, costs_of, limits=[9, 9])
    with pytest.raises(UsageError, match="'lr'"):
        create_sampler("random", {"lr": FloatDistribution(0, 1)})
    with pytest.raises(UsageError, match="popsize"):
        create_sampler("nsga2", SPACE, popsize=3)
