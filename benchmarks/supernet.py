"""How far to trust the supernet and the zero-cost proxies: Kendall's tau with standalone accuracy.

`python -m benchmarks.supernet --truth runs/bench-default-task.jsonl` (or `make bench-supernet`): the standalone accuracies are
those that `benchmarks.default_task` measured (mean over its seeds). What to look for: tau of the supernet at least 0.6 at 1/50
of the cost of a candidate or less; a proxy is worth its time only above `params`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from benchmarks.default_task import CONFIG
from evaluators.data import load_data
from evaluators.proxies import PROXIES, ProxyEvaluator
from evaluators.statistics import kendall, spearman
from evaluators.supernet import SupernetEvaluator
from spaces import Architecture


def truth(file: Path) -> tuple[list[Architecture], list[float], float]:
    """Architectures, their mean standalone accuracies, and the CPU seconds that one of them took."""
    found: dict[str, list[float]] = defaultdict(list)
    seconds = []
    for line in file.read_text().splitlines():
        row = json.loads(line)
        found[row["architecture"]].append(row["accuracy"])
        seconds.append(row["cpu_seconds"])
    per_candidate = float(np.mean(seconds)) * max(map(len, found.values()))
    return [Architecture.parse(text) for text in found], [float(np.mean(a)) for a in found.values()], per_candidate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, default=Path("runs/bench-default-task.jsonl"))
    parser.add_argument("--epochs", type=int, default=10, help="of the supernet")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if not options.truth.is_file():
        parser.error(f"{options.truth} is missing; run `make bench-default-task` first")
    torch.set_num_threads(1)
    archs, accuracy, cost = truth(options.truth)
    data, device = load_data(CONFIG.data), torch.device("cpu")
    supernet = SupernetEvaluator(data, CONFIG.space.build(), CONFIG.training, device=device)
    started = time.process_time()
    supernet.net(options.epochs, 0)
    training = time.process_time() - started

    rows = [
        f"{len(archs)} architectures. CPU seconds: a standalone candidate {cost:.1f}, the supernet's training {training:.0f}.",
        "",
        "| rung | Kendall tau | Spearman | CPU seconds a candidate | share of standalone |",
        "|---|---|---|---|---|",
    ]
    rungs: dict[str, tuple[SupernetEvaluator | ProxyEvaluator, int, str]] = {
        "supernet": (supernet, options.epochs, "accuracy")
    }
    rungs |= {name: (ProxyEvaluator(data, name, device=device), 1, "score") for name in PROXIES}
    for name, (evaluator, fidelity, metric) in rungs.items():
        started = time.process_time()
        scores = [evaluator.evaluate(arch, fidelity=fidelity, seed=0)[metric] for arch in archs]
        each = (time.process_time() - started) / len(archs)
        tau, rho = kendall(scores, accuracy), spearman(scores, accuracy)
        rows.append(f"| {name} | {tau:.2f} | {rho:.2f} | {each:.2f} | 1/{cost / each:.0f} |")
    table = "\n".join(rows)
    print(table)
    if options.markdown:
        options.markdown.write_text(f"# Supernet and proxies against standalone training\n\n{table}\n")


if __name__ == "__main__":
    main()
