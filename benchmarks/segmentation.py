"""A segmentation trained by Attune against the same network trained by the loop of torchvision's segmentation references.

`python -m benchmarks.segmentation` on the embedded task; `--data camvid:FOLDER` (any data of a segmentation that fits into
memory) with `--backbone mobilenetv3_large_100 --head lraspp`. Both start from random weights and train as many epochs with
batches of one size. torchvision's: DataLoader with two workers, `transforms.v2` picture by picture (resized by .5 to 2,
mirrored where the data allow it, cut out), SGD at .01 with momentum .9 and weight decay 1e-4, the learning rate falling as
(1 - t) ** .9, contiguous float32. Attune's: AdamW and the same fall of the learning rate, on as many threads.
CPU seconds are those of all processes, and say something where others use the machine too. What to look for: at least 1.5 times
the pictures a second, and an mIoU that is not worse beyond the spread of the seeds.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.page import add_option, write
from evaluators.confusion import SegmentationScorer
from evaluators.data.masks.codes import IGNORED
from evaluators.data.masks.splits import MaskData, MaskSplit
from evaluators.recipe import Recipe
from evaluators.speed import keep_freed_memory, use_fast_convolutions
from evaluators.tasks.base import Task
from evaluators.tasks.segmentation import Segmentation, SegmentationConfig
from evaluators.training import TrainingEvaluator
from evaluators.training.device import arranged
from evaluators.training.loop import backward
from spaces import Architecture

CPU = torch.device("cpu")
WORKERS = 2


@dataclass(frozen=True)
class Run:
    """What one training came to: seconds of its epochs without validation, by the clock and of all cores, and the metric."""

    seconds: float
    cpu: float
    mean_iou: float


def now() -> tuple[float, float]:
    """Seconds by the clock, and those that this process and the workers it has waited for had of all cores."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """A split as people have it: PIL images and masks, and transforms for both."""

    def __init__(self, split: MaskSplit, transform: v2.Transform) -> None:
        arrays = split.images_NCHW.permute(0, 2, 3, 1).numpy()
        self.images = [Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array) for array in arrays]
        self.masks = [Image.fromarray(mask) for mask in split.masks_NHW.numpy()]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.transform(
            v2.functional.pil_to_tensor(self.images[index]), tv_tensors.Mask(self.masks[index])
        )
        return image, mask.squeeze(0).long()


def transforms(data: MaskData, *, train: bool) -> v2.Transform:
    """The presets of torchvision's segmentation references, at the size of the network."""
    side = min(data.size)
    random: list[Any] = []
    if train:
        random = [v2.RandomResize(side // 2, 2 * side), v2.RandomHorizontalFlip(0.5 if data.flip else 0.0)]
        random += [v2.RandomCrop(data.size, pad_if_needed=True, fill={tv_tensors.Mask: IGNORED, "others": 0})]
    fixed = {tv_tensors.Image: torch.float32, Tensor: torch.float32, "others": None}
    return v2.Compose([*random, v2.ToDtype(fixed, scale=True), v2.Normalize(list(data.mean), list(data.std))])


def usual_loop(
    task: Segmentation, arch: Architecture, batch: int, epochs: int, seed: int, device: torch.device = CPU
) -> Run:
    """The loop of torchvision's `references/segmentation/train.py`."""
    data = task.data
    assert isinstance(data.train, MaskSplit)
    assert isinstance(data.val, MaskSplit)
    torch.manual_seed(seed)
    train = DataLoader(
        Pictures(data.train, transforms(data, train=True)), batch, shuffle=True, drop_last=True, num_workers=WORKERS
    )
    model = task.network.build(arch).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    steps = epochs * len(train)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)
    started, began = now()
    for _ in range(epochs):
        model.train()
        for x_BCHW, mask_BHW in train:
            loss = cross_entropy(model(x_BCHW.to(device)), mask_BHW.to(device), ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss.item()  # its logger asks for it
    ended, used = now()
    scorer = SegmentationScorer(data.class_names)
    model.eval()
    with torch.inference_mode():
        for x_BCHW, mask_BHW in task.batches("val", batch_size=task.validation_batch, device=device):
            scorer.update(model(x_BCHW), mask_BHW)
    return Run(ended - started, used - began, float(scorer.compute()["mIoU"]))


def ours(
    task: Segmentation, arch: Architecture, recipe: Recipe, epochs: int, seed: int, device: torch.device = CPU
) -> Run:
    """The training evaluator, its validation left out of the time."""
    times: list[tuple[float, float]] = []
    began = now()
    watched = cast(Task, Watched(task, lambda: times.append(now())))
    metrics = TrainingEvaluator(watched, recipe, device=device).evaluate(arch, fidelity=epochs, seed=seed)
    (ended, used) = times[0]
    return Run(ended - began[0], used - began[1], metrics["mIoU"])


class Watched:
    """A task that says when the judge is called for; all else is the task's own."""

    def __init__(self, task: Segmentation, told: Callable[[], None]) -> None:
        self._task, self._told = task, told

    def scorer(self) -> SegmentationScorer:
        self._told()
        return self._task.scorer()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def parts(task: Segmentation, arch: Architecture, recipe: Recipe, repeats: int) -> list[str]:
    """Milliseconds of all cores (median) of what a step is made of in both loops, as rows of a table; one process, one thread.

    The bound is how many times as fast a loop could be that spends nothing beside the network's own passes.
    """

    def middle(one: Callable[[], object]) -> float:
        one()
        took = []
        for _ in range(repeats):
            began = now()[1]
            one()
            took.append(now()[1] - began)
        return 1000 * statistics.median(took)

    data, batch = task.data, recipe.batch_size
    assert isinstance(data.train, MaskSplit)
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    batches = iter(task.batches("train", batch_size=batch, device=CPU, generator=generator, recipe=recipe))
    our_batch = middle(lambda: next(batches))
    x_BCHW, mask_BHW = next(batches)
    fast = arranged(task.network.build(arch), channels_last=True).train()
    use_fast_convolutions(fast)
    ours, theirs = torch.optim.AdamW(fast.parameters(), fused=True), task.network.build(arch).train()
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9)

    def our_step() -> None:
        backward(fast, x_BCHW, mask_BHW, task, recipe, batch)
        ours.step()
        ours.zero_grad(set_to_none=True)

    def usual_step() -> None:
        loss = cross_entropy(theirs(x_BCHW.contiguous()), mask_BHW.long(), ignore_index=IGNORED)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        loss.item()

    loader = iter(DataLoader(Pictures(data.train, transforms(data, train=True)), batch, shuffle=True))
    usual_batch, usual, our = middle(lambda: next(loader)), middle(usual_step), middle(our_step)
    logits_BKHW = fast(x_BCHW).detach().requires_grad_()
    loss = middle(lambda: task.loss(logits_BKHW, mask_BHW).backward())
    ratios = [(usual_batch + usual) / (our_batch + our), (usual_batch + usual) / (our - loss)]
    return [
        f"| torchvision's reference | {usual_batch:.1f} | {usual:.1f} | | 1.00 | |",
        f"| Attune | {our_batch:.1f} | {our:.1f} | {loss:.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |",
    ]


def poly(lr: float, batch: int) -> Recipe:
    """Attune's recipe of the comparison: AdamW, and torchvision's fall of the learning rate."""
    return Recipe(optimizer="adamw", lr=lr, batch_size=batch, crop=0, warmup=0.3, label_smoothing=0, schedule="poly")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cluttered_digits", help="as in a configuration, YAML of a mapping too")
    parser.add_argument("--backbone", default="attune_tiny")
    parser.add_argument("--head", default="fpn", help="a name, or {name: ..., and options} of the task's section")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.01, help="of Attune's recipe, AdamW")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("runs/bench-segmentation.jsonl"))
    parser.add_argument("--parts", type=int, metavar="N", help="only measure what a step is made of, N times each")
    add_option(parser, "segmentation.md")
    options = parser.parse_args()
    import yaml

    torch.set_num_threads(options.threads)
    given, head = yaml.safe_load(options.data), yaml.safe_load(options.head)
    section = {"head": head} if isinstance(head, str) else {"head": head.pop("name"), **head}
    task = SegmentationConfig.model_validate({**section, "scale": [0.5, 2.0]}).build(given, seed=0)
    arch = Architecture.plain(options.backbone)
    recipe = poly(options.lr, options.batch)
    if options.parts:
        head_line = "| loop | a batch, ms | a step, ms | of it the loss | ratio | bound |\n|---|---|---|---|---|---|"
        print("\n".join([head_line, *parts(task, arch, recipe, options.parts)]))
        return
    ours(task, arch, recipe, 1, 0)  # the first training of a process pays for imports and kernels
    pictures = task.count("train") // options.batch * options.batch * options.epochs
    found: dict[str, list[Run]] = {"torchvision's reference": [], "Attune": []}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):  # alternating, so that both see the same load of the machine
        pair = {
            "torchvision's reference": usual_loop(task, arch, options.batch, options.epochs, seed),
            "Attune": ours(task, arch, recipe, options.epochs, seed),
        }
        for name, run in pair.items():
            found[name].append(run)
            with options.results.open("a") as out:
                out.write(
                    json.dumps(
                        {"loop": name, "seed": seed, "seconds": run.seconds, "cpu": run.cpu, "mIoU": run.mean_iou}
                    )
                    + "\n"
                )
    name = f"{task.data.name.partition(':')[0]}, {options.backbone} with {options.head}, batch {options.batch}"
    middle = {
        loop: [statistics.median(times) for times in zip(*map(astuple, runs), strict=True)]
        for loop, runs in found.items()
    }
    usual, usual_cpu, _ = middle["torchvision's reference"]
    lines = [
        "| task | loop | pictures a second (median) | ratio | CPU seconds of 1,000 pictures | ratio | mIoU over seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for loop, runs in found.items():
        seconds, cpu, _ = middle[loop]
        scores = [run.mean_iou for run in runs]
        spread = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
        score = f"{statistics.mean(scores):.4f}{spread} ({len(scores)})"
        lines.append(
            f"| {name} | {loop} | {pictures / seconds:.1f} | {usual / seconds:.2f} | {1000 * cpu / pictures:.1f} "
            f"| {usual_cpu / cpu:.2f} | {score} |"
        )
    about = f"{platform.machine()} CPU, {options.threads} threads, torch {torch.__version__}, {options.epochs} epochs."
    print("\n".join([about, "", *lines]))
    if options.markdown:
        write(options.markdown, "measured", "\n".join([about, "", *lines]) + "\n")


if __name__ == "__main__":
    main()
