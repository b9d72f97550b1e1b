"""The training evaluator against the loop that people write: torch's DataLoader with two workers and torchvision's
transforms, float32, the same model, batch size, epochs and augmentation.

`python -m benchmarks.throughput` (or `make bench-throughput`). What to look for: at least 2x on the CPU for the embedded
default, at least 1.3x for resnet18 on images of CIFAR's size; accuracies equal within the spread of seeds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from evaluators.data import ArraySplit, Data, load_data
from evaluators.training import Recipe, TrainingEvaluator, pick_device
from spaces import Architecture, build_model


@dataclass(frozen=True)
class Case:
    """One task: architecture, data, recipe, epochs."""

    name: str
    arch: Architecture
    data: Data
    recipe: Recipe


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


def usual_loop(case: Case, seed: int, device: torch.device) -> tuple[float, float]:
    """(accuracy, seconds) of the loop that people write, data sets already in memory."""
    data, recipe = case.data, case.recipe
    assert isinstance(data.train, ArraySplit)
    assert isinstance(data.val, ArraySplit)
    plain = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    random = [transforms.RandomCrop(data.image_size, padding=recipe.crop)] if recipe.crop else []
    random += [transforms.RandomHorizontalFlip()] if data.flip else []
    train_set = Pictures(data.train, transforms.Compose([*random, *plain]))
    val_set = Pictures(data.val, transforms.Compose(plain))
    started = time.perf_counter()
    torch.manual_seed(seed)
    train = DataLoader(train_set, recipe.batch_size, shuffle=True, drop_last=True, num_workers=2)
    val = DataLoader(val_set, 512, num_workers=2)
    model = build_model(case.arch, data.num_classes, data.in_chans, image_size=data.image_size).to(device)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    free = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
    else:
        optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)
    steps = len(train) * recipe.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, total_steps=steps, pct_start=min(0.5, recipe.warmup / recipe.epochs), cycle_momentum=False
    )
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


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> float:
    pairs = [(model(x.to(device)).argmax(1).cpu() == y) for x, y in batches]
    return float(torch.cat(pairs).float().mean())


def ours(case: Case, seed: int, device: torch.device) -> tuple[float, float]:
    """(accuracy, seconds) of the training evaluator."""
    started = time.perf_counter()
    evaluator = TrainingEvaluator(case.data, case.recipe, device=device)
    metrics = evaluator.evaluate(case.arch, fidelity=case.recipe.epochs, seed=seed)
    return metrics["accuracy"], time.perf_counter() - started


def cases(cifar: str | None, quick: bool) -> list[Case]:
    """The embedded default, and resnet18 on CIFAR-10 where it is at hand."""
    embedded = Case(
        "embedded default",
        Architecture.parse("attune_tiny:none,none,none"),
        load_data("cluttered_digits"),
        Recipe(preset="embedded"),
    )
    if cifar is None:
        return [embedded]
    size = {"train_size": 640, "val_size": 200} if quick else {"train_size": 2560, "val_size": 500}
    resnet = Case(
        "resnet18, 32x32 colour",
        Architecture.parse("resnet18:none,none,none,none"),
        load_data(cifar, **size),
        Recipe(epochs=1),
    )
    return [embedded, resnet]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", help="data of CIFAR's size, for example hf:FOLDER or cifar10")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="fewer images of CIFAR's size")
    parser.add_argument("--markdown", type=Path, help="also write the table there")
    options = parser.parse_args()
    device = pick_device()
    rows = ["| task | loop | seconds (median) | accuracy by seed | ratio |", "|---|---|---|---|---|"]
    for case in cases(options.cifar, options.quick):
        ours(replace(case, recipe=case.recipe.model_copy(update={"epochs": 1})), 0, device)  # warm-up
        found: dict[str, list[tuple[float, float]]] = {"usual": [], "Attune": []}
        for seed in range(options.repeats):  # alternating, so that both see the same load of the machine
            found["usual"].append(usual_loop(case, seed, device))
            found["Attune"].append(ours(case, seed, device))
        seconds = {name: statistics.median(time for _, time in runs) for name, runs in found.items()}
        for name, runs in found.items():
            by_seed = " ".join(f"{value:.3f}" for value, _ in runs)
            rows.append(
                f"| {case.name} | {name} | {seconds[name]:.1f} | {by_seed} | {seconds['usual'] / seconds[name]:.2f} |"
            )
            print(rows[-1], flush=True)
    table = "\n".join(rows)
    print(f"\n{device.type}, {torch.get_num_threads()} threads\n\n{table}")
    if options.markdown:
        options.markdown.write_text(
            f"# Throughput of the training evaluator\n\n{device.type}, {torch.get_num_threads()} threads.\n\n{table}\n"
        )


if __name__ == "__main__":
    main()
