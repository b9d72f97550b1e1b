"""Evaluators and tasks of the user's own: functions that train, classes with the whole interface, and what they declare."""

import logging
import pickle
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evaluators.base import Setting
from evaluators.brought import BroughtEvaluator
from evaluators.outcomes import EvaluationError
from evaluators.recipe import Recipe
from evaluators.tasks import Metric, Task
from evaluators.tasks.base import BroughtTask
from evaluators.tasks.classification import Classification
from spaces import Architecture, NetworkSpec, SearchSpace
from spaces.errors import UsageError
from tests.evaluators.architectures import PLAIN, RICH

TRAINERS = '''
from evaluators.tasks.base import Metric
from spaces.network import NetworkSpec


def bare(model, *, epochs, seed, device, report):
    """Counts parameters; tells after every epoch."""
    for epoch in range(1, epochs + 1):
        if not report(epoch, {"accuracy": 0.1 * epoch}):
            break
    model.fc.weight.data.fill_(epoch)
    return {"accuracy": 0.1 * epoch, "seed": seed, "epochs": epoch}


def declared(model, epochs):
    return {"error": sum(p.numel() for p in model.parameters()), "sides": 3}


declared.identity = "version 7"
declared.metric = Metric("error", "parameters", higher_is_better=False)
declared.network = NetworkSpec.classifier((24, 40), num_classes=3)


def optioned(model, *, epochs, factor=1.0):
    return {"accuracy": factor * epochs}


def silent(model):
    return {"loss": 1.0}


def mute(model):
    return None


class Whole:
    identity = "whole"
    metric = "score"

    def __init__(self, space, native, bonus=0):
        self.space, self.native, self.bonus = space, native, bonus
        self.network = NetworkSpec.classifier(16, num_classes=2)

    def evaluate(self, arch, *, fidelity, seed, report=None, keep=None, checkpoint=None):
        return {"score": fidelity + self.bonus}


class Nameless:
    def evaluate(self, arch, **told):
        return {"accuracy": 0.5}


class Computed:
    identity = "computed"

    @property
    def network(self):
        return NetworkSpec.classifier(16, num_classes=2)

    def evaluate(self, arch, **told):
        return {"accuracy": 0.5}


class Called:
    def __call__(self, model, *, epochs):
        return {"accuracy": 0.5}


called = Called()
number = 3
'''


@pytest.fixture(autouse=True)
def trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "trainers.py").write_text(TRAINERS)
    yield tmp_path / "trainers.py"
    sys.modules.pop("trainers", None)
    sys.modules.pop("tasks_of_mine", None)


@pytest.fixture
def setting(clutter: Classification, space: SearchSpace) -> Setting:
    return Setting(lambda: clutter, space, Recipe(epochs=2))


def no_data() -> Task:
    raise UsageError("the key 'data' is missing")


def brought(name: str, **values: Any) -> BroughtEvaluator:
    return BroughtEvaluator.model_validate({"name": f"module:trainers:{name}", **values})


