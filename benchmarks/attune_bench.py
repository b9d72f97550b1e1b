"""Attune-Bench: every architecture of a small placement space, trained with several seeds, with its exact costs.

`python -m benchmarks.attune_bench` (or `make bench-table`, about an hour and a half on two cores) trains the 729 architectures
of configs/attune_bench.yaml with seeds 0, 1 and 2, one process per core, and writes benchmarks/attune_bench.parquet, which the
table evaluator reads. Each result is kept as it comes: an interrupted run goes on where it was. docs/attune_bench.md is the
table's data sheet, docs/benchmarks/attune_bench.md shows what is in it (`--markdown`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.page import add_option, write
from benchmarks.tables import ATTUNE_BENCH
from evaluators.cost import METRICS
from evaluators.statistics import kendall
from evaluators.training import TrainingEvaluator
from search.build import create_task
from search.config import Config, load_config
from search.pareto import non_dominated
from search.problem import Problem
from spaces import Architecture

CONFIG = Path("configs/attune_bench.yaml")
# This many architectures get all their seeds before the others get their first: rank correlations are known early.
COMPLETE_FIRST = 80


def tasks(texts: list[str], seeds: int) -> Iterator[tuple[str, int]]:
    """(architecture, seed) in the order of training: random, so that any beginning is a sample of the whole."""
    order = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    yield from ((text, seed) for text in order[:COMPLETE_FIRST] for seed in range(seeds))
    yield from ((text, seed) for seed in range(seeds) for text in order[COMPLETE_FIRST:])


@cache
def evaluator() -> TrainingEvaluator:
    """One per process: the data are loaded once."""
    torch.set_num_threads(1)
    config = load_config(CONFIG)
    return TrainingEvaluator(create_task(config), config.training, device=torch.device("cpu"))


def train(task: tuple[str, int]) -> dict[str, Any]:
    """One training: the accuracy after every epoch of its schedule, and the CPU seconds it took."""
    text, seed = task
    curve: list[float] = []

    def report(epoch: int, metrics: dict[str, Any]) -> bool:
        curve.append(metrics["accuracy"])
        return True

    used = time.process_time()
    trainer = evaluator()
    trainer.evaluate(Architecture.parse(text), fidelity=trainer.recipe.epochs, seed=seed, report=report)
    return {
        "identity": trainer.identity,
        "architecture": text,
        "seed": seed,
        "accuracy": curve[-1],
        "curve": curve,
        "seconds": round(time.process_time() - used, 3),
    }


def finished(journal: Path, identity: str) -> dict[tuple[str, int], dict[str, Any]]:
    """What the journal holds of this task; a last line that a kill cut short is trained again."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for line in journal.read_text().splitlines() if journal.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["identity"] == identity:
            rows[row["architecture"], row["seed"]] = row
    return rows


def architectures(config: Config) -> tuple[Problem, list[str]]:
    """The whole space, in the order of its indices."""
    problem = Problem.build(config.space.build(), evaluator().network)
    return problem, [str(problem.space.architecture(indices)) for indices in every(problem)]


def every(problem: Problem) -> np.ndarray:
    """Indices of all architectures, (size, S)."""
    return np.array(list(np.ndindex(*(len(placements) for placements in problem.space.choices))))


def wide(problem: Problem, texts: list[str], rows: dict[tuple[str, int], dict[str, Any]], seeds: int) -> pd.DataFrame:
    """One row for each architecture that has all its seeds: exact costs, accuracies by seed, after each epoch, seconds."""
    complete = [i for i, text in enumerate(texts) if all((text, seed) in rows for seed in range(seeds))]
    table = pd.DataFrame({"architecture": [texts[i] for i in complete]})
    table[list(METRICS)] = problem.count(every(problem)[complete])
    for seed in range(seeds):
        of_seed = [rows[texts[i], seed] for i in complete]
        table[f"accuracy_{seed}"] = np.array([row["accuracy"] for row in of_seed], dtype=np.float32)
        for epoch in range(len(of_seed[0]["curve"]) - 1 if of_seed else 0):
            column = f"accuracy_{seed}_epoch_{epoch + 1}"
            table[column] = np.array([row["curve"][epoch] for row in of_seed], dtype=np.float32)
    seconds = [np.mean([rows[texts[i], seed]["seconds"] for seed in range(seeds)]) for i in complete]
    table["seconds"] = np.array(seconds, dtype=np.float32)
    return table


