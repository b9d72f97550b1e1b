"""How evaluations and runs end with real workers: frozen processes, kills between seeds, SIGTERM, and Ray's own death."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ray import cloudpickle

from evaluators.tasks.base import Metric
from search import runner
from search.config import validate
from search.store import COMPLETE, FAILED, read_journal
from spaces import Architecture
from spaces.network import ClassifierHead, NetworkSpec

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not have the folder of the tests

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Freezing:
    """``se`` in stage 1: a C call that never gives Python its lock back. ``eca``: killed once in its second seed."""

    log: Path
    identity: str = "freezing"
    network: NetworkSpec = NetworkSpec(1, (8, 8), ClassifierHead(10))  # noqa: RUF009 - it is frozen too
    metric: Metric = Metric()  # noqa: RUF009

    def evaluate(self, arch: Architecture, *, seed: int, **_: Any) -> dict[str, Any]:
        with open(self.log, "a") as log:
            log.write(f"{arch.placements[0].type} {seed}\n")
        if arch.placements[0].type == "se":
            ctypes.PyDLL(None).sleep(600)
        if (arch.placements[0].type, seed) == ("eca", 1) and self.log.read_text().count("eca 1") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"accuracy": 0.5 + seed / 10}


@pytest.mark.slow
def test_a_frozen_worker_is_ended_and_a_kill_between_seeds_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setattr(runner, "create_evaluator", lambda config: Freezing(log))
    space = {"backbone": "attune_tiny", "attentions": ["none", "se", "eca"], "reductions": [4], "kernels": [3]}
    raw = {
        "data": "digits",
        "space": space | {"stages": {2: ["none"], 3: ["none"]}},
        "evaluator": {"name": "training", "seeds": 2},
        "search": {"sampler": "random", "trials": 3, "keep_weights": "none"},
        "resources": {"concurrency": 1, "time_limit": 10, "retries": 1},
    }
    outcome = runner.run_search(validate(raw, "test"), tmp_path / "run")
    assert (outcome.finished, outcome.failed) == (3, 1)
    found = {
        (Architecture.parse(one.architecture).placements[0].type, one.seed): one for one in read_journal(outcome.folder)
    }
    assert found["se", 0].state == FAILED
    assert found["se", 0].reason == "the time limit of 10 s passed"
    assert [found["eca", seed].state for seed in (0, 1)] == [COMPLETE, COMPLETE]
    assert log.read_text().split("\n").count("eca 0") == 1  # kept, and not made again
    assert log.read_text().split("\n").count("eca 1") == 2
    assert not list((outcome.folder / "checkpoints").glob("*.seed"))


@pytest.mark.slow
def test_sigterm_is_ctrl_c_twice_is_at_once_and_the_death_of_the_raylet_is_one_line(tmp_path: Path) -> None:
    raw = {"data": "digits", "space": {"backbone": "attune_tiny", "attentions": ["none", "se"]}}
    raw |= {"training": {"preset": "short", "epochs": 100000}, "search": {"sampler": "random", "trials": 4}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, str(ROOT / "run_search.py"), "search", str(tmp_path / "config.yaml"), "--run"]

    def started(name: str, *, until: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([*command, str(tmp_path / name)], cwd=ROOT, text=True, stderr=subprocess.PIPE)
        for _ in range(2400):
            if any(tmp_path.glob(f"{name}/{until}")):
                return process
            time.sleep(0.1)
        raise AssertionError("not in four minutes")

    process = started("first", until="config.yaml")
    process.send_signal(signal.SIGINT)  # Ray is about to start
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "--resume" in err or "interrupted" in err

    process = started("second", until="checkpoints/*.pt")
    raylet = next(one for one in psutil.Process(process.pid).children() if one.name() == "raylet")
    raylet.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert (
        f"died; everything that was finished is kept; go on with python run_search.py search --resume {tmp_path}/second"
        in err
    )

    command[2:-1] = ["search", "--resume", str(tmp_path / "second"), "--set", "loggers=[]"]
    process = subprocess.Popen(command[:-1], cwd=ROOT, text=True, stderr=subprocess.PIPE)
    assert process.stderr is not None
    time.sleep(1)
    for line in process.stderr:
        if "trials at once" in line:
            break
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    for line in process.stderr:
        if line.startswith("interrupted"):
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped\n" in err
    assert f"--resume {tmp_path}/second" in err
    assert "Traceback" not in err
    assert not read_journal(tmp_path / "second")  # it stopped in the middle of evaluations
