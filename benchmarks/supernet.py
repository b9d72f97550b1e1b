"""How far to trust the supernet and the zero-cost proxies: rank correlation with standalone accuracy, and what they cost.

`python -m benchmarks.supernet` (or `make bench-supernet`). The standalone accuracies are those of Attune-Bench, the mean of
three seeds (`--standalone FILE` takes another table: parquet, CSV or JSON lines, by seed). What to look for: Kendall's tau of
the supernet at least 0.6 at 1/50 of the cost of a candidate or less; a proxy is worth its time only above `params`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.page import add_option, write
from benchmarks.tables import ATTUNE_BENCH
from evaluators.base import Evaluator
from evaluators.cost import METRICS, CostTable
from evaluators.proxies import PROXIES, ProxyEvaluator
from evaluators.statistics import kendall, spearman
from evaluators.supernet.evaluator import SupernetConfig, SupernetEvaluator
from evaluators.table import read_rows
from evaluators.training import TrainingEvaluator
from search.build import create_task
from search.config import load_config
from spaces import Architecture

RESAMPLES = 1000


def standalone(file: Path, seeds: int) -> pd.DataFrame:
    """Index: architectures with all their seeds. Column: `accuracy` (mean over the seeds)."""
    rows = read_rows(file)
    by_seed = [f"accuracy_{seed}" for seed in range(seeds)]
    if by_seed[0] in rows:
        table = rows.set_index("architecture")
        return pd.DataFrame({"accuracy": table[by_seed].mean(axis=1)})
    groups = rows[rows["seed"] < seeds].groupby("architecture", sort=False)
    table = groups.agg(accuracy=("accuracy", "mean"), seeds=("seed", "nunique"))
    return table[table["seeds"] == seeds]


def interval(scores: np.ndarray, accuracy: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of Kendall's tau over the architectures."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(scores), size=(RESAMPLES, len(scores)))
    low, high = np.quantile([kendall(scores[rows], accuracy[rows]) for rows in drawn], [0.025, 0.975])
    return float(low), float(high)


def row(name: str, scores: np.ndarray, accuracy: np.ndarray, seconds: float, whole: float) -> str:
    """One rung: correlations, CPU seconds a candidate, and their share of a candidate's standalone training."""
    low, high = interval(scores, accuracy)
    share = f"1/{whole / seconds:.0f}" if seconds > 1e-3 else "none"
    tau, rho = kendall(scores, accuracy), spearman(scores, accuracy)
    return f"| {name} | {tau:.2f} ({low:.2f} to {high:.2f}) | {rho:.2f} | {seconds:.2f} | {share} |"


def main() -> None:
    plan = SupernetConfig()  # the benchmark is of what a configuration gets where nothing else is asked for
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--standalone", type=Path, default=ATTUNE_BENCH)
    parser.add_argument("--config", type=Path, default=Path("configs/attune_bench.yaml"), help="their space and recipe")
    parser.add_argument("--seeds", type=int, default=3, help="of the standalone accuracies")
    parser.add_argument("--architectures", type=int, default=120, help="at most so many, drawn at random")
    parser.add_argument(
        "--epochs",
        type=int,
        default=plan.supernet_epochs,
        help="of the supernet; half as many again as a candidate's if unset",
    )
    parser.add_argument("--paths", type=int, default=plan.paths, help="a step; each choice once if unset")
    parser.add_argument("--supernet-seed", type=int, default=0)
    parser.add_argument("--sandwich", action="store_true")
    parser.add_argument("--calibration", type=int, default=plan.calibration)
    parser.add_argument("--validation", type=int, default=plan.validation)
    parser.add_argument("--timed", type=int, default=3, help="candidates trained now, for the CPU seconds of one")
    parser.add_argument(
        "--keep", type=Path, default=Path("runs/bench-supernet"), help="where the trained supernet is kept"
    )
    parser.add_argument("--no-proxies", action="store_true")
    add_option(parser, "supernet.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = standalone(options.standalone, options.seeds)
    table = table.sample(min(len(table), options.architectures), random_state=0)
    if len(table) < 60:
        print(f"only {len(table)} architectures have all {options.seeds} seeds: too few for a verdict (60)")
    archs = [Architecture.parse(text) for text in table.index]
    accuracy = table["accuracy"].to_numpy()
    config, device = load_config(options.config), torch.device("cpu")
    task, space = create_task(config), config.space.build()
    epochs = options.epochs or plan.epochs_of_supernet(config.training.epochs)
    paths = options.paths or max(space.sizes)

    standalone_evaluator = TrainingEvaluator(task, config.training, device=device)
    standalone_evaluator.evaluate(archs[0], fidelity=1, seed=0)  # pays for imports and kernels
    started = time.process_time()
    for arch in archs[: options.timed]:
        standalone_evaluator.evaluate(arch, fidelity=config.training.epochs, seed=0)
    whole = options.seeds * (time.process_time() - started) / options.timed

    supernet = SupernetEvaluator(
        task,
        space,
        config.training,
        paths=options.paths,
        sandwich=options.sandwich,
        calibration=options.calibration,
        validation=options.validation,
        device=device,
    )
    options.keep.mkdir(parents=True, exist_ok=True)
    note = options.keep / f"seconds-s{options.supernet_seed}-e{epochs}.txt"
    started = time.process_time()
    supernet.prepare(options.keep, fidelity=epochs, seeds=[options.supernet_seed])
    if not note.is_file():  # else it was trained by an earlier run
        note.write_text(str(time.process_time() - started))
    training = float(note.read_text())
    cost_table = CostTable(space.backbone, task.network)
    costs = [cost_table.cost(arch) for arch in archs]

    rungs: dict[str, tuple[Evaluator, int, str]] = {"supernet": (supernet, epochs, "accuracy")}
    if not options.no_proxies:
        rungs |= {name: (ProxyEvaluator(task, name, device=device), 1, "score") for name in PROXIES if name != "params"}
    lines = []
    for name, (evaluator, fidelity, metric) in rungs.items():
        started = time.process_time()
        scores = np.array(
            [evaluator.evaluate(arch, fidelity=fidelity, seed=options.supernet_seed)[metric] for arch in archs]
        )
        lines.append(row(name, scores, accuracy, (time.process_time() - started) / len(archs), whole))
        print(lines[-1], flush=True)
    for metric in METRICS:
        lines.append(row(metric, np.array([getattr(cost, metric) for cost in costs]), accuracy, 0, whole))
    ends = ", the smallest and the largest" if options.sandwich else ""
    text = "\n".join(
        [
            f"{len(archs)} random architectures of the {space.size} of `{options.config.stem}`; standalone accuracy is the "
            f"mean of {options.seeds} seeds, {accuracy.min():.3f} to {accuracy.max():.3f}. CPU seconds: a standalone candidate "
            f"{whole:.1f} (all seeds), the supernet's one training {training:.0f} ({epochs} epochs, a step the mean gradient "
            f"of {paths} paths{ends}), which is that of {training / whole:.0f} candidates. Intervals: 95 %, bootstrap over the "
            "architectures.",
            "",
            "| rung | Kendall tau | Spearman | CPU seconds a candidate | share of standalone |",
            "|---|---|---|---|---|",
            *lines,
        ]
    )
    print(text)
    if options.markdown:
        write(options.markdown, options.config.stem, text + "\n")


if __name__ == "__main__":
    main()
