"""Do placements matter on the embedded default task? The spread between architectures against the spread between seeds.

`python -m benchmarks.default_task` (or `make bench-default-task`): random architectures x seeds, trained with the recipe of
configs/default.yaml. What to look for: the ratio of the standard deviations is at least 2, and one evaluation takes at most
6 s on one core. Results are kept line by line, so that an interrupted measurement goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.page import add_option, write
from evaluators.training import TrainingEvaluator
from search.build import create_task
from search.config import load_config
from spaces import Architecture

CONFIG = load_config(Path("configs/default.yaml"))


def architectures(count: int, seed: int) -> list[Architecture]:
    """The plain backbone first, then distinct random placements of the default space."""
    space = CONFIG.space.build()
    rng = np.random.default_rng(seed)
    plain = Architecture.plain(space.backbone)
    chosen = {str(plain): plain}
    while len(chosen) < count:
        arch = space.architecture(space.sample(rng, 1)[0])
        chosen.setdefault(str(arch), arch)
    return list(chosen.values())


def measure(archs: list[Architecture], seeds: int, file: Path) -> dict[tuple[str, int], dict[str, float]]:
    """{(architecture, seed): metrics}, continuing from what `file` already holds."""
    recipe = CONFIG.training
    evaluator = TrainingEvaluator(create_task(CONFIG), recipe, device=torch.device("cpu"))
    done: dict[tuple[str, int], dict[str, float]] = {}
    if file.is_file():
        for line in file.read_text().splitlines():
            row = json.loads(line)
            if row["identity"] == evaluator.identity:
                done[row["architecture"], row["seed"]] = row
    file.parent.mkdir(parents=True, exist_ok=True)
    evaluator.evaluate(archs[0], fidelity=1, seed=0)  # warm-up: the first training pays for imports and kernels
    for seed in range(seeds):
        for arch in archs:
            if (str(arch), seed) in done:
                continue
            used = time.process_time()
            metrics = evaluator.evaluate(arch, fidelity=recipe.epochs, seed=seed)
            row = {"identity": evaluator.identity, "architecture": str(arch), "seed": seed, **metrics}
            row["cpu_seconds"] = time.process_time() - used
            done[str(arch), seed] = row
            with file.open("a") as out:
                out.write(json.dumps(row) + "\n")
    return done


def report(archs: list[Architecture], seeds: int, done: dict[tuple[str, int], dict[str, float]]) -> str:
    """The table as markdown."""
    accuracy = np.array([[done[str(arch), seed]["accuracy"] for seed in range(seeds)] for arch in archs])  # n x s
    cpu = np.array([[done[str(arch), seed]["cpu_seconds"] for seed in range(seeds)] for arch in archs])
    means = accuracy.mean(1)
    within = float(np.sqrt(accuracy.var(1, ddof=1).mean()))  # pooled over architectures
    between = float(means.std(ddof=1))
    order = np.argsort(-means)
    rows = [
        f"| `{archs[i]}` | {means[i]:.3f} | {' '.join(f'{value:.3f}' for value in accuracy[i])} | {np.median(cpu[i]):.1f} |"
        for i in order
    ]
    return "\n".join(
        [
            f"{len(archs)} architectures x {seeds} seeds. Standard deviation between architectures {between:.4f}, "
            f"between seeds {within:.4f}: ratio {between / within:.2f}.",
            f"One evaluation: median {np.median(cpu):.1f}, largest {cpu.max():.1f} seconds of one core.",
            "",
            "| architecture | mean accuracy | seeds | CPU seconds |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path("runs/bench-default-task.jsonl"))
    add_option(parser, "default_task.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    archs = architectures(options.architectures, seed=0)
    table = report(archs, options.seeds, measure(archs, options.seeds, options.results))
    print(table)
    if options.markdown:
        write(options.markdown, "measured", table + "\n")


if __name__ == "__main__":
    main()
