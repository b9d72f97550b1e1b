"""The training evaluator against the loop that people write: torch's DataLoader with two workers and torchvision's
transforms, float32, the same model, batch size, epochs, augmentation, optimizer and schedule.

`python -m benchmarks.throughput` (or `make bench-throughput`). What to look for: at least 2x on the CPU for the embedded
default, at least 1.3x for resnet18 on images of CIFAR's size, at least 5x on a GPU; accuracies equal within the spread of
seeds. On the CPU, Attune trains the embedded default on one core, as a trial of configs/default.yaml does; the usual loop has
all cores, for its workers and its threads.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.page import add_option, write
from evaluators.data import ArraySplit, Data, load_data
from evaluators.data.splits import Split
from evaluators.tasks.classification import Classification
from evaluators.training import Recipe, TrainingEvaluator, pick_device
from spaces import Architecture, build_model


@dataclass(frozen=True)
class Case:
    """One task: architecture, data, recipe; on how many seeds it is measured; the threads that Attune gets (None: all)."""

    name: str
    arch: Architecture
    data: Data
    recipe: Recipe
    seeds: int
    threads: int | None = None


class Pictures(Dataset[tuple[Tensor, int]]):
    """A split as people have it: PIL images and a transform."""

    def __init__(self, split: ArraySplit, transform: transforms.Compose) -> None:
        arrays = split.images_NCHW.permute(0, 2, 3, 1).numpy()
        self.images = [Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array) for array in arrays]
        self.labels = split.labels_N.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def usual_loop(case: Case, seed: int, device: torch.device, workers: int = 2) -> tuple[float, float]:
    """(accuracy, seconds) of the loop that people write, data sets already in memory."""
    data, recipe = case.data, case.recipe
    assert isinstance(data.train, ArraySplit)
    assert isinstance(data.val, ArraySplit)
    plain = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    random = [transforms.RandomCrop(data.size, padding=recipe.crop)] if recipe.crop else []
    random += [transforms.RandomHorizontalFlip()] if data.flip else []
    train_set = Pictures(data.train, transforms.Compose([*random, *plain]))
    val_set = Pictures(data.val, transforms.Compose(plain))
    started = time.perf_counter()
    torch.manual_seed(seed)
    train = DataLoader(train_set, recipe.batch_size, shuffle=True, drop_last=True, num_workers=workers)
    val = DataLoader(val_set, 512, num_workers=workers)
    model = build_model(case.arch, data.num_classes, data.in_chans, image_size=data.size).to(device)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    free = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
    else:
        optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_cosine(recipe, len(train)))
    for _ in range(recipe.epochs):
        model.train()
        for x_BCHW, y_B in train:
            loss = cross_entropy(model(x_BCHW.to(device)), y_B.to(device), label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss.item()  # people print it
    return accuracy(model.eval(), val, device), time.perf_counter() - started


def warm_cosine(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    """The recipe's schedule, a line and then half a cosine, as a factor of the learning rate at a step."""
    steps, warmup = steps_per_epoch * recipe.epochs, max(1, round(recipe.warmup * steps_per_epoch))
    warmup = min(warmup, steps // 2)
    start = 1 / warmup
    return lambda step: (
        start + (1 - start) * step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * step / steps))
    )


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> float:
    pairs = [(model(x.to(device)).argmax(1).cpu() == y) for x, y in batches]
    return float(torch.cat(pairs).float().mean())


def ours(case: Case, seed: int, device: torch.device) -> tuple[float, float]:
    """(accuracy, seconds) of the training evaluator."""
    started = time.perf_counter()
    evaluator = TrainingEvaluator(Classification(case.data), case.recipe, device=device)
    metrics = evaluator.evaluate(case.arch, fidelity=case.recipe.epochs, seed=seed)
    return metrics["accuracy"], time.perf_counter() - started


def embedded_case(seeds: int, **sizes: int) -> Case:
    """The embedded default; on a CPU Attune gets one thread, as in a trial."""
    return Case(
        "embedded default",
        Architecture.parse("attune_tiny:none,none,none"),
        load_data("cluttered_digits", **sizes),
        Recipe(preset="embedded"),
        seeds=seeds,
        threads=None if pick_device().type == "cuda" else 1,
    )


def resnet_case(data: Data, seeds: int, epochs: int = 1) -> Case:
    """resnet18 on images of CIFAR's size."""
    return Case(
        f"resnet18, {len(data.train)} images of 32x32" + (f", {epochs} epochs" if epochs > 1 else ""),
        Architecture.parse("resnet18:none,none,none,none"),
        data,
        Recipe(epochs=epochs),
        seeds=seeds,
    )


