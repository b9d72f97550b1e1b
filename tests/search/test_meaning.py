"""A run belongs to its task: what changes its meaning is refused, what does not is taken, others are not counted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from search.build import create_evaluator, create_problem
from search.config import Config, changed, dump_config, load_run_config, validate
from search.meaning import check_meaning, code_digest, describe_meaning, differences
from search.results import load
from search.runner import run_search
from search.store import COMPLETE, Evaluation, Store
from spaces.errors import UsageError

RAW = {
    "name": "meaning",
    "data": "digits",
    "space": {"backbone": "attune_tiny", "attentions": ["none", "se"], "reductions": [4]},
    "training": {"epochs": 1},
    "search": {"trials": 4},
}


def config(**sections: dict) -> Config:
    return validate(RAW | {name: {**RAW.get(name, {}), **section} for name, section in sections.items()}, "test")


def evaluation(number: int, identity: str) -> Evaluation:
    costs = dict.fromkeys(("flops", "macs", "params", "activations"), 10 - number)
    return Evaluation(f"net:a{number}", 1, 0, COMPLETE, "", number / 10, costs, 1.0, 1.0, identity)


def test_what_changed_is_named_and_what_only_looks_changed_is_not() -> None:
    before, evaluator = config(), create_evaluator(config())
    meaning = describe_meaning(before, create_problem(before, evaluator), evaluator)
    for sections, word in [
        ({"training": {"lr": 0.05}}, "recipe"),
        ({"space": {"attentions": ["none", "eca"]}}, "space"),
        ({"search": {"costs": ["params"]}}, "costs"),
        ({"search": {"budget": {"flops": "1.01x"}}}, "budget"),
        ({"search": {"trials": 9}, "resources": {"cpus": 2}}, None),
    ]:
        other = config(**sections)
        evaluator = create_evaluator(other)
        now = describe_meaning(other, create_problem(other, evaluator), evaluator)
        assert (differences(meaning, now) or [None])[0] == word
    code = {**meaning["code"], "evaluators/training/loop.py": "other", "evaluators/tasks/new.py": "new"}
    assert differences(meaning, {**meaning, "code": code}) == ["code (evaluators/training/loop.py)"]
    assert differences(meaning, {**meaning, "data": "shuffled", "evaluator": ["training shuffled"]}) == ["data"]


def test_comments_and_docstrings_do_not_change_the_code() -> None:
    assert code_digest("def f():\n    '''a'''\n    return 1  # b\n") == code_digest("def f(): return 1")
    assert code_digest("x = 1") != code_digest("x = 2")


def test_a_run_of_other_labels_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = config()
    evaluator = create_evaluator(run)
    problem = create_problem(run, evaluator)
    assert "earlier version" in (check_meaning(tmp_path, run, problem, evaluator) or "")
    meaning = describe_meaning(run, problem, evaluator)
    (tmp_path / "run.json").write_text(json.dumps({"meaning": meaning}))
    assert check_meaning(tmp_path, run, problem, evaluator) is None
    (tmp_path / "config.yaml").write_text(dump_config(run))
    with pytest.raises(UsageError, match=r"since recipe changed .* or start a new run \(reuse") as refusal:
        run_search(config(training={"lr": 0.01}), tmp_path, resume=True)
    assert "\n" not in str(refusal.value)
    assert load_run_config(tmp_path) == run
    assert not (tmp_path / "evaluations.jsonl").exists()


def test_only_what_leaves_the_meaning_alone_may_be_set(tmp_path: Path) -> None:
    run = changed(config(), ["search.trials=9", "resources.cpus=2", "loggers=[tensorboard]", "ray.address=auto"])
    assert (run.search.trials, run.resources.cpus, run.ray.address) == (9, 2, "auto")
    for override in ("training.lr=1", "search.sampler=random", "search.trials.x=1", "resourcesx=1", "data=digits"):
        with pytest.raises(UsageError, match=r"valid keys: search.trials, .*search.enqueue, loggers, .*ray.address"):
            changed(config(), [override])
    with pytest.raises(UsageError, match="cpu"):
        changed(config(), ["resources.cpu=2"])


def test_fronts_and_counts_are_of_one_task(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store(tmp_path, identity="new") as store:
        for one in (evaluation(1, "new"), evaluation(2, "shuffled"), replace(evaluation(2, "new"), fidelity=1)):
            store.add(one)
        assert (len(store), store.others, [one.architecture for one in store]) == (2, 1, ["net:a1", "net:a2"])
    (tmp_path / "run.json").write_text('{"identity": "shuffled"}')
    (tmp_path / "config.yaml").write_text(dump_config(config()))
    results = load(tmp_path)
    assert list(results.summary["architecture"]) == ["net:a2"]
    assert results.others == 2
    assert "2 evaluations of other data or recipes" in caplog.text