def describe(table: pd.DataFrame, seeds: int) -> str:
    """What the table holds, for its data sheet: spreads, agreement of the seeds, mean effects and the front."""
    by_seed_NK = table[[f"accuracy_{seed}" for seed in range(seeds)]].to_numpy(dtype=float)
    mean_N, flops_N = by_seed_NK.mean(axis=1), table["flops"].to_numpy(dtype=float)
    between, within = mean_N.std(ddof=1), np.sqrt(by_seed_NK.var(axis=1, ddof=1).mean())
    agreement = [kendall(by_seed_NK[:, a], by_seed_NK[:, b]) for a in range(seeds) for b in range(a)]
    placements = [Architecture.parse(text).placements for text in table["architecture"]]
    stages = range(len(placements[0]))
    front = np.flatnonzero(non_dominated(np.column_stack([flops_N, -mean_N])))
    front = front[np.argsort(flops_N[front])]
    lines = [
        f"{len(table)} architectures x {seeds} seeds. Mean accuracy {mean_N.min():.3f} to {mean_N.max():.3f}, FLOPs "
        f"{flops_N.min():,.0f} to {flops_N.max():,.0f}. Standard deviation between architectures {between:.3f}, between "
        f"seeds {within:.3f}: ratio {between / within:.1f}. Kendall's tau between two seeds {min(agreement):.2f} to "
        f"{max(agreement):.2f}, of FLOPs with mean accuracy {kendall(flops_N, mean_N):.2f}, of parameters "
        f"{kendall(table['params'], mean_N):.2f}. CPU seconds of one training: median {table['seconds'].median():.1f}, "
        f"largest {table['seconds'].max():.1f}.",
        "",
        "Mean accuracy of all architectures with a placement at a stage:",
        "",
        f"| placement | {' | '.join(f'stage {stage + 1}' for stage in stages)} |",
        "|---" * (1 + len(stages)) + "|",
    ]
    for placement in dict.fromkeys(str(row[stage]) for row in placements for stage in stages):
        of = [mean_N[[str(row[stage]) == placement for row in placements]] for stage in stages]
        lines.append(f"| `{placement}` | {' | '.join(f'{a.mean():.3f}' if len(a) else '' for a in of)} |")
    lines += [
        "",
        "The front:",
        "",
        "| accuracy (mean, by seed) | FLOPs | parameters | architecture |",
        "|---|---|---|---|",
    ]
    for i in front:
        of_seeds = " ".join(f"{accuracy:.3f}" for accuracy in by_seed_NK[i])
        text, params = table["architecture"][i], table["params"][i]
        lines.append(f"| {mean_N[i]:.3f} ({of_seeds}) | {flops_N[i]:,.0f} | {params:,.0f} | `{text}` |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=Path("runs/attune_bench/evaluations.jsonl"))
    parser.add_argument("--table", type=Path, default=ATTUNE_BENCH)
    add_option(parser, "attune_bench.md")
    options = parser.parse_args()
    config = load_config(CONFIG)
    problem, texts = architectures(config)
    rows = finished(options.results, evaluator().identity)
    left = [task for task in tasks(texts, options.seeds) if task not in rows]
    print(f"{len(texts)} architectures x {options.seeds} seeds; {len(left)} trainings to do", flush=True)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool, options.results.open("a") as journal:
        for number, row in enumerate(pool.imap_unordered(train, left), 1):
            rows[row["architecture"], row["seed"]] = row
            journal.write(json.dumps(row) + "\n")
            journal.flush()
            if number % 50 == 0:
                print(f"{number} of {len(left)}", flush=True)
    table = wide(problem, texts, rows, options.seeds)
    table.to_parquet(options.table, index=False, compression="zstd")
    print(f"{options.table}: {len(table)} architectures, {options.table.stat().st_size / 1e3:.0f} kB")
    if options.markdown:
        write(options.markdown, "table", describe(table, options.seeds))


if __name__ == "__main__":
    main()