def test_a_function_trains_the_network_of_an_architecture(
    setting: Setting, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It declares nothing: the data's network, accuracy, and its source for an identity, which is said."""
    with caplog.at_level(logging.WARNING):
        evaluator = brought("bare").build(setting)
    assert "module:trainers:bare declares no identity; its source trainers.py (" in caplog.text
    assert evaluator.network == NetworkSpec.classifier(32, num_classes=10, in_chans=1, identity_start=True)
    assert evaluator.metric == Metric()
    seen: list[tuple[int, float]] = []

    def report(epoch: int, metrics: dict[str, Any]) -> bool:
        seen.append((epoch, metrics["accuracy"]))
        return epoch < 2

    found = evaluator.evaluate(RICH, fidelity=5, seed=3, report=report, keep=tmp_path / "kept.safetensors")
    assert seen == [(1, 0.1), (2, 0.2)]
    assert (found["accuracy"], found["seed"], found["epochs"]) == (0.2, 3, 2)
    assert found["seconds"] > 0
    weights = load_file(tmp_path / "kept.safetensors")
    assert set(weights) == set(evaluator.network.build(RICH).state_dict())
    assert (weights["fc.weight"] == 2).all()
    again = evaluator.evaluate(RICH, fidelity=5, seed=3, keep=tmp_path / "again.safetensors")
    assert again["epochs"] == 5, "nobody listens, so nobody stops it"
    stem = load_file(tmp_path / "again.safetensors")["conv1.weight"]
    assert torch.equal(stem, weights["conv1.weight"]), "the seed decides how the network starts"


def test_the_source_stands_for_an_identity_until_it_changes(setting: Setting, trainers: Path) -> None:
    first, again = (brought("bare").build(setting).identity for _ in range(2))
    assert first == again
    trainers.write_text(TRAINERS + "# changed\n")
    assert brought("bare").build(setting).identity != first
    assert brought("bare", identity="mine").build(setting).identity == (
        "module:trainers:bare mine [] (1, 32, 32) identity keep"
    )
    assert brought("called").build(setting).evaluate(PLAIN, fidelity=1, seed=0)["accuracy"] == 0.5


def test_what_a_function_declares_counts(space: SearchSpace) -> None:
    """No data are needed where it says which network it trains."""
    evaluator = brought("declared").build(Setting(no_data, space, Recipe(), identity_start=False, native="replace"))
    assert evaluator.identity == "module:trainers:declared version 7 [] (3, 24, 40) fresh replace"
    assert evaluator.metric == Metric("error", "parameters", higher_is_better=False)
    assert evaluator.network == NetworkSpec.classifier((24, 40), num_classes=3, native="replace")
    plain = evaluator.evaluate(PLAIN, fidelity=1, seed=0)
    assert plain["error"] == sum(p.numel() for p in evaluator.network.build(PLAIN).parameters())
    assert plain["sides"] == 3
    with pytest.raises(UsageError, match="'data' is missing"):
        brought("bare").build(Setting(no_data, space, Recipe()))


def test_a_section_says_it_instead(space: SearchSpace) -> None:
    network = {"image_size": [16, 24], "classes": 5, "channels": 1}
    section = brought("declared", identity="v8", metric={"name": "sides", "unit": "sides"}, network=network)
    evaluator = section.build(Setting(no_data, space, Recipe()))
    assert evaluator.identity == "module:trainers:declared v8 [] (1, 16, 24) identity keep"
    assert evaluator.metric == Metric("sides", "sides")
    assert evaluator.network == NetworkSpec.classifier((16, 24), num_classes=5, in_chans=1, identity_start=True)
    assert evaluator.evaluate(PLAIN, fidelity=1, seed=0)["sides"] == 3
    assert section.build_trainer(Setting(no_data, space, Recipe())).identity == evaluator.identity
    assert brought("declared", metric="sides").build(Setting(no_data, space, Recipe())).metric == Metric("sides")


def test_options_are_keywords_and_part_of_the_identity(setting: Setting) -> None:
    evaluator = brought("optioned", options={"factor": 0.25}, identity="one").build(setting)
    assert evaluator.evaluate(PLAIN, fidelity=2, seed=0)["accuracy"] == 0.5
    assert "[('factor', 0.25)]" in evaluator.identity
    copy = pickle.loads(pickle.dumps(evaluator))  # as Ray sends it to workers
    assert copy.evaluate(PLAIN, fidelity=2, seed=0)["accuracy"] == 0.5
    with pytest.raises(UsageError, match=r"unknown option of .* 'factro' \(did you mean 'factor'\?\); valid: factor$"):
        brought("optioned", options={"factro": 1}).build(setting)


@pytest.mark.parametrize(
    ("name", "words"),
    [("silent", "returned no 'accuracy' but loss"), ("mute", "returned no 'accuracy' but NoneType")],
)
def test_a_function_that_returns_no_metric_is_a_failed_evaluation(setting: Setting, name: str, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        brought(name, identity="one").build(setting).evaluate(PLAIN, fidelity=1, seed=0)


def test_a_class_has_the_whole_interface(setting: Setting) -> None:
    evaluator = brought("Whole", options={"bonus": 2}).build(setting)
    assert evaluator.evaluate(PLAIN, fidelity=3, seed=0) == {"score": 5}
    assert (evaluator.identity, evaluator.metric) == ("whole", Metric("score"))
    assert evaluator.network == NetworkSpec.classifier(16, num_classes=2, identity_start=True)
    assert (evaluator.space, evaluator.native) == (setting.space, "keep")  # type: ignore[attr-defined]
    other = brought("Whole", identity="v2", metric="points", network={"image_size": 24, "classes": 4}).build(setting)
    assert (other.identity, other.metric) == ("v2", Metric("points"))
    assert other.network == NetworkSpec.classifier(24, num_classes=4, identity_start=True)
    nameless = brought("Nameless", identity="said here").build(setting)
    assert (nameless.identity, nameless.metric) == ("said here", Metric())
    assert nameless.network == NetworkSpec.classifier(32, num_classes=10, in_chans=1, identity_start=True)
    assert brought("Computed").build(setting).network == NetworkSpec.classifier(16, num_classes=2)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (brought("Nameless"), "declares no identity: give it an attribute `identity`, or set evaluator.identity"),
        (brought("Whole", options={"bonsu": 1}), r"unknown option of .*Whole' 'bonsu' \(did you mean 'bonus'\?\)"),
        (brought("Computed", network={"image_size": 8, "classes": 2}), "its network cannot be set to NetworkSpec"),
        (brought("number"), "is a int, neither a function nor a class"),
        (brought("nobody"), r"trainers \(.*trainers\.py\) has no 'nobody'"),
    ],
)
def test_what_is_no_evaluator_is_refused_in_one_line(setting: Setting, section: BroughtEvaluator, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        section.build(setting)
    assert "\n" not in str(caught.value)


def test_built_in_attention_is_treated_as_asked_or_refused(clutter: Classification, space: SearchSpace) -> None:
    replacing = Setting(lambda: clutter, space, Recipe(), native="replace")
    assert brought("Whole").build(replacing).network.native == "replace"
    with pytest.raises(UsageError, match="its network cannot be set to NetworkSpec"):
        brought("Computed").build(replacing)


def test_a_task_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "tasks_of_mine.py").write_text(
        textwrap.dedent(
            """
            from dataclasses import dataclass
            from evaluators.data import load_data
            from evaluators.tasks.base import Metric
            from evaluators.tasks.classification import Classification

            @dataclass(frozen=True, eq=False)
            class Loss(Classification):
                metric = Metric("loss", "nats", higher_is_better=False)

            def make(data, seed, train_size=100):
                return Loss(load_data(data, seed=seed, train_size=train_size, val_size=40, test_size=10))

            def other(data, seed):
                return "no task"
            """
        )
    )

    def section(name: str, **options: Any) -> BroughtTask:
        return BroughtTask.model_validate({"name": f"module:tasks_of_mine:{name}", "options": options})

    task = section("make", train_size=50).build("cluttered_digits", seed=0)
    assert isinstance(task, Task)
    assert task.count("train") == 50
    assert task.metric == Metric("loss", "nats", higher_is_better=False)
    with pytest.raises(UsageError, match=r"gave a str without metric, network, identity"):
        section("other").build("cluttered_digits", seed=0)
    with pytest.raises(UsageError, match=r"unknown option of .*'tarin_size'.*valid: train_size"):
        section("make", tarin_size=3).build("cluttered_digits", seed=0)
    with pytest.raises(UsageError, match="neither a function nor a class"):
        BroughtTask.model_validate({"name": "module:trainers:number"}).build("cluttered_digits", seed=0)


def test_every_evaluator_judges_by_the_tasks_metric(clutter: Classification) -> None:
    """A metric of which less is better: proxies turn their score, tables and trainings have it by its name."""
    from evaluators.proxies import ProxyEvaluator
    from evaluators.training.evaluator import TrainingEvaluator

    class Loss(Classification):
        metric = Metric("loss", "nats", higher_is_better=False)

    task, device = Loss(clutter.data), torch.device("cpu")
    proxy = ProxyEvaluator(task, "params", device=device)
    few, many = (proxy.evaluate(arch, fidelity=1, seed=0) for arch in (PLAIN, RICH))
    assert many["loss"] == -many["score"] < few["loss"]
    trained = TrainingEvaluator(task, Recipe(batch_size=64), device=device)
    assert trained.metric.name == "loss"
    assert trained.evaluate(Architecture.parse(str(PLAIN)), fidelity=1, seed=0)["loss"] > 0
