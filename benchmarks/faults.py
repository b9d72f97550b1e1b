"""Kills at random instants: searches whose driver and workers are killed again and again, and what they lost or repeated.

    python -m benchmarks.faults [--searches 4] [--kills 5] [--trials 40] [--minutes 10] [--markdown [FILE]]

Every second kill is SIGKILL for the driver, which is then resumed; the others are SIGKILL for a worker in the middle of
an evaluation. lost: evaluations that were in the journal before a kill and are not after it, or are missing at the end.
repeated: evaluations that began although the journal had them. The account of each finished search is kept in `--runs`.
"""

from __future__ import annotations

import argparse
import json
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

from benchmarks.page import add_option, write
from evaluators.data import Data, load_data
from evaluators.tasks.base import Metric
from search import runner
from search.config import Config, validate
from search.store import FAILED, read_journal
from spaces import Architecture, NetworkSpec

cloudpickle.register_pickle_by_value(sys.modules[__name__])

RUNS = Path("runs/benchmarks/faults.jsonl")


@dataclass(frozen=True)
class SlowEvaluator:
    """Takes ``seconds`` for an answer; ``log`` gets the time, the process and the architecture of each beginning."""

    data: Data
    log: Path
    seconds: float = 0.5
    identity: str = "slow"

    network, metric = NetworkSpec.classifier(32, num_classes=10, in_chans=1), Metric()

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
            "lost": self.lost + self.trials - len(evaluations),
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


def torture(trials: int, kills: int, seed: int) -> dict[str, float]:
    """One search, and how many kills of which kind it went through, what it lost, and the seconds it took."""
    start = time.monotonic()
    done = {"kills of the driver": 0, "kills of workers": 0}
    with tempfile.TemporaryDirectory() as folder:
        search = Torture(Path(folder), trials, seed)
        for number in range(kills):
            driver = number % 2 == seed % 2
            if not search.kill(driver):
                raise SystemExit(f"the search ended after {sum(done.values())} kills; ask for more --trials")
            done["kills of the driver" if driver else "kills of workers"] += 1
            print(f"search {seed}, kill {number + 1}: {'driver' if driver else 'worker'}", file=sys.stderr, flush=True)
        return {**done, **search.account(), "seconds": round(time.monotonic() - start)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=4)
    parser.add_argument("--kills", type=int, default=5, help="in each search")
    parser.add_argument("--trials", type=int, default=40, help="of each search")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the accounts of finished searches are kept")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no new search after so long")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    add_option(parser, "engine.md")
    options = parser.parse_args()
    if options.drive:
        drive(options.drive, options.trials)
        return
    options.runs.parent.mkdir(parents=True, exist_ok=True)
    kept = [json.loads(line) for line in options.runs.read_text().splitlines()] if options.runs.exists() else []
    until = time.monotonic() + 60 * options.minutes
    for seed in range(options.searches):
        key = [options.trials, options.kills, seed]
        if time.monotonic() < until and not any(run["key"] == key for run in kept):
            kept.append({"key": key, "account": torture(options.trials, options.kills, seed)})
            with options.runs.open("a") as file:
                file.write(json.dumps(kept[-1]) + "\n")
    accounts = [run["account"] for run in kept if run["key"][:2] == [options.trials, options.kills]]
    if not accounts:
        raise SystemExit("no search is finished yet")
    counts = {"searches": len(accounts)} | {name: sum(one[name] for one in accounts) for name in accounts[0]}
    lines = [
        "| " + " | ".join(counts) + " |",
        "|" + "---|" * len(counts),
        "| " + " | ".join(map(str, counts.values())) + " |",
    ]
    print("\n".join(lines))
    if options.markdown:
        write(options.markdown, "faults", "\n".join(lines) + "\n")
    if counts["lost"] or counts["repeated"] or counts["failed"]:
        raise SystemExit("evaluations were lost, repeated or failed")


if __name__ == "__main__":
    main()
