"""What one device gives: how many small candidates to train at once on it, and seconds to 90 % and 93 % on CIFAR-10.

`python -m benchmarks.gpu --cifar hf:FOLDER` (or `make bench-gpu`). Packing: the number of processes that gives the most
candidates an hour is what `resources.gpus: 1/N` should say. CIFAR-10: resnet18 with a small-image stem and a short recipe;
without a GPU that part is left out, unless `--train-size` makes it small: `--at-once 1 --each 1 --train-size 64 --epochs 1`
runs everything on a CPU, to see that it works.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.page import add_option, write
from evaluators.data import load_data
from evaluators.tasks.classification import Classification
from evaluators.training import Recipe, TrainingEvaluator, pick_device
from search.build import create_task
from search.config import load_config
from spaces import Architecture

CONFIG = Path("configs/default.yaml")
RECIPE = Recipe(epochs=16, batch_size=512, lr=0.4, warmup=3, cutout=8, ema=0.999)


def train_some(count: int, start: float, worker: int) -> float:
    """Train `count` candidates of the default space from a common starting time on; when the last one was finished."""
    torch.set_num_threads(1)
    config = load_config(CONFIG)
    evaluator = TrainingEvaluator(create_task(config), config.training, device=pick_device())
    arch = Architecture.parse("attune_tiny:se-r4,cbam-r4,none")
    evaluator.evaluate(arch, fidelity=1, seed=0)  # pays for imports and kernels
    time.sleep(max(0.0, start - time.time()))
    for number in range(count):
        evaluator.evaluate(arch, fidelity=config.training.epochs, seed=1000 * worker + number)
    return time.time()


def packing(counts: list[int], each: int, warm_up: float) -> list[str]:
    """Candidates an hour for every number of processes, as rows of a table."""
    rows = ["| at once | candidates an hour |", "|---|---|"]
    for processes in counts:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            start = time.time() + warm_up
            ends = pool.map(partial(train_some, each, start), range(processes), chunksize=1)
        rows.append(f"| {processes} | {3600 * processes * each / (max(ends) - start):.0f} |")
        print(rows[-1], flush=True)
    return rows


def to_accuracy(cifar: str, epochs: int, train_size: int | None) -> list[str]:
    """Seconds of training (the data are on the device, as decoded uint8) to the first epoch at 90 % and 93 % of validation."""
    device = pick_device()
    sizes = {"val_size": 5000} if train_size is None else {"val_size": 100, "train_size": train_size}
    evaluator = TrainingEvaluator(Classification(load_data(cifar, **sizes)), RECIPE, device=device)
    arch = Architecture.parse("resnet18:none,none,none,none")
    evaluator.evaluate(arch, fidelity=1, seed=0)
    reached: dict[float, float] = {}

    def report(epoch: int, metrics: dict[str, float]) -> bool:
        for goal in (0.90, 0.93):
            if metrics["accuracy"] >= goal:
                reached.setdefault(goal, metrics["seconds"])
        return True

    final = evaluator.evaluate(arch, fidelity=epochs, seed=1, report=report)
    rows = [
        f"| {goal:.0%} | {reached[goal]:.1f} |" if goal in reached else f"| {goal:.0%} | not reached |"
        for goal in (0.90, 0.93)
    ]
    last = f"| {final['accuracy']:.2%} after {epochs} epochs | {final['seconds']:.1f} |"
    return ["| validation accuracy | seconds |", "|---|---|", *rows, last]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", help="CIFAR-10: hf:FOLDER or cifar10")
    parser.add_argument("--each", type=int, default=4, help="candidates a process")
    parser.add_argument("--warm-up", type=float, default=30, help="seconds until all processes are ready")
    parser.add_argument("--at-once", type=int, nargs="+", help="numbers of processes to try")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs, help="of the training on CIFAR-10")
    parser.add_argument("--train-size", type=int, help="images of CIFAR-10; default all")
    add_option(parser, "gpu.md")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if gpu else f"a CPU with {os.cpu_count()} cores"
    counts = options.at_once or ([1, 2, 4, 8, 16] if gpu else [1, 2, 4])
    parts = [
        f"On {name}.",
        "## Candidates at once",
        "\n".join(packing(counts, options.each, options.warm_up)),
    ]
    if options.cifar and (gpu or options.train_size):
        parts += ["## CIFAR-10", "\n".join(to_accuracy(options.cifar, options.epochs, options.train_size))]
    else:
        parts.append(
            "Seconds to 90 % and 93 % on CIFAR-10 were not measured: that needs `--cifar`, and a GPU or `--train-size`."
        )
    text = "\n\n".join(parts)
    print(text)
    if options.markdown:
        write(options.markdown, "measured", text + "\n")


if __name__ == "__main__":
    main()
