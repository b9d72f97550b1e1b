"""search.deterministic: what is proposed does not depend on who finishes first."""

import random

import optuna
import pytest
from ray.tune.search import Searcher

from evaluators.tasks.base import Metric
from search.config import validate
from search.problem import Problem
from search.searcher import PlacementSearch
from search.trainable import TrialResult
from spaces import SearchSpace
from spaces.errors import UsageError
from spaces.network import ClassifierHead, NetworkSpec


@pytest.fixture(scope="module")
def problem() -> Problem:
    space = SearchSpace.build("attune_tiny", ("none", "se", "eca"), reductions=(4,))
    return Problem.build(space, NetworkSpec(1, (8, 8), ClassifierHead(10)))


def play(problem: Problem, in_order: int | None, seed: int, at_once: int = 3, lose: bool = False) -> list[str]:
    """The proposals of a search whose ``at_once`` workers finish in an order that ``seed`` draws."""
    rng = random.Random(seed)
    search = PlacementSearch(
        problem,
        optuna.samplers.NSGAIISampler(seed=0, population_size=4),
        optuna.storages.InMemoryStorage(),
        [],
        trials=16,
        seed=0,
        name="test",
        in_order=in_order,
    )
    running: dict[str, str] = {}
    proposed: list[str] = []
    for number in range(1000):
        while len(running) < at_once:
            one = search.suggest(f"{number}-{len(running)}-{len(proposed)}")
            if one == Searcher.FINISHED:
                done = [trial.state.name for trial in search._ot_study.get_trials(deepcopy=False)]
                assert done.count("COMPLETE") == 16
                return proposed
            if one is None:
                break
            assert isinstance(one, dict)
            trial_id = f"{number}-{len(running)}-{len(proposed)}"
            running[trial_id] = one["architecture"]
            if one["architecture"] not in proposed:
                proposed.append(one["architecture"])
        trial_id = rng.choice(list(running))
        text = running.pop(trial_id)
        if lose and rng.random() < 0.2:
            search.again(text)
            search.on_trial_complete(trial_id, error=True)
            continue
        score = (sum(map(ord, text)) % 97) / 97
        result = TrialResult("complete", "", score, 1, 1.0)
        search.on_trial_complete(trial_id, result.to_ray(Metric().name, {}, done=True))
    raise AssertionError("no end")


def test_proposals_depend_on_the_seed_alone(problem: Problem) -> None:
    plays = [play(problem, 3, seed) for seed in range(6)]
    assert all(one == plays[0] for one in plays)
    assert any(play(problem, None, seed) != plays[0] for seed in range(6))  # the order of arrival matters otherwise
    assert len(set(play(problem, 3, 0, lose=True))) == 16


def test_a_scheduler_that_goes_by_arrival_is_refused() -> None:
    raw = {"data": "digits", "space": {"backbone": "attune_tiny"}, "training": {"epochs": 9}}
    with pytest.raises(UsageError, match=r"search.deterministic .* 'domination_asha'"):
        validate({**raw, "search": {"deterministic": True, "scheduler": "domination_asha"}}, "test")