def cases(cifar: str | None, seeds: int, quick: bool) -> list[Case]:
    """The embedded default, and resnet18 on CIFAR-10 where it is at hand; a GPU gets all of its images."""
    embedded = embedded_case(max(3, 2 * seeds))
    if cifar is None:
        return [embedded]
    size = {"train_size": 640, "val_size": 200} if quick else {"train_size": 1920, "val_size": 400}
    data = load_data(cifar, **({} if pick_device().type == "cuda" else size))
    return [embedded, resnet_case(data, seeds)]


Loop = Callable[[Case, int, torch.device], tuple[float, float]]
LOOPS: dict[str, Loop] = {"usual": usual_loop, "Attune": ours}
Runs = dict[str, list[tuple[float, float]]]


def measure(
    case: Case, device: torch.device, journal: Path | None = None, loops: Mapping[str, Loop] = MappingProxyType(LOOPS)
) -> Runs:
    """(accuracy, seconds) of the loops for every seed, alternating, so that all see the same load of the machine.

    What the journal holds is not measured again: an interrupted measurement goes on where it was.
    """
    lines = journal.read_text().splitlines() if journal is not None and journal.is_file() else []
    kept = [row for row in map(json.loads, lines) if row["case"] == case.name and row["device"] == device.type]
    all_threads = torch.get_num_threads()
    for seed in range(len(kept), case.seeds):
        row: dict[str, Any] = {"case": case.name, "device": device.type}
        for name, loop in loops.items():
            torch.set_num_threads((case.threads if name == "Attune" else None) or all_threads)
            row[name] = loop(case, seed, device)
        torch.set_num_threads(all_threads)
        kept.append(row)
        if journal is not None:
            journal.parent.mkdir(parents=True, exist_ok=True)
            with journal.open("a") as out:
                out.write(json.dumps(row) + "\n")
    return {name: [tuple(row[name]) for row in kept] for name in loops}


def warm_up(case: Case, device: torch.device, loops: Mapping[str, Loop] = MappingProxyType(LOOPS)) -> None:
    """Every loop once over a few images, since the first training of a process pays for imports and kernels."""
    data = case.data
    few = replace(data, train=first(data.train, 3 * case.recipe.batch_size), val=first(data.val, 512))
    short = replace(case, data=few, recipe=case.recipe.model_copy(update={"epochs": 1}))
    for loop in loops.values():
        loop(short, 0, device)


def first(split: Split, images: int) -> ArraySplit:
    """The first images of a split in memory."""
    assert isinstance(split, ArraySplit)
    return ArraySplit(split.images_NCHW[:images], split.labels_N[:images])


HEADER = ("| task | loop | threads | seconds (median) | accuracy (seeds) | ratio |", "|---|---|---|---|---|---|")


def ratio(found: Runs, name: str = "Attune") -> float:
    """How many times faster than the usual loop, by the medians."""
    usual, own = (statistics.median(time for _, time in found[loop]) for loop in ("usual", name))
    return usual / own


def rows(case: Case, found: Runs) -> list[str]:
    """One line of the table for each loop."""
    lines = []
    for name, runs in found.items():
        accuracies = [value for value, _ in runs]
        spread = f"{statistics.mean(accuracies):.3f}"
        spread += f" ± {statistics.stdev(accuracies):.3f}" if len(runs) > 1 else ""
        threads = (case.threads if name == "Attune" else None) or torch.get_num_threads()
        seconds = statistics.median(time for _, time in runs)
        lines.append(
            f"| {case.name} | {name} | {threads} | {seconds:.1f} | {spread} ({len(runs)}) | {ratio(found, name):.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", help="data of CIFAR's size, for example hf:FOLDER or cifar10")
    parser.add_argument("--seeds", type=int, default=3, help="of resnet18; the embedded default takes twice as many")
    parser.add_argument("--quick", action="store_true", help="fewer images of CIFAR's size")
    parser.add_argument("--results", type=Path, default=Path("runs/bench-throughput.jsonl"))
    add_option(parser, "throughput.md")
    options = parser.parse_args()
    device = pick_device()
    lines = list(HEADER)
    print("\n".join(lines))
    for case in cases(options.cifar, options.seeds, options.quick):
        warm_up(case, device)
        lines += rows(case, measure(case, device, options.results))
        print("\n".join(lines[-2:]), flush=True)
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU"
    text = "\n".join([f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}.", "", *lines])
    if options.markdown:
        write(options.markdown, "measured", text + "\n")


if __name__ == "__main__":
    main()
