"""End to end on the embedded default at equal wall time: Attune's default, random search, plain Ray Tune with OptunaSearch.

    python -m benchmarks.end_to_end [--seconds 75] [--seeds 10] [--markdown [FILE]]

Every search is a process of its own that is stopped after so many seconds, its start included; what it had finished by then
counts. All three train the same networks with the same evaluator. The plain script is that of Ray's documentation: a function,
a `param_space` with a choice for each stage, `OptunaSearch` with two metrics. Hypervolume of accuracy above 0 and log FLOPs
below the dearest architecture, as a share of the whole box. Finished searches are kept in `--runs`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.page import add_option, interval, write
from search.build import create_evaluator, create_problem
from search.config import Config, load_config
from search.pareto import hypervolume
from search.problem import Problem
from search.store import COMPLETE, read_journal
from spaces import Architecture

CONFIG = Path("configs/default.yaml")
RUNS = Path("runs/benchmarks/end_to_end.jsonl")
LABELS = {"known_cost": "Attune, default", "random": "Attune, random", "plain": "Ray Tune + OptunaSearch, plain script"}


def plain_ray_tune(config: Config, folder: Path) -> None:
    """Multi-objective search as in the documentation of ray.tune.search.optuna."""
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    evaluator = create_evaluator(config)
    problem = create_problem(config, evaluator)
    backbone, log = problem.space.backbone, folder / "log"

    def objective(choices: dict[str, str], evaluator: Any, problem: Any) -> None:
        text = f"{backbone}:{','.join(choices[f'stage{s + 1}'] for s in range(len(choices)))}"
        arch = Architecture.parse(text)
        accuracy = evaluator.evaluate(arch, fidelity=config.training.epochs, seed=config.seed)["accuracy"]
        flops = problem.cost(arch)["flops"]
        with open(log, "a") as file:
            file.write(json.dumps([time.time(), accuracy, flops]) + "\n")
        tune.report({"accuracy": accuracy, "flops": flops})

    space = {f"stage{s + 1}": tune.choice([str(p) for p in choices]) for s, choices in enumerate(problem.space.choices)}
    search = OptunaSearch(metric=["accuracy", "flops"], mode=["max", "min"], seed=config.seed)
    tune.Tuner(
        tune.with_parameters(objective, evaluator=evaluator, problem=problem),
        tune_config=tune.TuneConfig(search_alg=ConcurrencyLimiter(search, os.cpu_count() or 1), num_samples=100_000),
        param_space=space,
        run_config=tune.RunConfig(storage_path=str(folder), name="plain", verbose=0),
    ).fit()


def command(name: str, seed: int, folder: Path) -> list[str]:
    if name == "plain":
        return [sys.executable, "-m", "benchmarks.end_to_end", "--plain", str(folder), "--seeds", str(seed)]
    changes = [f"search.sampler={name}", "search.trials=100000", f"seed={seed}"]
    sets = [part for change in changes for part in ("--set", change)]
    return [sys.executable, "run_search.py", "search", str(CONFIG), "--run", str(folder / "run"), *sets]


def search(name: str, seed: int, seconds: float) -> list[tuple[float, float]]:
    """(accuracy, FLOPs) of everything that a search finished in time."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        end = time.time() + seconds
        process = subprocess.Popen(
            command(name, seed, folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds)
        if process.poll() is not None:
            raise SystemExit(f"{LABELS[name]} ended before its time, exit code {process.returncode}")
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(1)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if name == "plain":
            lines = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
            return [(accuracy, flops) for when, accuracy, flops in map(json.loads, lines) if when <= end]
        return [
            (e.score, float(e.costs["flops"]))
            for e in read_journal(folder / "run")
            if e.state == COMPLETE and e.finished <= end
        ]


def share(points: list[tuple[float, float]], problem: Problem) -> float:
    """Hypervolume as a share of the box from accuracy 0 and the dearest architecture to accuracy 1 and the cheapest."""
    _, least, most = problem.ranges()["flops"]
    span = np.log(most / least)
    losses = [(-accuracy, np.log(flops / least) / span) for accuracy, flops in points]
    return hypervolume(losses, (0.0, 1.0)) if losses else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no new search after so long")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where finished searches are kept")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    add_option(parser, "end_to_end.md")
    options = parser.parse_args()
    if options.plain:
        plain_ray_tune(load_config(CONFIG, [f"seed={options.seeds}"]), options.plain)
        return
    config = load_config(CONFIG)
    problem = create_problem(config, create_evaluator(config))
    options.runs.parent.mkdir(parents=True, exist_ok=True)
    kept = [json.loads(line) for line in options.runs.read_text().splitlines()] if options.runs.exists() else []
    until = time.monotonic() + 60 * options.minutes
    for seed in range(options.seeds):
        for name in LABELS:
            key = [name, seed, options.seconds]
            if any(run["key"] == key for run in kept) or time.monotonic() > until:
                continue
            points = search(name, seed, options.seconds)
            kept.append({"key": key, "points": points})
            with options.runs.open("a") as file:
                file.write(json.dumps(kept[-1]) + "\n")
            print(f"seed {seed} {LABELS[name]}: {len(points)} evaluations, {share(points, problem):.4f}", flush=True)
    lines = [
        f"{options.seconds:g} s of wall time for each search on {os.cpu_count()} cores.",
        "",
        "| search | seeds | evaluations, mean | hypervolume, mean and 95 % interval |",
        "|---|---|---|---|",
    ]
    for name, label in LABELS.items():
        found = [run["points"] for run in kept if run["key"][0] == name and run["key"][2] == options.seconds]
        if found:
            shares = np.array([share(points, problem) for points in found])
            count = np.mean([len(points) for points in found])
            lines.append(f"| {label} | {len(found)} | {count:.1f} | {interval(shares)} |")
    print("\n".join(lines))
    if options.markdown:
        write(options.markdown, "end to end", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
