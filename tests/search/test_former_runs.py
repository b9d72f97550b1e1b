"""Run directories of earlier versions open, are analysed, go on, are confirmed and exported."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import run_search
from evaluators.tasks import Metric
from evaluators.training import TrainingEvaluator, save_weights
from search import load, runner
from search.analysis.confirm import confirm
from search.build import create_evaluator, create_problem
from search.config import load_run_config, validate
from search.schedulers import Rungs, Trials
from search.store import read_journal
from search.trainable import weights_path
from spaces import Architecture

# What the version before sections of their own wrote: every key of every evaluator and scheduler, with its default.
CONFIG: dict[str, Any] = {
    "name": "small",
    "data": {"name": "digits", "image_size": 12},
    "seed": 0,
    "space": {
        "backbone": "attune_tiny",
        "attentions": ["none", "se"],
        "reductions": [4],
        "kernels": None,
        "groups": None,
        "arrangements": None,
        "sites": ["slot"],
        "stages": {2: ["none"]},
        "identity_start": True,
        "native": "keep",
    },
    "training": {"preset": "short", "epochs": 1, "batch_size": 64, "crop": 0},
    "evaluator": {
        "name": "training",
        "seeds": 1,
        "start": "scratch",
        "supernet_epochs": None,
        "paths": None,
        "sandwich": False,
        "calibration": 256,
        "validation": 1000,
        "proxy": "params",
        "file": None,
    },
    "search": {
        "sampler": "random",
        "scheduler": {"name": "none", "first": 1, "reduction": 3.0, "brackets": 1},
        "trials": 4,
        "costs": ["flops"],
        "budget": {},
        "latency": {"batch": 1, "device": None, "threads": 1, "compile": False, "repeats": 20},
        "keep_weights": "front",
    },
    "resources": {
        "cpus": 1.0,
        "gpus": None,
        "concurrency": 1,
        "retries": 1,
        "time_limit": None,
        "memory": None,
    },
    "ray": {"address": None, "storage": None},
    "loggers": [],
    "reuse": [],
}
DATA = {"num_classes": 10, "in_chans": 1, "image_size": 12, "mean": [0.3], "std": [0.3]}
TEXTS = [f"attune_tiny:{one},none,{three}" for one in ("none", "se-r4@slot") for three in ("none", "se-r4@slot")]


def write(folder: Path, count: int = 4, changes: dict[str, Any] | None = None) -> Path:
    """A run directory as the version before this house wrote it, with ``count`` of the four architectures."""
    config = {**CONFIG, **(changes or {})}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "data.json").write_text(json.dumps({**DATA, "class_names": [str(digit) for digit in range(10)]}))
    settings = load_run_config(folder)
    evaluator = create_evaluator(settings)
    problem = create_problem(settings, evaluator)
    with open(folder / "evaluations.jsonl", "w") as journal:
        for number, text in enumerate(TEXTS[:count]):
            costs = {name: problem.cost(Architecture.parse(text))[name] for name in ("flops", "macs", "params")}
            line = {"architecture": text, "fidelity": 1, "seed": 0, "state": "complete", "reason": ""}
            line |= {"accuracy": 0.5 + 0.1 * number, **costs, "activations": 5, "seconds": 1.0, "finished": 1.7e9}
            line |= {"task": evaluator.identity, "kind": "search", "latency": None}
            journal.write(json.dumps(line) + "\n")
    assert isinstance(evaluator, TrainingEvaluator)
    (folder / "weights").mkdir()
    best = Architecture.parse(TEXTS[count - 1])
    path = weights_path(folder / "weights", best)
    assert path is not None
    save_weights(evaluator.build(best).state_dict(), path)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("former") / "run")


def cli(*args: object) -> int:
    before, sys.argv = sys.argv, ["run_search.py", *map(str, args)]
    try:
        return run_search.main()
    finally:
        sys.argv = before


@pytest.mark.slow
def test_it_is_read_reported_and_exported(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = load(finished)
    assert results.metric.name == "accuracy"
    found = dict(zip(results.summary["architecture"], results.summary["accuracy"], strict=True))
    assert found == pytest.approx(dict(zip(TEXTS, (0.5, 0.6, 0.7, 0.8), strict=True)))
    assert cli("front", finished, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[-1]["accuracy"] == pytest.approx(0.8)
    assert rows[-1]["architecture"] == TEXTS[3]
    assert cli("analyze", finished) == 0
    assert (finished / "report.html").exists()
    assert (
        cli(
            "export",
            finished,
            "--pick",
            TEXTS[3],
            "--to",
            tmp_path / "out",
            "--format",
            "spec",
            "--format",
            "safetensors",
        )
        == 0
    )
    assert json.loads((tmp_path / "out" / "architecture.json").read_text())["architecture"] == TEXTS[3]


def test_a_finished_one_is_resumed_with_nothing_left_to_do(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    before = (folder / "evaluations.jsonl").read_text()
    outcome = runner.resume_search(folder)
    assert (outcome.finished, outcome.failed, outcome.interrupted) == (4, 0, False)
    assert (folder / "evaluations.jsonl").read_text() == before
    assert pd.read_parquet(folder / "evaluations.parquet")["purpose"].tolist() == ["search"] * 4
    assert load(folder).config == load(finished).config


@pytest.mark.usefixtures("ray_here")
@pytest.mark.matrix
@pytest.mark.slow
def test_one_that_was_interrupted_goes_on_and_is_confirmed(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", 3)
    before = (folder / "evaluations.jsonl").read_text()
    outcome = runner.resume_search(folder)
    assert (outcome.finished, outcome.failed) == (4, 0)
    assert (folder / "evaluations.jsonl").read_text().startswith(before)
    evaluations = read_journal(folder)
    assert evaluations[3].architecture == TEXTS[3]
    assert len({one.identity for one in evaluations}) == 1  # the same data and recipe have the same name
    confirm(folder, 2, baselines=())
    results = load(folder)
    assert (results.confirmed["seeds"] >= 2).all()
    plain = results.confirmed.set_index("architecture").loc[TEXTS[0]]
    assert 0 < plain["test_accuracy"] <= 1


@pytest.mark.parametrize(
    "evaluator",
    [
        {"name": "supernet", "supernet_epochs": 3, "paths": 2, "sandwich": True, "calibration": 64, "validation": 500},
        {"name": "proxy", "proxy": "snip"},
        {"name": "table", "file": "a.parquet"},
        {"name": "training", "start": "supernet", "supernet_epochs": 2},
    ],
    ids=lambda one: one["name"] + one.get("start", ""),
)
def test_flat_sections_of_every_evaluator_mean_what_they_meant(tmp_path: Path, evaluator: dict[str, Any]) -> None:
    flat = CONFIG["evaluator"] | evaluator
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "evaluator": flat}))
    assert load_run_config(tmp_path) == validate(
        {**CONFIG, "evaluator": evaluator, "search": {**CONFIG["search"], "scheduler": "none"}}, "test"
    )


def test_rungs_of_an_earlier_version_go_on(tmp_path: Path) -> None:
    search = CONFIG["search"] | {"scheduler": {"name": "domination_asha", "first": 1, "reduction": 3.0, "brackets": 1}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "search": search}))
    notes = [
        {"plan": [9, 1, 3.0, 1]},
        {"trial": TEXTS[0], "bracket": 0, "epoch": 1, "accuracy": 0.5, "costs": [9.0]},
        {"trial": TEXTS[0], "bracket": 0, "epoch": 9, "accuracy": 0.8, "costs": [9.0]},
        {"trial": TEXTS[1], "bracket": 0, "epoch": 1, "accuracy": 0.6, "costs": [10.0]},
    ]
    (tmp_path / "rungs.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    config = load_run_config(tmp_path)
    stopping = config.search.scheduler.build(Trials(9, Metric(), ("flops",), tmp_path))
    assert stopping is not None
    wanted = Rungs(9)
    for trial, epoch, gain, cost in ((TEXTS[0], 1, 0.5, 9.0), (TEXTS[0], 9, 0.8, 9.0), (TEXTS[1], 1, 0.6, 10.0)):
        wanted.decide(trial, epoch, gain, [cost])
    assert stopping.scheduler.rungs == wanted
    assert stopping.expected(1, 0.4) == pytest.approx(0.7)
