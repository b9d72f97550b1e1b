"""Kills at random instants: a search whose driver and workers are killed again and again, and what it lost or repeated.

    python -m benchmarks.faults [--kills 20] [--trials 150] [--seed 0] [--markdown FILE]

Every second kill is SIGKILL for the driver, which is then resumed; the others are SIGKILL for a worker in the middle of
an evaluation. lost: evaluations that were in the journal before a kill and are not after it. repeated: evaluations that began
although the journal had them.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import cloudpickle

from benchmarks.samplers import write
from evaluators.data import Data, load_data
from search import runner
from search.config import Config, validate
from search.store import FAILED, read_journal
from spaces import Architecture

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class SlowEvaluator:
    """Takes ``seconds`` for an answer; ``log`` gets the time, the process and the architecture of each beginning."""

    data: Data
    log: Path
    seconds: float = 0.5
    identity: str = "slow"

    num_classes, in_chans, image_size = 10, 1, 32

    def evaluate(self, arch: Architecture, **_: Any) -> dict[str, Any]:
        with open(self.log, "a") as log:
            log.write(f"{time.time()} {os.getpid()} {arch}\n")
        time.sleep(self.seconds)
        return {"accuracy": 0.5 + len(str(arch)) / 1000}


def configuration(trials: int) -> Config:
    return validate(
        {
            "name": "faults",
            "data": "digits",
            "space": {"backbone": "attune_tiny", "attentions": ["none", "se", "eca", "cbam", "bam"]},
            "search": {"sampler": "random", "trials": trials, "keep_weights": "none"},
            "resources": {"retries": 5},
        },
        "benchmark",
    )


def drive(folder: Path, trials: int) -> None:
    """The process that is killed: run the search, or go on with it."""
    logging.disable(logging.WARNING)
    evaluator = SlowEvaluator(load_data("digits", seed=0), folder.with_name("log"))
    runner.create_evaluator = lambda config: evaluator  # type: ignore[assignment, return-value]
    runner.run_search(configuration(trials), folder, resume=(folder / "config.yaml").exists())


def begun(log: Path) -> list[tuple[float, int, str]]:
    """(time, process, architecture) of each evaluation that began."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(float(when), int(pid), text) for when, pid, text in (line.split(" ", 2) for line in lines)]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Torture:
    """One search under kills, and the account of it."""

    def __init__(self, folder: Path, trials: int, seed: int) -> None:
        self.run, self.trials = folder / "run", trials
        self.rng = np.random.default_rng(seed)
        self.lost = 0
        self.driver = self._start()

    def kill(self, driver: bool) -> bool:
        """Wait for news and a random while, then kill; False where the search ended first."""
        before, news = self._journal(), len(begun(self.run.with_name("log")))
        while len(begun(self.run.with_name("log"))) <= news + 1:  # what was started anew has got to work
            if self.driver.poll() is not None:
                return False
            time.sleep(0.05)
        time.sleep(self.rng.uniform(0, 1.5))
        if driver:
            self.driver.kill()
            self.driver.wait()
        else:
            workers = [pid for _, pid, _ in begun(self.run.with_name("log"))[-2:] if alive(pid)]
            if not workers:
                return self.kill(driver)
            os.kill(int(self.rng.choice(workers)), signal.SIGKILL)
        self.lost += len(before - self._journal())
        if driver:
            self.driver = self._start()
        return True

    def account(self) -> dict[str, int]:
        """Wait for the end, and count."""
        self.driver.wait()
        evaluations = read_journal(self.run)
        known = {evaluation.architecture: evaluation.finished for evaluation in evaluations}
        starts = begun(self.run.with_name("log"))
        return {
            "evaluations": len(evaluations),
            "lost": self.lost,
            "repeated": sum(when > known.get(text, np.inf) for when, _, text in starts)
            + len(evaluations)
            - len({evaluation.key for evaluation in evaluations}),
            "failed": sum(evaluation.state == FAILED for evaluation in evaluations),
            "cut off and made again": len(starts) - len({text for _, _, text in starts}),
        }

    def _journal(self) -> set[str]:
        return {str(evaluation) for evaluation in read_journal(self.run)}

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.faults", "--drive", str(self.run), "--trials", str(self.trials)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--markdown", type=Path, help="write the table between the marks of this file")
    options = parser.parse_args()
    if options.drive:
        drive(options.drive, options.trials)
        return
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        torture = Torture(Path(folder), options.trials, options.seed)
        kills = {"driver": 0, "worker": 0}
        for number in range(options.kills):
            driver = number % 2 == 0
            if not torture.kill(driver):
                raise SystemExit(f"the search ended after {sum(kills.values())} kills; ask for more --trials")
            kills["driver" if driver else "worker"] += 1
            print(f"kill {number + 1}: {'driver' if driver else 'worker'}", file=sys.stderr, flush=True)
        counts = torture.account()
    lines = [
        f"{kills['driver']} kills of the driver and {kills['worker']} of workers in {time.monotonic() - start:.0f} s.",
        "",
        "| " + " | ".join(counts) + " |",
        "|" + "---|" * len(counts),
        "| " + " | ".join(map(str, counts.values())) + " |",
    ]
    print("\n".join(lines))
    if options.markdown:
        write(options.markdown, "faults", "\n".join(lines) + "\n")
    if counts["lost"] or counts["repeated"] or counts["failed"] or counts["evaluations"] != options.trials:
        raise SystemExit("evaluations were lost, repeated or failed")


if __name__ == "__main__":
    main()
