"""Kills at random and at chosen instants: searches that are killed again and again, and what they lost or repeated.

    python -m benchmarks.faults [--searches 4] [--kills 5] [--trials 40] [--instants 60] [--minutes 10] [--markdown [FILE]]

Every second kill is SIGKILL for the driver, which is then resumed; the others are SIGKILL for a worker in the middle of
an evaluation. lost: evaluations that were in the journal before a kill and are not after it, or are missing at the end.
repeated: evaluations that began although the journal had them. The account of each finished search is kept in `--runs`.

The chosen instants are in one more search, which is resumed after each: the driver dies at its first, second, third ... write,
rename, flush, step of the study, start and end of Ray (before it, after it, or with half a line written), and in between
a worker, the raylet or the GCS is killed. The driver's calls are wrapped here; the product knows nothing of it.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import itertools
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
import optuna
import psutil
import ray
from ray import cloudpickle

from benchmarks.page import add_option, write
from evaluators.tasks.base import Metric
from search import runner
from search.config import Config, validate
from search.store import FAILED, read_journal
from spaces import Architecture
from spaces.network import ClassifierHead, NetworkSpec

cloudpickle.register_pickle_by_value(sys.modules[__name__])

RUNS = Path("runs/benchmarks/faults.jsonl")


@dataclass(frozen=True)
class SlowEvaluator:
    """Takes ``seconds`` for an answer; ``log`` gets the time, the process and the architecture of each beginning."""

    log: Path
    seconds: float = 0.5
    identity: str = "slow"
    metric: Metric = Metric()  # noqa: RUF009 - it is frozen too
    network: NetworkSpec = NetworkSpec(1, (32, 32), ClassifierHead(10))  # noqa: RUF009

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


def drive(folder: Path, trials: int, instant: int | None) -> None:
    """The process that is killed: run the search, or go on with it; at its ``instant``-th event it kills itself."""
    logging.disable(logging.WARNING)
    evaluator = SlowEvaluator(folder.with_name("log"))
    runner.create_evaluator = lambda config: evaluator  # type: ignore[assignment, return-value]
    if instant is not None:
        _arm(instant, folder.with_name("instants"))
    runner.run_search(configuration(trials), folder, resume=(folder / "config.yaml").exists())


HOW = ("before", "after", "in the middle")


def _arm(instant: int, log: Path) -> None:
    """Wrap what the driver does to its folder and to Ray: the process dies at the event of that number, counted from 0."""
    count = itertools.count()

    def wrap(home: Any, name: str) -> None:
        real = getattr(home, name)

        @functools.wraps(real)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            number, how = next(count), HOW[instant % len(HOW)]
            if number != instant:
                return real(*args, **kwargs)
            with builtins_open(log, "a") as file:
                file.write(f"{how} {name} {args[:1]}\n")
            if how == "after":
                real(*args, **kwargs)
            if how == "in the middle" and name == "fsync" and _being_written(args[0]):
                os.ftruncate(args[0], os.fstat(args[0]).st_size - 10)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        setattr(home, name, wrapped)

    builtins_open = open
    for home, names in (
        (os, ("replace", "fsync", "truncate")),
        (ray, ("init", "shutdown")),
        (optuna.storages.RDBStorage, ("create_new_trial", "set_trial_state_values", "set_trial_user_attr")),
        (runner.Store, ("add", "flush", "close")),
    ):
        for name in names:
            wrap(home, name)


def _being_written(descriptor: int) -> bool:
    """Whether a file is one to which a line is appended, or a new one that will replace another: what may be cut by a kill."""
    appended = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
    whole = os.readlink(f"/proc/self/fd/{descriptor}").endswith(".partial")
    return bool(appended or whole) and os.fstat(descriptor).st_size > 10


def begun(log: Path) -> list[tuple[float, int, str]]:
    """(time, process, architecture) of each evaluation that began."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(float(when), int(pid), text) for when, pid, text in (line.split(" ", 2) for line in lines)]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Torture:
    """One search under kills, and the account of it."""

    def __init__(self, folder: Path, trials: int, seed: int, instant: int | None = None) -> None:
        self.run, self.trials = folder / "run", trials
        self.rng = np.random.default_rng(seed)
        self.lost = 0
        self.driver = self._start(instant)

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

    def die(self, following: int | None) -> bool:
        """Wait until the driver has killed itself, then go on to the ``following`` event; False where it ended first."""
        before = self._journal()
        if self.driver.wait() != -signal.SIGKILL:
            return False
        self.lost += len(before - self._journal())
        self.driver = self._start(following)
        return True

    def kill_ray(self, name: str, following: int | None) -> bool:
        """Kill the raylet or the GCS in the middle of evaluations: the driver has to end by itself, with exit code 1."""
        news = len(begun(self.run.with_name("log")))
        while len(begun(self.run.with_name("log"))) <= news + 1:
            if self.driver.poll() is not None:
                return False
            time.sleep(0.05)
        before = self._journal()
        for process in psutil.Process(self.driver.pid).children():
            if process.name().startswith(name):
                process.kill()
        if self.driver.wait(timeout=120) != 1:
            raise SystemExit(f"the driver ended with {self.driver.returncode} when its {name} died")
        self.lost += len(before - self._journal())
        self.driver = self._start(following)
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

    def _start(self, instant: int | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.faults", "--drive", str(self.run), "--trials", str(self.trials)]
        command += [] if instant is None else ["--instant", str(instant)]
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


def chosen(trials: int, instants: int, until: float) -> dict[str, float]:
    """One search that dies at chosen instants: most of them the driver's own events, one after the other from its start."""
    start = time.monotonic()
    kinds = ["raylet" if n % 12 == 11 else "gcs" if n % 20 == 19 else "driver" for n in range(instants)]
    numbers = [n - kinds[:n].count("raylet") - kinds[:n].count("gcs") for n in range(instants)]
    events = [number if kind == "driver" else None for kind, number in zip(kinds, numbers, strict=True)] + [None]
    done = dict.fromkeys(("driver", "raylet", "gcs"), 0)
    with tempfile.TemporaryDirectory() as folder:
        search = Torture(Path(folder), trials, 0, events[0])
        for number, kind in enumerate(kinds):
            last = time.monotonic() >= until
            following = None if last else events[number + 1]
            died = search.die(following) if kind == "driver" else search.kill_ray(kind, following)
            if not died:
                raise SystemExit(f"the search ended after {sum(done.values())} kills; ask for more --trials")
            done[kind] += 1
            print(f"chosen instant {number + 1}: {kind}", file=sys.stderr, flush=True)
            if last:
                break
        account = search.account()
        if search.driver.returncode:
            raise SystemExit(f"the run cannot go on: exit code {search.driver.returncode}")
        print(Path(folder, "instants").read_text(), file=sys.stderr)
        names = {f"chosen instants: {kind}": count for kind, count in done.items()}
        return {**names, **account, "seconds": round(time.monotonic() - start)}


def _table(accounts: list[dict[str, float]]) -> str:
    counts = {"searches": len(accounts)} | {name: sum(one[name] for one in accounts) for name in accounts[0]}
    rows = [list(counts), ["---"] * len(counts), [str(value) for value in counts.values()]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=4)
    parser.add_argument("--kills", type=int, default=5, help="in each search")
    parser.add_argument("--trials", type=int, default=40, help="of each search")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the accounts of finished searches are kept")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no new search after so long")
    parser.add_argument("--instants", type=int, default=60, help="chosen instants, in one more search")
    parser.add_argument("--instant", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    add_option(parser, "engine.md")
    options = parser.parse_args()
    if options.drive:
        drive(options.drive, options.trials, options.instant)
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
    if options.instants and time.monotonic() < until:
        key = ["chosen", 2 * options.instants, options.instants]
        if not any(run["key"] == key for run in kept):
            kept.append({"key": key, "account": chosen(key[1], key[2], until)})
            with options.runs.open("a") as file:
                file.write(json.dumps(kept[-1]) + "\n")
    random = [run["account"] for run in kept if run["key"][:2] == [options.trials, options.kills]]
    at = [run["account"] for run in kept if run["key"][0] == "chosen"]
    if not random and not at:
        raise SystemExit("no search is finished yet")
    tables = [_table(accounts) for accounts in (random, at) if accounts]
    lines = "\n\n".join(tables)
    print(lines)
    if options.markdown:
        write(options.markdown, "faults", lines + "\n")
    if any(one["lost"] or one["repeated"] or one["failed"] for one in [*random, *at]):
        raise SystemExit("evaluations were lost, repeated or failed")


if __name__ == "__main__":
    main()
