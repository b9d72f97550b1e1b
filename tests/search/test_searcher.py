"""The bridge between Ray Tune and Optuna: what is handed out, what comes back, and when it is over."""

from typing import Any

import optuna
import pytest
from ray.tune.search import Searcher

from search.problem import Problem
from search.samplers.known_cost import EXPECTED, STOPPED_AT
from search.searcher import PlacementSearch
from search.store import COMPLETE, FAILED, STOPPED, Evaluation
from search.trainable import TrialResult
from spaces import NetworkSpec, SearchSpace


@pytest.fixture(scope="module")
def problem() -> Problem:
    space = SearchSpace.build("attune_tiny", ("none", "se"), reductions=(4,))
    return Problem.build(space, NetworkSpec.classifier(8, 10, 1))


def searcher(problem: Problem, trials: int, finished: list[Evaluation] | None = None) -> PlacementSearch:
    return PlacementSearch(
        problem,
        optuna.samplers.RandomSampler(seed=0),
        optuna.storages.InMemoryStorage(),
        finished or [],
        trials=trials,
        seed=0,
        name="test",
        expected=lambda fidelity, score: score + 1 / fidelity,
    )


def result(state: str = COMPLETE, score: float = 0.5, fidelity: int = 4) -> dict[str, Any]:
    return TrialResult(state, "why", score, fidelity).to_ray("accuracy", {}, done=True)


def test_a_lost_trial_is_handed_out_again_and_the_end_waits_for_those_in_flight(problem: Problem) -> None:
    search = searcher(problem, trials=2)
    first, second = search.suggest("a"), search.suggest("b")
    assert first["architecture"] == "attune_tiny:none,none,none"
    assert search.suggest("c") is None  # one of the two may get lost
    search.on_trial_complete("a", error=True)
    search.again(first["architecture"])
    assert search.suggest("c") == first
    search.on_trial_complete("b", result())
    search.on_trial_complete("c", result())
    assert search.suggest("d") == Searcher.FINISHED
    told = [(t.user_attrs["architecture"], t.state.name) for t in search._ot_study.get_trials()]
    ends = [(first, "FAIL"), (first, "COMPLETE"), (second, "COMPLETE")]
    assert sorted(told) == sorted((one["architecture"], state) for one, state in ends)


def test_nothing_is_handed_out_twice_and_a_small_space_ends_the_search(problem: Problem) -> None:
    search = searcher(problem, trials=100)
    texts = []
    for number in range(8):
        texts.append(search.suggest(str(number))["architecture"])
        search.on_trial_complete(str(number), result())
    assert len(set(texts)) == problem.feasible.count == 8
    assert search.suggest("more") == Searcher.FINISHED


@pytest.mark.parametrize(("sites", "inside"), [(("slot",), 1), (("slot", "stage"), 8)])
def test_a_space_without_none_is_evaluated_whole_and_the_plain_network_besides(
    sites: tuple[str, ...], inside: int
) -> None:
    space = SearchSpace.build("attune_tiny", ("eca",), sites=sites)
    problem = Problem.build(space, NetworkSpec.classifier(8, 10, 1))
    assert (problem.feasible.count, problem.candidates) == (inside, inside + 1)
    search = searcher(problem, trials=problem.candidates)
    texts = []
    for number in range(problem.candidates):
        texts.append(search.suggest(str(number))["architecture"])
        search.on_trial_complete(str(number), result())
    assert search.suggest("more") == Searcher.FINISHED
    assert texts[0] == "attune_tiny:none,none,none"
    assert set(texts[1:]) == {str(space.architecture(row)) for row in space.all_indices()}


def test_what_was_stopped_early_is_on_no_front_and_teaches_what_it_may_reach(problem: Problem) -> None:
    search = searcher(problem, trials=3)
    for name, outcome in [("a", result(STOPPED, 0.25, fidelity=2)), ("b", result(FAILED)), ("c", result())]:
        search.suggest(name)
        search.on_trial_complete(name, outcome)
    stopped, failed, complete = search._ot_study.get_trials()
    assert [trial.state.name for trial in (stopped, failed, complete)] == ["FAIL", "FAIL", "COMPLETE"]
    assert (stopped.user_attrs[EXPECTED], stopped.user_attrs[STOPPED_AT]) == (0.75, 2)
    assert EXPECTED not in failed.user_attrs


def test_a_resumed_search_knows_what_was_stopped(problem: Problem) -> None:
    costs = dict.fromkeys(("flops", "macs", "params", "activations"), 1)
    text = "attune_tiny:se-r4@slot,none,none"
    before = Evaluation(text, 2, 0, STOPPED, "why", 0.25, costs, seconds=1.0, finished=1.0, identity="t")
    search = searcher(problem, trials=8, finished=[before])
    (known,) = search._ot_study.get_trials()
    assert known.user_attrs == {"architecture": text, EXPECTED: 0.75, STOPPED_AT: 2}
    for number in range(7):
        assert search.suggest(str(number))["architecture"] != text
        search.on_trial_complete(str(number), result())
    assert search.suggest("more") == Searcher.FINISHED
