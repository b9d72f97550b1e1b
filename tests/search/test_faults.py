"""Faults of evaluations with real workers: each becomes a result with its reason, and the run goes on to its end."""

import errno
import json
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from ray import cloudpickle

from evaluators.tasks import Metric
from search import runner
from search.config import Config, validate
from search.store import COMPLETE, FAILED, Store, StoreError, read_journal
from spaces import Architecture, NetworkSpec
from spaces.errors import UsageError

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not have the folder of the tests


@dataclass(frozen=True)
class FaultyEvaluator:
    """Answers at once, but for the attention type in stage 1, which names a fault; ``log`` gets a line per evaluation."""

    log: Path
    identity: str = "faulty"

    network: ClassVar[NetworkSpec] = NetworkSpec.classifier(8, 10, 1)
    metric: ClassVar[Metric] = Metric()

    def evaluate(self, arch: Architecture, *, fidelity: int, seed: int, **_: Any) -> dict[str, Any]:
        with open(self.log, "a") as log:
            log.write(f"{arch}\n")
        fault = str(arch).split(":")[1].split("-")[0].split(",")[0]
        times = self.log.read_text().splitlines().count(str(arch))
        if fault == "eca":
            time.sleep(600)
        if fault == "se" or (fault == "cbam" and times == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "coordinate":
            raise torch.OutOfMemoryError("out of memory")
        return {"accuracy": math.nan if fault == "bam" else 0.5}


FAULTS = ["none", "eca", "se", "cbam", "coordinate", "bam"]


def configuration(**changes: Any) -> Config:
    space: dict[str, Any] = {"backbone": "attune_tiny", "attentions": FAULTS, "reductions": [4], "kernels": [3]}
    space |= {"arrangements": ["series"], "stages": {2: ["none"], 3: ["none"]}}
    resources = {"concurrency": 1, "time_limit": 8, "retries": 1}
    search = {"sampler": "random", "trials": 20, "keep_weights": "none"}
    return validate(
        {"name": "faults", "data": "digits", "space": space, "resources": resources, "search": search} | changes, "test"
    )


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "create_evaluator", lambda config: FaultyEvaluator(tmp_path / "log"))
    return tmp_path / "log"


def types(folder: Path) -> dict[str, Any]:
    return {e.architecture.split(":")[1].split("-")[0].split(",")[0]: e for e in read_journal(folder)}


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_every_fault_is_a_result_with_its_reason_and_a_second_search_repeats_nothing(log: Path, tmp_path: Path) -> None:
    outcome = runner.run_search(configuration(), tmp_path / "first")
    found = types(tmp_path / "first")
    assert sorted(found) == sorted(FAULTS)
    assert (outcome.finished, outcome.failed, outcome.interrupted) == (6, 4, False)
    assert {name for name, e in found.items() if e.state == COMPLETE} == {"none", "cbam"}
    assert found["eca"].reason == "the time limit of 8 s passed"
    assert "died" in found["se"].reason
    assert "out of memory" in found["coordinate"].reason
    assert "nan" in found["bam"].reason
    tries = [line.split(":")[1].split("-")[0].split(",")[0] for line in log.read_text().splitlines()]
    assert {name: tries.count(name) for name in FAULTS} == dict.fromkeys(FAULTS, 1) | {"se": 2, "cbam": 2}

    log.unlink()
    again = configuration(
        reuse=[str(tmp_path / "first")], search={"sampler": "random", "trials": 1, "keep_weights": "none"}
    )
    outcome = runner.run_search(again, tmp_path / "second")
    assert outcome.finished == 3  # two that were complete, and one more
    assert json.loads((tmp_path / "second" / "reused.json").read_text())["evaluations"] == 2
    assert not {"none", "cbam"} & {
        line.split(":")[1].split("-")[0].split(",")[0] for line in log.read_text().splitlines()
    }
    assert runner.run_search(again, tmp_path / "second", resume=True).finished == 3
    assert all(e.state == FAILED for e in read_journal(tmp_path / "second")[2:])


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_one_clear_line(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("search.store.os.fsync", full)
    with pytest.raises(StoreError, match="the disk is full") as refusal:
        runner.run_search(configuration(), tmp_path / "run")
    assert "\n" not in str(refusal.value)


def test_reuse_of_a_folder_that_is_no_run_is_refused(log: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run directory"):
        runner.run_search(configuration(reuse=[str(tmp_path)]), tmp_path / "run")
    with Store(tmp_path / "run") as store:
        assert len(store) == 0
