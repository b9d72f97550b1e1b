"""Early stopping in a whole search: what is stopped keeps its epochs and its place off the front, over kills and resumes."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from ray import cloudpickle

from evaluators.outcomes import Report
from evaluators.tasks import Metric
from search import runner
from search.config import Config, validate
from search.results import load
from search.store import COMPLETE, STOPPED, read_journal
from spaces import Architecture, NetworkSpec
from spaces.errors import UsageError

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not have the folder of the tests

EPOCHS = 4


@dataclass(frozen=True)
class CurveEvaluator:
    """A learning curve for each architecture, made of its name; ``log`` gets a line per epoch."""

    log: Path
    pause: float = 0.0
    identity: str = "curves"

    network: ClassVar[NetworkSpec] = NetworkSpec.classifier(8, 10, 1)
    metric: ClassVar[Metric] = Metric()

    def evaluate(
        self, arch: Architecture, *, fidelity: int, seed: int, report: Report | None = None, **_: Any
    ) -> dict[str, Any]:
        assert report is not None
        generator = torch.Generator().manual_seed(sum(str(arch).encode()))
        final = float(torch.rand((), generator=generator))
        for epoch in range(1, fidelity + 1):
            time.sleep(self.pause)
            with open(self.log, "a") as log:
                log.write(f"{arch} {epoch}\n")
            report(epoch, {"accuracy": final * epoch / fidelity})
        return {"accuracy": final}


def configuration(**scheduler: Any) -> Config:
    space = {"backbone": "attune_tiny", "attentions": ["none", "se", "eca"], "reductions": [4], "kernels": [3]}
    search = {"sampler": "random", "trials": 20, "keep_weights": "none"}
    return validate(
        {
            "name": "early",
            "data": "digits",
            "space": space,
            "training": {"epochs": EPOCHS},
            "search": search | {"scheduler": {"name": "domination_asha", "reduction": 2} | scheduler},
            "resources": {"concurrency": 1},
        },
        "test",
    )


def use(monkeypatch: pytest.MonkeyPatch, evaluator: CurveEvaluator) -> None:
    monkeypatch.setattr(runner, "create_evaluator", lambda config: evaluator)


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_what_is_dominated_stops_keeps_its_epochs_and_is_on_no_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, CurveEvaluator(tmp_path / "log"))
    folder = tmp_path / "run"
    outcome = runner.run_search(configuration(), folder)
    evaluations = read_journal(folder)
    stopped = [e for e in evaluations if e.state == STOPPED]
    assert outcome.finished == len(evaluations) == 20
    assert outcome.stopped == len(stopped) >= 5
    assert {e.fidelity for e in stopped} <= {1, 2}
    assert all(e.reason == f"dominated after {e.fidelity} epochs" for e in stopped)
    assert {e.fidelity for e in evaluations if e.state == COMPLETE} == {EPOCHS}
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == sum(e.fidelity for e in evaluations)  # no epoch is trained after the decision, none twice
    assert not {e.architecture for e in stopped} & set(load(folder).front["architecture"])


@pytest.mark.usefixtures("ray_here")
@pytest.mark.matrix
@pytest.mark.slow
def test_a_killed_driver_loses_nothing_and_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, CurveEvaluator(tmp_path / "log", pause=0.05))
    folder = tmp_path / "run"
    driver = subprocess.Popen(
        [sys.executable, __file__, str(tmp_path / "log"), str(folder)], env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    while sum(e.state == STOPPED for e in read_journal(folder)) < 2:
        assert driver.poll() is None
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    before = read_journal(folder)
    rungs = (folder / "rungs.jsonl").read_text()
    assert 2 <= len(before) < 20
    outcome = runner.run_search(configuration(brackets=2), folder, resume=True)
    after = read_journal(folder)
    assert outcome.finished == len(after) == 20
    assert after[: len(before)] == before
    assert len({e.architecture for e in after}) == 20
    assert pd.read_parquet(folder / "evaluations.parquet")["architecture"].is_unique
    now = (folder / "rungs.jsonl").read_text()
    assert now.startswith(rungs[: rungs.rfind("\n") + 1])
    assert json.loads(now.splitlines()[0]) == {"plan": [EPOCHS, 1, 2.0, 2]}


def test_rungs_that_do_not_fit_the_epochs_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, CurveEvaluator(tmp_path / "log"))
    with pytest.raises(UsageError, match="first rung 9 must lie below the 4 epochs"):
        runner.run_search(configuration(first=9), tmp_path / "run")
    with pytest.raises(UsageError, match=r"unknown search.scheduler.name 'asha'; valid: none, domination_asha"):
        configuration(name="asha")
    assert not (tmp_path / "run").exists()


if __name__ == "__main__":  # the driver that is killed
    evaluator = CurveEvaluator(Path(sys.argv[1]), pause=0.05)
    runner.create_evaluator = lambda config: evaluator  # type: ignore[assignment,return-value]
    runner.run_search(configuration(brackets=2), sys.argv[2])
