"""What a person tells a run beside what it is: hours, and architectures that come first."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from ray.tune.search import Searcher

import run_search
from search.check import check
from search.config import MOST_TRIALS, changed, validate
from search.problem import Problem
from search.searcher import PlacementSearch
from search.steering import ENQUEUED, SEARCHED, Clock, Enqueued, canonical, enqueue
from search.store import Store, read_journal
from search.trainable import TrialResult
from spaces import NetworkSpec, SearchSpace
from spaces.errors import UsageError
from tests.search.conftest import CONFIG

PLAIN, SE, LAST, MIDDLE = (
    f"attune_tiny:{text}"
    for text in ("none,none,none", "se-r4@slot,none,none", "none,none,se-r4@slot", "none,se-r4@slot,none")
)


@pytest.fixture(scope="module")
def problem() -> Problem:
    space = SearchSpace.build("attune_tiny", ("none", "se"), reductions=(4,))
    return Problem.build(space, NetworkSpec.classifier(8, 10, 1), budget={"params": "1.02x"})


def searcher(problem: Problem, **options: Any) -> PlacementSearch:
    sampler, storage = optuna.samplers.RandomSampler(seed=0), optuna.storages.InMemoryStorage()
    return PlacementSearch(problem, sampler, storage, [], trials=6, seed=0, name="test", **options)


def configured(**search: Any) -> Any:
    return validate({**CONFIG, "search": search}, "test").search


@pytest.mark.parametrize(
    ("given", "seconds", "trials"),
    [
        ({}, None, 32),
        ({"hours": 2}, 7200, MOST_TRIALS),
        ({"minutes": 1.5}, 90, MOST_TRIALS),
        ({"hours": 1, "minutes": 30, "trials": 5}, 5400, 5),
        ({"hours": None, "minutes": None}, None, 32),
    ],
)
def test_time_alone_allows_any_number_of_trials(given: dict[str, Any], seconds: float | None, trials: int) -> None:
    found = configured(**given)
    assert (found.seconds, found.trials) == (seconds, trials)


@pytest.mark.parametrize("given", [{"hours": 0}, {"minutes": -1}, {"hours": float("inf")}, {"hours": "many"}])
def test_what_is_no_time_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(given))):
        configured(**given)


def test_the_clock_counts_all_parts_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("search.steering.time.monotonic", lambda: now[0])
    first = Clock(tmp_path, 60)
    now[0] += 40
    assert (first.seconds, first.left) == (40, 20)
    first.keep()
    now[0] += 1000  # between the parts
    second = Clock(tmp_path, 60)
    assert (second.seconds, second.left) == (40, 20)
    now[0] += 50
    assert second.left == 0
    assert Clock(tmp_path, None).left == float("inf")
    huge = f'{{"seconds": 1{"0" * 400}}}'
    for broken in (
        "",
        "[]",
        "{}",
        '{"seconds": -1}',
        '{"seconds": true}',
        '{"seconds": "1"}',
        '{"seconds": 1e999}',
        huge,
    ):
        (tmp_path / SEARCHED).write_text(broken)
        with pytest.raises(UsageError, match="remove it to count from 0"):
            Clock(tmp_path, 60)


def test_no_trial_begins_when_the_time_is_over_and_those_that_run_finish(problem: Problem) -> None:
    over = [False]
    search = searcher(problem, over=lambda: over[0])
    first = search.suggest("a")
    assert isinstance(first, dict)
    over[0] = True
    assert search.suggest("b") == Searcher.FINISHED
    search.on_trial_complete("a", TrialResult("complete", "", 0.5, 4).to_ray("accuracy", {}, done=True))
    assert [trial.state.name for trial in search._ot_study.get_trials()] == ["COMPLETE"]


def test_what_was_enqueued_comes_first_once_and_what_is_added_next(problem: Problem, tmp_path: Path) -> None:
    added = Enqueued(tmp_path)
    search = searcher(problem, first=[SE, PLAIN], added=added.news)
    assert [search.suggest(name)["architecture"] for name in "ab"] == [PLAIN, SE]
    (tmp_path / ENQUEUED).write_text(f"{SE}\n{LAST}\nattune_tiny:no")  # the last one is being written
    assert search.suggest("c")["architecture"] == LAST
    with open(tmp_path / ENQUEUED, "a") as file:
        file.write(MIDDLE.removeprefix("attune_tiny:no") + "\n")
    assert added.news() == [MIDDLE]
    assert added.news() == []


def test_only_what_the_run_may_evaluate_can_be_enqueued(problem: Problem) -> None:
    assert canonical([" attune_tiny: se-r4 , none, none"], problem, "x") == [SE]
    for text, words in [
        ("attune_tiny:eca-k3,none,none", "not of the search space"),
        ("resnet18:none,none,none,none", "not of the search space"),
        ("attune_tiny:se-r4,se-r4,se-r4@block", "not of the search space|over the budget"),
        ("attune_tiny:sse,none,none", "sse"),
    ]:
        with pytest.raises(UsageError, match=words):
            canonical([SE, text], problem, "x")


def test_a_configuration_with_a_wrong_one_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    raw = {**CONFIG, "search": {"trials": 3, "enqueue": ["attune_tiny:gam,none,none"]}}
    with pytest.raises(UsageError, match=r"search.enqueue: .*not of the search space"):
        check(validate(raw, "test"), tmp_path / "run")


def test_the_verb_adds_to_a_run_and_says_what_is_known(
    run_maker: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_maker(tmp_path / "run", count=5)
    known = read_journal(folder)[1].architecture
    new = next(text for text in (SE, LAST) if text not in {one.architecture for one in read_journal(folder)})
    monkeypatch.setattr(sys, "argv", ["run_search.py", "enqueue", str(folder), known, new, new])
    assert run_search.main() == 0
    said = capsys.readouterr().err
    assert f"{known} is evaluated already" in said
    assert "1 of 3 architectures come next" in said
    assert "it does not search now; go on with python run_search.py search --resume" in said
    assert (folder / ENQUEUED).read_text() == f"{new}\n"
    with Store(folder):
        assert enqueue(folder, [new]).running
    monkeypatch.setattr(sys, "argv", ["run_search.py", "enqueue", str(folder), new, "attune_tiny:gam,none,none"])
    assert run_search.main() == 2
    assert "not of the search space" in capsys.readouterr().err
    assert (folder / ENQUEUED).read_text() == f"{new}\n" * 2


def test_a_run_may_be_given_more_time() -> None:
    config = validate({**CONFIG, "search": {"minutes": 1}}, "test")
    longer = changed(config, ["search.minutes=5", f"search.enqueue=[{json.dumps(SE)}]"])
    assert (longer.search.seconds, longer.search.enqueue) == (300, (SE,))
