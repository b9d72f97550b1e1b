"""Training a detector against the loop of torchvision's detection reference: a DataLoader with two workers, transforms v2
(RandomIoUCrop, RandomHorizontalFlip, SanitizeBoundingBoxes) image by image, lists of targets, its matcher and its SSD loss.

`python -m benchmarks.detection_throughput`. The network, batch, optimizer, rate and random changes are the same, torch has one
thread in both. What to look for: at least 1.5x on the CPU. Seconds are of whole epochs without validation, the median of
``--repeats``, in turn: by the clock, and of all cores together, which a busy machine leaves alone. ``--data voc:FOLDER`` with
``--size H W`` measures a set of pictures in files.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models.detection._utils import SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou
from torchvision.transforms import v2

from benchmarks.page import add_option, write
from evaluators.recipe import Recipe
from evaluators.speed import keep_freed_memory, use_fast_convolutions
from evaluators.tasks.detection import Detection, DetectionConfig
from evaluators.training.device import arranged
from evaluators.training.loop import backward
from spaces.placement import Architecture

CPU = torch.device("cpu")


class Pictures(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """A split as people have it: a picture, and a dict of boxes and labels from 1, changed by transforms of one picture."""

    def __init__(self, task: Detection) -> None:
        data = task.data
        self.split, self.size = data.train, data.size
        self.transform = v2.Compose(
            [
                v2.RandomIoUCrop(),
                v2.Resize(list(data.size), antialias=True),
                v2.RandomHorizontalFlip(0.5 if data.flip else 0.0),
                v2.ToDtype(torch.float32, scale=True),
                v2.SanitizeBoundingBoxes(),
                v2.Normalize(list(data.mean), list(data.std)),
            ]
        )

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        objects, (height, width) = self.split.objects[index], self.split.sizes_N2[index]
        scale = torch.tensor([self.size[1] / width, self.size[0] / height] * 2, dtype=torch.float32)
        boxes = torch.from_numpy(objects.boxes_M4) * scale
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=self.size),
            "labels": torch.from_numpy(objects.labels_M) + 1,
        }
        changed: tuple[Tensor, dict[str, Tensor]] = self.transform(tv_tensors.Image(self.split.image(index)), target)
        return changed


def collate(batch: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    return torch.stack([x for x, _ in batch]), [target for _, target in batch]


class Nothing(nn.Module):
    """The backbone that torchvision's SSD asks for, of which only the loss is used."""

    out_channels = (1,)


class Timer:
    """Seconds by the clock and of all cores, those of ended workers too, since it was made."""

    def __init__(self) -> None:
        self.started = self._now()

    def _now(self) -> tuple[float, float]:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)

    def seconds(self) -> tuple[float, float]:
        now = self._now()
        return now[0] - self.started[0], now[1] - self.started[1]


Seconds = tuple[float, float]


class UsualLoss:
    """torchvision's own loss of SSD, by its matcher, of the raw output of a network."""

    def __init__(self, task: Detection) -> None:
        self.ssd = SSD(Nothing(), DefaultBoxGenerator([[2]]), task.data.size, task.head.classes, head=nn.Identity())
        self.matcher = SSDMatcher(0.5)

    def __call__(self, output: dict[str, Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
        """A scalar, for targets with boxes (M, 4) and labels (M,) from 1."""
        anchors = output["anchors"]
        matched = [
            self.matcher(box_iou(target["boxes"], anchors))
            if len(target["boxes"])
            else torch.full((len(anchors),), -1, device=anchors.device)
            for target in targets
        ]
        raw = {"bbox_regression": output["boxes"], "cls_logits": output["scores"]}
        losses = self.ssd.compute_loss(targets, raw, [anchors] * len(targets), matched)
        return sum(losses.values(), torch.zeros((), device=anchors.device))


def usual_epoch(
    task: Detection, model: nn.Module, optimizer: torch.optim.Optimizer, batch: int, device: torch.device = CPU
) -> Seconds:
    """Seconds of one epoch of the reference's loop, whose workers are started for every epoch."""
    pictures = Pictures(task)
    loader = DataLoader(pictures, batch, shuffle=True, drop_last=True, num_workers=2, collate_fn=collate)
    loss_of = UsualLoss(task)
    model.train()
    timer = Timer()
    for x_BCHW, targets in loader:
        loss = loss_of(
            model(x_BCHW.to(device)),
            [{name: value.to(device) for name, value in target.items()} for target in targets],
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # the reference logs it
    return timer.seconds()


def our_epoch(
    task: Detection,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    seed: int,
    device: torch.device = CPU,
) -> Seconds:
    """Seconds of one epoch of what `train_model` does in it."""
    generator = torch.Generator().manual_seed(seed)
    batches = task.batches("train", batch_size=recipe.batch_size, device=device, generator=generator, recipe=recipe)
    model.train()
    timer = Timer()
    for x_BCHW, target in batches:
        backward(model, x_BCHW, target, task, recipe, recipe.batch_size)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return timer.seconds()


def compare(
    task: Detection, arch: Architecture, recipe: Recipe, repeats: int, device: torch.device = CPU
) -> dict[str, list[Seconds]]:
    """Seconds of an epoch of both loops for every seed, alternating, each of a network of its own."""
    seconds: dict[str, list[Seconds]] = {"usual": [], "ours": []}
    for seed in range(repeats):
        model = task.network.build(arch).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr / 10)
        seconds["usual"].append(usual_epoch(task, model, optimizer, recipe.batch_size, device))
        model = arranged(task.network.build(arch).to(device), channels_last=True)
        if device.type == "cpu":
            keep_freed_memory()
            use_fast_convolutions(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr / 10, fused=True)
        seconds["ours"].append(our_epoch(task, model, optimizer, recipe, seed, device))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cluttered_digits")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"))
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--backbone", nargs="+", default=["attune_tiny"])
    parser.add_argument("--repeats", type=int, default=3)
    add_option(parser, "throughput.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    options: dict[str, Any] = {"name": given.data, "train_size": given.images, "val_size": 16}
    options |= {"image_size": given.size or 64} if given.data == "cluttered_digits" else {"image_size": given.size}
    task = DetectionConfig(head="ssdlite").build(options, seed=0)
    recipe = Recipe(preset="detection", batch_size=given.batch, clip=None)
    lines = [
        "| backbone | batch | reference, images/s | Attune, images/s | times, by the clock | times, seconds of all cores |",
        "|---|---|---|---|---|---|",
    ]
    for backbone in given.backbone:
        seconds = compare(task, Architecture.plain(backbone), recipe, given.repeats)
        images = given.images // given.batch * given.batch
        (usual, usual_cores), (ours, ours_cores) = (
            (images / statistics.median(one[0] for one in runs), images / statistics.median(one[1] for one in runs))
            for runs in (seconds["usual"], seconds["ours"])
        )
        ratios = f"{ours / usual:.2f} | {ours_cores / usual_cores:.2f}"
        lines.append(f"| {backbone} | {given.batch} | {usual:.0f} | {ours:.0f} | {ratios} |")
        print(lines[-1], flush=True)
    if given.markdown:
        write(given.markdown, "detection", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
