"""Seconds of a suggestion on every shipped configuration, through PlacementSearch and its study on disk, as a search takes it.

python -m benchmarks.searcher [--trials 100 500] [--budgets own 1.0001x 1.05x 2x] [--configs FILE ...] [--markdown [FILE]]

No data are read and nothing is trained: finished trials are candidates drawn within the budget, with made-up scores (what
each placement is worth, drawn once, the costs, and noise). Promised: at most .1 s at 100 finished trials and .3 s at 500,
whatever the budget.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import torch

from benchmarks.page import add_option, write
from search.build import create_space, network_of
from search.config import Config, load_config
from search.problem import Problem
from search.runner import open_study
from search.samplers import create_sampler
from search.samplers.candidates import Indices
from search.samplers.exact import ExactCandidates
from search.searcher import PlacementSearch
from search.store import COMPLETE, Evaluation
from search.trainable import TrialResult
from spaces.errors import UsageError

CONFIGS = sorted(Path("configs").glob("*.yaml"))
BARS = {100: 0.1, 500: 0.3}
REPEATS = 8
# What a configuration's data would tell; `configs/*.yaml` name nothing but where they are.
SIZE, CLASSES, CHANNELS = (64, 64), 10, 3
CLIP = (8, 32, 32)


class Scores:
    """Made-up scores in [0, 1]: what each choice of each stage is worth, how dear the candidate is, and noise."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.rng = problem, np.random.default_rng(seed)
        self.worth = [self.rng.normal(0, 0.02, size) for size in problem.space.sizes]

    def of(self, indices_NG: Indices) -> np.ndarray:
        """(N, G) -> (N,)."""
        cost_N = np.log(np.asarray(self.problem.objectives(indices_NG), dtype=float)[:, 0])
        worth_N = sum(worth[indices_NG[:, g]] for g, worth in enumerate(self.worth))
        noise_N = self.rng.normal(0, 0.01, len(indices_NG))
        return np.clip(0.5 + worth_N + 0.05 * (cost_N - cost_N.min()) + noise_N, 0, 1)


def finished(problem: Problem, scores: Scores, count: int) -> list[Evaluation]:
    """So many candidates within the budget, or as many as there are, as the store would have them."""
    rng = np.random.default_rng(0)
    found: dict[str, Indices] = {}
    for _ in range(20 * count):
        for indices in problem.feasible.sample(rng, 64):
            found.setdefault(str(problem.space.architecture(indices)), indices)
        if len(found) >= min(count, problem.feasible.count - REPEATS):
            break
    texts = list(found)[:count]
    values = scores.of(np.array([found[text] for text in texts]))
    return [
        Evaluation(text, 1, 0, COMPLETE, "", float(value), {}, 1.0, 0.0, "made up")
        for text, value in zip(texts, values, strict=True)
    ]


def suggestions(config: Config, problem: Problem, count: int, folder: Path) -> list[tuple[float, float]]:
    """(seconds, seconds of the CPU) of suggestions after ``count`` trials; each is told before the next."""
    scores = Scores(problem, 1)
    sampler = create_sampler(config.search.sampler, ExactCandidates(problem), seed=0)
    storage = open_study(folder / f"{count}.db")
    known = finished(problem, scores, count)
    search = PlacementSearch(problem, sampler, storage, known, trials=REPEATS + 1, seed=0, name="benchmark")
    seconds = []
    for number in range(REPEATS + 1):
        start, cpu = time.perf_counter(), time.process_time()
        asked = search.suggest(str(number))
        seconds.append((time.perf_counter() - start, time.process_time() - cpu))
        if not isinstance(asked, dict):
            break
        value = float(scores.of(search._indices(asked["architecture"])[None])[0])
        search.on_trial_complete(str(number), TrialResult(COMPLETE, "", value, 1).to_ray("accuracy", {}, done=True))
    return seconds[1:]  # the first, the plain backbone where it is new, is no choice of the sampler


def problems(path: Path, budgets: list[str]) -> Iterator[tuple[str, Config, Problem | None]]:
    """Each budget of FLOPs over the space of a configuration; None where nothing of it fits."""
    config = load_config(path)
    clips = config.task.name == "video"
    network = network_of(config, CLIP if clips else SIZE, CLASSES, 1 if clips else CHANNELS)
    space = create_space(config)
    for budget in budgets:
        limits = config.search.budget if budget == "own" else {"flops": budget}
        try:
            yield budget, config, Problem.build(space, network, budget=limits, costs=config.search.costs)
        except UsageError as error:
            print(f"{path.name} {budget}: {error}", flush=True)
            yield budget, config, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 500], help="finished trials")
    parser.add_argument("--budgets", nargs="+", default=["own", "1.0001x", "1.05x", "2x"])
    parser.add_argument("--configs", type=Path, nargs="+", default=CONFIGS)
    add_option(parser, "samplers.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    heads = [f"{count} trials: wall, CPU" for count in options.trials]
    rows = [f"| configuration | budget | candidates | {' | '.join(heads)} |", "|---|---|---|" + "---|" * len(heads)]
    over = []
    for path in options.configs:
        for budget, config, problem in problems(path, options.budgets):
            cells = []
            for count in options.trials if problem else []:
                with tempfile.TemporaryDirectory() as folder:
                    seconds = suggestions(config, problem, count, Path(folder))
                if not seconds:
                    cells.append("all tried")
                    continue
                wall, cpu = (statistics.median(column) for column in zip(*seconds, strict=True))
                cells.append(f"{wall:.3f}, {cpu:.3f} s")
                if wall > BARS.get(count, float("inf")):
                    over.append(f"{path.stem} at {budget} after {count}")
            candidates = f"{problem.feasible.count:,}" if problem else "none"
            rows.append(f"| {path.stem} | {budget} | {candidates} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
    text = "\n".join([*rows, "", f"Over the bar: {', '.join(over) or 'none'}.", ""])
    print(text)
    if options.markdown:
        write(options.markdown, "searcher", text)


if __name__ == "__main__":
    main()
