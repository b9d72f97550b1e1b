"""The estimate of a training's peak memory against the peak measured in a process of its own.

    python -m benchmarks.memory [--markdown docs/memory.md]

Measured is what the process holds at most during a training of some steps with validation, less what it held before: on the CPU
the kernel's high-water mark of resident memory, on a GPU what torch's allocator reserved.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.latency import write_table
from evaluators.data import Data, load_data
from evaluators.data.splits import ArraySplit
from evaluators.memory import free_memory, training_memory
from evaluators.training import VALIDATION_BATCH, Recipe, TrainingEvaluator, pick_device
from spaces.placement import Architecture

STEPS = 3


@dataclass(frozen=True)
class Case:
    architecture: str
    batch: int
    image: int = 32


CASES = (
    *(Case("attune_tiny:none,none,none", batch) for batch in (32, 256)),
    *(Case("attune_tiny:cbam,coordinate,se@block", batch) for batch in (32, 256)),
    *(Case("attune_tiny:non_local@stage,none,gam", batch) for batch in (32, 128)),
    *(Case("resnet18:none,none,none,none", batch) for batch in (8, 64)),
    *(Case("resnet18:cbam,bam,triplet,se", batch) for batch in (8, 64)),
    Case("resnet18:self_attention@stage,none,none,coordinate", 32),
    Case("mobilenetv2_100:none,se,se,coordinate,cbam", 16, 64),
)
HEAD = ("architecture", "pixels", "batch", "measured, MiB", "estimate, MiB", "measured / estimate")


def measured(case: Case, queue: multiprocessing.Queue[tuple[float, float]]) -> None:
    """In a fresh process: train, and tell the peak and the estimate in MiB."""
    torch.set_num_threads(1)
    device = pick_device()
    data = random_data(case)
    recipe = Recipe(epochs=1, batch_size=case.batch, crop=0)
    evaluator = TrainingEvaluator(data, recipe, memory=free_memory(device), device=device)
    small = TrainingEvaluator(random_data(Case("", 2), 4), Recipe(epochs=1, batch_size=2, crop=0), device=device)
    small.evaluate(Architecture.plain("attune_tiny"), fidelity=1, seed=0)  # what the process loads in any case
    estimate = training_memory(
        Architecture.parse(case.architecture),
        batch=case.batch,
        image_size=case.image,
        num_classes=10,
        identity_init=True,
        validation_batch=min(VALIDATION_BATCH, len(data.val)),
    )
    before = resident(device, reset=True)
    evaluator.evaluate(Architecture.parse(case.architecture), fidelity=1, seed=0)
    queue.put(((resident(device, reset=False) - before) / 2**20, estimate / 2**20))


def random_data(case: Case, images: int = 0) -> Data:
    """The digits' task with random colour images of the case's size: a few training batches, and as many to validate."""

    def split(count: int) -> ArraySplit:
        x_BCHW: Tensor = torch.randint(0, 256, (count, 3, case.image, case.image), dtype=torch.uint8)
        return ArraySplit(x_BCHW, torch.arange(count) % 10)

    train, val = split(images or STEPS * case.batch), split(images or case.batch)
    shape = {"in_chans": 3, "image_size": case.image, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return replace(load_data("digits"), train=train, val=val, **shape)


def resident(device: torch.device, *, reset: bool) -> int:
    """Bytes: on reset what is held now, and the mark starts anew; else the mark, the most since."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
            return torch.cuda.memory_reserved(device)
        return torch.cuda.max_memory_reserved(device)
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields["VmRSS" if reset else "VmHWM"].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, help="a page; its table is replaced, its text stays")
    options = parser.parse_args()
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for case in CASES:
        queue = context.Queue()
        process = context.Process(target=measured, args=(case, queue))
        process.start()
        peak, estimate = queue.get(timeout=600)
        process.join()
        cells = (case.architecture, case.image, case.batch, f"{peak:.0f}", f"{estimate:.0f}", f"{peak / estimate:.2f}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        print(lines[-1], flush=True)
    if options.markdown:
        write_table(options.markdown, "\n".join([f"{pick_device()}; {time.perf_counter() - start:.0f} s.", "", *lines]))


if __name__ == "__main__":
    main()
