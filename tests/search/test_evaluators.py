"""Every evaluator of the ladder drives a whole search, by its name in the configuration."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evaluators.data import load_data
from evaluators.tasks.classification import Classification
from evaluators.trained import SupernetStart
from evaluators.training import TrainingEvaluator
from search import runner
from search.build import create_evaluator
from search.config import Config, validate
from search.results import load
from search.runner import run_search
from spaces import Architecture
from spaces.errors import UsageError


def configuration(evaluator: str | dict[str, Any], **training: Any) -> Config:
    return validate(
        {
            "name": "ladder",
            "data": {"name": "digits", "image_size": 12},
            "space": {
                "backbone": "attune_tiny",
                "attentions": ["none", "se", "eca"],
                "reductions": [4],
                "kernels": [3],
            },
            "training": {"epochs": 1, "batch_size": 64, "crop": 0} | training,
            "evaluator": evaluator,
            "search": {"sampler": "random", "trials": 6},
            "resources": {"concurrency": 1},
        },
        "test",
    )


@pytest.mark.usefixtures("ray_here")
@pytest.mark.matrix
@pytest.mark.slow
def test_a_table_answers_a_search_with_all_its_seeds(tmp_path: Path) -> None:
    space = configuration("training").space.build()
    texts = [str(space.architecture(row)) for row in space.all_indices()]
    table = pd.DataFrame({"architecture": texts})
    for seed in range(3):
        table[f"accuracy_{seed}"] = [0.5 + 0.01 * i + 0.1 * seed for i in range(len(texts))]
    table.to_parquet(tmp_path / "table.parquet")
    config = configuration({"name": "table", "file": str(tmp_path / "table.parquet"), "seeds": 3})
    outcome = run_search(config, tmp_path / "run")
    assert (outcome.finished, outcome.failed, outcome.interrupted) == (6, 0, False)
    results = load(tmp_path / "run")
    assert len(results.evaluations) == 18
    assert (results.summary["seeds"] == 3).all()
    assert results.summary["accuracy_std"].to_numpy() == pytest.approx(0.1)
    truth = dict(zip(texts, table["accuracy_1"], strict=True))
    for row in results.summary.itertuples():
        assert row.accuracy == pytest.approx(truth[row.architecture])
    assert pd.read_csv(tmp_path / "run" / "front.csv")["seeds"].tolist() == [3] * len(results.recommended())
    assert run_search(config, tmp_path / "run", resume=True).finished == 6, "nothing is left to do"


@pytest.mark.usefixtures("ray_here")
@pytest.mark.matrix
@pytest.mark.slow
def test_a_supernet_is_trained_once_and_scores_a_search(tmp_path: Path) -> None:
    config = configuration({"name": "supernet", "calibration": 64, "supernet_epochs": 1})
    outcome = run_search(config, tmp_path / "run")
    assert (outcome.finished, outcome.failed) == (6, 0)
    file = tmp_path / "run" / "supernet-s0-e1.pt"
    assert file.is_file()
    evaluator = create_evaluator(config)
    evaluator.prepare(tmp_path / "run", fidelity=1, seeds=[0])  # type: ignore[attr-defined]
    for row in load(tmp_path / "run").summary.itertuples():
        again = evaluator.evaluate(Architecture.parse(row.architecture), fidelity=1, seed=0)
        assert again["accuracy"] == pytest.approx(row.accuracy, abs=0.02), "the kept supernet is the one that scored"
    other = create_evaluator(configuration({"name": "supernet", "calibration": 64}, lr=0.01))
    with pytest.raises(UsageError, match=r"supernet-s0-e1.pt was trained with other data or another recipe"):
        other.prepare(tmp_path / "run", fidelity=1, seeds=[0])  # type: ignore[attr-defined]


def test_a_training_starts_from_the_supernet(tmp_path: Path) -> None:
    arch = Architecture.parse("attune_tiny:se-r4,none,none")
    evaluator = create_evaluator(configuration({"name": "training", "start": "supernet", "supernet_epochs": 2}))
    assert isinstance(evaluator, SupernetStart)
    evaluator.prepare(tmp_path, fidelity=1, seeds=[0])
    warm = evaluator.evaluate(arch, fidelity=1, seed=0)
    cold = create_evaluator(configuration("training")).evaluate(arch, fidelity=1, seed=0)
    assert warm["train_loss"] < cold["train_loss"]
    assert evaluator.identity != create_evaluator(configuration("training")).identity


def test_a_proxy_scores_by_name() -> None:
    evaluator = create_evaluator(configuration({"name": "proxy", "proxy": "params"}))
    plain = evaluator.evaluate(Architecture.parse("attune_tiny:none,none,none"), fidelity=1, seed=0)
    richer = evaluator.evaluate(Architecture.parse("attune_tiny:se-r4,none,none"), fidelity=1, seed=0)
    assert richer["accuracy"] > plain["accuracy"] == plain["score"]


@dataclass(frozen=True, eq=False)
class Dying(TrainingEvaluator):
    """Kills its worker after the second epoch, once; `log` gets a line per epoch."""

    log: Path = Path("log")

    def evaluate(self, *args: Any, report: Callable[..., bool] | None = None, **options: Any) -> dict[str, Any]:
        def die(epoch: int, metrics: dict[str, Any]) -> bool:
            with open(self.log, "a") as log:
                log.write(f"{epoch}\n")
            if epoch == 2 and self.log.read_text().count("\n") == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return True

        return super().evaluate(*args, report=die, **options)


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_an_evaluation_whose_worker_dies_goes_on_at_its_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configuration("training", epochs=3)
    config = config.model_copy(update={"search": config.search.model_copy(update={"trials": 1})})
    evaluator = Dying(Classification(load_data(config.data)), config.training, log=tmp_path / "log")
    monkeypatch.setattr(runner, "create_evaluator", lambda config: evaluator)
    assert run_search(config, tmp_path / "run").failed == 0
    assert (tmp_path / "log").read_text().split() == ["1", "2", "3"], "no epoch is trained twice"
    whole = create_evaluator(config).evaluate(Architecture.parse("attune_tiny:none,none,none"), fidelity=3, seed=0)
    assert load(tmp_path / "run").summary["accuracy"][0] == pytest.approx(whole["accuracy"], abs=0.02)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
