"""What Ray Tune, the study and the store cost per trial: searches whose evaluations are empty, against a bare loop.

    python -m benchmarks.orchestration [--trials 200] [--repeats 3] [--long 5000] [--markdown [FILE]]

The bare loop asks the same sampler over the same space and calls the same evaluator. `a trial, running` is the mean time
between two finished trials, without the start and the end of Ray; `--long N` makes one more search of N trials and tells the
seconds a trial in each block of 500.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from ray import cloudpickle

from benchmarks.page import add_option, write
from evaluators.data import Data, load_data
from evaluators.tasks.base import Metric
from search import runner
from search.config import Config, validate
from search.samplers import create_sampler
from search.store import read_journal
from spaces import Architecture, NetworkSpec

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class EmptyEvaluator:
    """Answers at once."""

    data: Data
    identity: str = "empty"

    network, metric = NetworkSpec.classifier(32, num_classes=10, in_chans=1), Metric()

    def evaluate(self, arch: Architecture, **_: Any) -> dict[str, Any]:
        return {"accuracy": 0.5 + len(str(arch)) / 1000}


def configuration(trials: int) -> Config:
    """A space of 343 architectures, or of thousands where so many are asked for."""
    space = {"backbone": "attune_tiny", "attentions": ["none", "se", "eca", "cbam", "bam", "gam", "scse"]}
    return validate(
        {
            "name": "empty",
            "data": "digits",
            "space": space | ({"reductions": [4, 8, 16], "kernels": [3, 7]} if trials > 300 else {}),
            "search": {"sampler": "random", "trials": trials, "keep_weights": "none"},
        },
        "benchmark",
    )


def with_ray(trials: int, evaluator: EmptyEvaluator) -> tuple[float, np.ndarray]:
    """Seconds of a whole search, and the seconds at which its trials finished."""
    runner.create_evaluator = lambda config: evaluator  # type: ignore[assignment, return-value]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        outcome = runner.run_search(configuration(trials), Path(folder) / "run")
        took = time.perf_counter() - start
        if outcome.finished != trials or outcome.failed:
            raise SystemExit(f"{outcome.finished} of {trials} trials finished, {outcome.failed} failed")
        return took, np.array([evaluation.finished for evaluation in read_journal(Path(folder) / "run")])


def bare(trials: int, evaluator: EmptyEvaluator) -> float:
    """Seconds of the same search in a plain loop that keeps nothing."""
    config = configuration(trials)
    start = time.perf_counter()
    problem = runner.create_problem(config, evaluator)
    space = problem.space
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=create_sampler("random", space, seed=0))
    for _ in range(trials):
        trial = study.ask()
        indices = space.suggest(trial)
        accuracy = evaluator.evaluate(space.architecture(indices), fidelity=1, seed=0)["accuracy"]
        study.tell(trial, [accuracy, float(problem.objectives(indices)[0, 0])])
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--long", type=int, default=0, help="trials of the long search; 0: none")
    add_option(parser, "engine.md")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    evaluator = EmptyEvaluator(load_data("digits", seed=0))
    lines = []
    if options.repeats:
        plain = float(np.median([bare(options.trials, evaluator) for _ in range(options.repeats)]))
        runs = [with_ray(options.trials, evaluator) for _ in range(options.repeats)]
        whole = float(np.median([took for took, _ in runs]))
        running = float(np.median([np.ptp(finished) / (options.trials - 1) for _, finished in runs]))
        extra = (whole - plain) / options.trials
        lines += [
            f"{options.trials} empty trials, medians of {options.repeats} runs.",
            "",
            "| bare loop | whole search | extra a trial, with the start and the end of Ray | a trial, running |",
            "|---|---|---|---|",
            f"| {plain:.2f} s | {whole:.2f} s | {extra:.3f} s (bar 0.15) | {running:.3f} s |",
        ]
        print("\n".join(lines), flush=True)
    if options.long:
        took, finished = with_ray(options.long, evaluator)
        blocks = [float(np.ptp(part) / (len(part) - 1)) for part in np.split(finished, range(500, len(finished), 500))]
        lines += [
            "",
            f"{options.long:,} empty trials in {took:.0f} s; seconds a trial in each block of 500: "
            + ", ".join(f"{block:.3f}" for block in blocks)
            + f" (last to first {blocks[-1] / blocks[0]:.2f}).",
        ]
        print(lines[-1], flush=True)
    if options.markdown:
        write(options.markdown, "orchestration", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
