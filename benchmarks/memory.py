"""The estimate of a training's peak memory against the peak measured in a process of its own.

    python -m benchmarks.memory [--markdown [FILE] | --check]

Measured is what the process holds at most during a training of some steps with validation and a checkpoint, less what it held
before: on the CPU the kernel's high-water mark of resident memory, on a GPU what torch's allocator reserved. The estimate's
margin was chosen on FITTED; CHECK are other backbones, attention, batches and optimizers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.page import add_option, write
from evaluators.data import Data, load_data
from evaluators.data.splits import ArraySplit
from evaluators.memory import free_memory, training_memory
from evaluators.tasks.classification import Classification
from evaluators.training import Recipe, TrainingEvaluator, pick_device
from spaces.placement import Architecture

STEPS = 3


@dataclass(frozen=True)
class Case:
    architecture: str
    batch: int
    image: int = 32
    optimizer: str = "sgd"
    ema: float | None = None


FITTED = (
    *(Case("attune_tiny:none,none,none", batch) for batch in (32, 256)),
    *(Case("attune_tiny:cbam,coordinate,se@block", batch) for batch in (32, 256)),
    *(Case("attune_tiny:non_local@stage,none,gam", batch) for batch in (32, 128)),
    *(Case("resnet18:none,none,none,none", batch) for batch in (8, 64)),
    *(Case("resnet18:cbam,bam,triplet,se", batch) for batch in (8, 64)),
    Case("resnet18:self_attention@stage,none,none,coordinate", 32),
    Case("mobilenetv2_100:none,se,se,coordinate,cbam", 16, 64),
)
CHECK = (
    Case("resnet18:none,none,none,none", 128),
    Case("resnet50:se,cbam,none,coordinate", 16, 32, "adamw", 0.99),
    Case("mobilenetv3_large_100:none,eca@block,none,triplet@block,none", 32, 64, "sgd", 0.99),
    Case("efficientnet_b0:none,none,none,none,none", 16, 64, "adamw", 0.99),
    Case("densenet121:none,cbam@block,none,none", 16, 32, "adam"),
    Case("convnext_atto:se@block,none,scse@block,none", 32, 64, "adamw", 0.99),
    Case("regnety_002:ela@block,none,bam@stage,none", 64, 64),
    Case("vgg11_bn:none,none,simam@block,none,none", 32, 32, "sgd", 0.99),
    Case("shufflenet_v2_x1_0:none,se@block,none", 64, 64, "adam"),
    Case("resnet18:none,self_attention,double_attention@stage,none", 32, 32, "adamw"),
    Case("resnet18:none,dual_attention@stage,augmented_conv@stage,none", 16, 32, "adam", 0.99),
    Case("attune_tiny:gather_excite,sge@block,gam", 128, 32, "adamw", 0.99),
)
HEAD = ("architecture", "pixels", "batch", "optimizer", "measured, MiB", "estimate, MiB", "measured / estimate")


def measured(case: Case, queue: multiprocessing.Queue[tuple[float, float]]) -> None:
    """In a fresh process: train, and tell the peak and the estimate in MiB."""
    torch.set_num_threads(1)
    device = pick_device()
    task = Classification(random_data(case))
    recipe = Recipe(epochs=1, batch_size=case.batch, optimizer=case.optimizer, lr=1e-3, ema=case.ema)
    evaluator = TrainingEvaluator(task, recipe, memory=free_memory(device), device=device)
    few = Classification(random_data(Case("", 2), 4))
    small = TrainingEvaluator(few, recipe.model_copy(update={"batch_size": 2}), device=device)
    small.evaluate(Architecture.plain("attune_tiny"), fidelity=1, seed=0)  # what the process loads in any case
    estimate = training_memory(
        Architecture.parse(case.architecture),
        task=task,
        network=evaluator.network,
        batch=case.batch,
        optimizer_states=1 if case.optimizer == "sgd" else 2,
        average=case.ema is not None,
        validation_batch=min(task.validation_batch, task.count("val")),
    )
    before = resident(device, reset=True)
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        evaluator.evaluate(Architecture.parse(case.architecture), fidelity=1, seed=0, checkpoint=checkpoint)
    queue.put(((resident(device, reset=False) - before) / 2**20, estimate / 2**20))


def random_data(case: Case, images: int = 0) -> Data:
    """The digits' task with random colour images of the case's size: a few training batches, and as many to validate."""

    def split(count: int) -> ArraySplit:
        x_BCHW: Tensor = torch.randint(0, 256, (count, 3, case.image, case.image), dtype=torch.uint8)
        return ArraySplit(x_BCHW, torch.arange(count) % 10)

    train, val = split(images or STEPS * case.batch), split(images or case.batch)
    shape = {"in_chans": 3, "size": (case.image, case.image), "mean": (0.5,) * 3, "std": (0.25,) * 3}
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
    add_option(parser, "memory.md")
    parser.add_argument("--check", action="store_true", help="only what the margin was not chosen on")
    options = parser.parse_args()
    if options.check and options.markdown:
        parser.error("--markdown writes the whole table: leave --check out")
    start = time.perf_counter()
    context = multiprocessing.get_context("forkserver")  # every process starts from one that has only imported
    context.set_forkserver_preload([__spec__.name])
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for case in CHECK if options.check else (*FITTED, *CHECK):
        queue = context.Queue()
        process = context.Process(target=measured, args=(case, queue))
        process.start()
        peak, estimate = queue.get(timeout=600)
        process.join()
        how = case.optimizer + (", average" if case.ema else "")
        cells = (
            case.architecture,
            case.image,
            case.batch,
            how,
            f"{peak:.0f}",
            f"{estimate:.0f}",
            f"{peak / estimate:.2f}",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        print(lines[-1], flush=True)
    if options.markdown:
        write(
            options.markdown,
            "measured",
            "\n".join([f"{pick_device()}; {time.perf_counter() - start:.0f} s.", "", *lines]) + "\n",
        )


if __name__ == "__main__":
    main()
