"""Faults of evaluations with real workers: each becomes a result with its reason, and the run goes on to its end."""

import ctypes
import errno
import json
import math
import os
import signal
import sys
from collections import Counter
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
    """Answers at once, but for the attention type in stage 1, which names a fault; ``log`` gets a line per evaluation.

    ``eca``: a C call that never gives Python its lock back. ``cbam``: killed once in its second seed.
    """

    log: Path
    identity: str = "faulty"

    network: ClassVar[NetworkSpec] = NetworkSpec.classifier(8, 10, 1)
    metric: ClassVar[Metric] = Metric()

    def evaluate(self, arch: Architecture, *, fidelity: int, seed: int, **_: Any) -> dict[str, Any]:
        fault = type_of(str(arch))
        with open(self.log, "a") as log:
            log.write(f"{fault} {seed}\n")
        if fault == "eca":
            ctypes.PyDLL(None).sleep(600)
        if fault == "se" or ((fault, seed) == ("cbam", 1) and self.log.read_text().count("cbam 1") == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "coordinate":
            raise torch.OutOfMemoryError("out of memory")
        return {"accuracy": math.nan if fault == "bam" else 0.5}


FAULTS = ["none", "eca", "se", "cbam", "coordinate", "bam"]


def type_of(architecture: str) -> str:
    """The attention type in stage 1."""
    return Architecture.parse(architecture).placements[0].type


def configuration(**changes: Any) -> Config:
    space: dict[str, Any] = {"backbone": "attune_tiny", "attentions": FAULTS, "reductions": [4], "kernels": [3]}
    space |= {"arrangements": ["series"], "stages": {2: ["none"], 3: ["none"]}}
    resources = {"concurrency": 1, "time_limit": 8, "retries": 1}
    search = {"sampler": "random", "trials": 20, "keep_weights": "none"}
    raw = {"name": "faults", "data": "digits", "space": space, "resources": resources, "search": search}
    return validate(raw | {"evaluator": {"name": "training", "seeds": 2}} | changes, "test")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "create_evaluator", lambda config: FaultyEvaluator(tmp_path / "log"))
    return tmp_path / "log"


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_every_fault_is_a_result_with_its_reason(log: Path, tmp_path: Path) -> None:
    outcome = runner.run_search(configuration(), tmp_path / "first")
    assert (outcome.finished, outcome.failed, outcome.interrupted) == (6, 4, False)
    found = {(type_of(one.architecture), one.seed): one for one in read_journal(outcome.folder)}
    complete = {(name, seed) for name in ("none", "cbam") for seed in (0, 1)}
    assert {key for key, one in found.items() if one.state == COMPLETE} == complete
    assert sorted(key for key in found if key not in complete) == [(n, 0) for n in ("bam", "coordinate", "eca", "se")]
    assert found["eca", 0].reason == "the time limit of 8 s passed"
    assert "died" in found["se", 0].reason
    assert "out of memory" in found["coordinate", 0].reason
    assert "nan" in found["bam", 0].reason
    # Tried again: a worker that died twice, and the second seed of another; its first seed was kept, and is not made again.
    once = [*complete, ("bam", 0), ("coordinate", 0), ("eca", 0), ("se", 0)]
    assert lines(log) == Counter([*once, ("se", 0), ("cbam", 1)])
    assert not list((outcome.folder / "checkpoints").glob("*.seed"))


@pytest.mark.usefixtures("ray_here")
@pytest.mark.matrix
@pytest.mark.slow
def test_a_second_search_repeats_nothing_of_what_was_complete(log: Path, tmp_path: Path) -> None:
    runner.run_search(configuration(), tmp_path / "first")
    complete = {(name, seed) for name in ("none", "cbam") for seed in (0, 1)}
    log.unlink()
    again = configuration(
        reuse=[str(tmp_path / "first")], search={"sampler": "random", "trials": 1, "keep_weights": "none"}
    )
    outcome = runner.run_search(again, tmp_path / "second")
    assert outcome.finished == 3  # two that were complete, and one more
    assert json.loads((tmp_path / "second" / "reused.json").read_text())["evaluations"] == 2
    assert not complete & set(lines(log))
    assert runner.run_search(again, tmp_path / "second", resume=True).finished == 3
    assert all(one.state == FAILED for one in read_journal(tmp_path / "second")[len(complete) :])


def lines(log: Path) -> Counter[tuple[str, int]]:
    """What was evaluated, as (type, seed)."""
    words = (line.split() for line in log.read_text().splitlines())
    return Counter((name, int(seed)) for name, seed in words)


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
