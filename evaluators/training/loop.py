"""Training a network, in a loop one reads from top to bottom; it knows nothing of the task but its protocol.

In the manner of airbench (Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024): the data already on the device,
augmentation of whole batches there, channels_last, bf16 where the device computes it well, no synchronisation inside an epoch.
Legend: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.outcomes import EvaluationError, Metrics, Report
from evaluators.recipe import Recipe
from evaluators.speed import keep_freed_memory, use_fast_convolutions
from evaluators.tasks.base import Batches, Task
from evaluators.training.checkpoint import Progress, essence
from evaluators.training.device import arranged, autocast, seeded
from evaluators.training.graphs import Replayed, replayed
from evaluators.training.optimizer import FineTuning, make_optimizer, make_schedule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """The outcome of train_model: the model in eval mode on its device, and its metrics."""

    model: nn.Module
    metrics: Metrics


def train_model(
    build: Callable[[], nn.Module],
    task: Task,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    report: Report | None = None,
    checkpoint: Path | None = None,
    tuning: FineTuning | None = None,
) -> Trained:
    """Train build() for `epochs` epochs and measure it on the validation split.

    Initial weights, order and augmentation depend on the seed only; on the CPU two runs give the same weights, bit for bit.
    checkpoint: a file written after every epoch. When it holds an earlier part of the same training, that is continued:
    an interrupted one, or, where the schedule does not depend on the epochs (`horizon` set, or constant), a shorter one.
    Raises EvaluationError when the loss stops being finite or one image at a time does not fit into memory.
    """
    started = time.perf_counter()
    tuning = tuning or FineTuning()
    with seeded(seed, device):
        model = arranged(build().to(device), recipe.channels_last)
        if device.type == "cpu" and not recipe.compile:
            keep_freed_memory()
            use_fast_convolutions(model)
        average = deepcopy(model).requires_grad_(False) if recipe.ema else None
        judged = average if average is not None else model

        generator = torch.Generator().manual_seed(seed)
        train = task.batches(
            "train",
            batch_size=recipe.batch_size,
            device=device,
            generator=generator,
            recipe=recipe,
            workers=recipe.workers,
        )
        val = task.batches("val", batch_size=task.validation_batch, device=device, workers=recipe.workers)
        forward: Callable[[Tensor], Any] = model
        if recipe.compile:
            forward = torch.compile(model)
        elif (
            device.type == "cuda" and not recipe.freeze
        ):  # what is frozen for some epochs has other gradients in others
            forward = replayed(model, task, recipe, train.batch_size, device)
        optimizer = make_optimizer(model, recipe, tuning)
        schedule = make_schedule(optimizer, recipe, len(train), epochs)
        state = Progress(model, average, optimizer, generator, essence(recipe, epochs, seed, len(train)))
        first = state.load(checkpoint, epochs) + 1

        metrics: Metrics = state.metrics
        micro_batch = train.batch_size
        step = (first - 1) * len(train)
        for epoch in range(first, epochs + 1):
            set_trainable(model, tuning.backbone, frozen=epoch <= recipe.freeze)
            total_loss = torch.zeros((), device=device)
            for x_BCHW, target in train:
                schedule.step_update(step)
                loss, micro_batch = backward(forward, x_BCHW, target, task, recipe, micro_batch)
                if recipe.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                total_loss += loss
                step += 1
                if average is not None and recipe.ema is not None:
                    update_average(average, model, recipe.ema, step)
            train_loss = float(total_loss) / len(train)
            if not train_loss < float("inf"):
                raise EvaluationError(f"the training loss became {train_loss} in epoch {epoch}")
            seconds = state.seconds + time.perf_counter() - started
            metrics = {"train_loss": train_loss, "epochs": epoch, "seconds": seconds, "micro_batch": micro_batch}
            if report is not None or epoch == epochs:
                metrics |= validate(judged, val, task, device, recipe.amp)
                metrics["seconds"] = state.seconds + time.perf_counter() - started
            state.save(checkpoint, epoch, metrics)
            if report is not None and not report(epoch, dict(metrics)):
                break
    return Trained(judged.eval(), metrics)


def backward(
    model: Callable[[Tensor], Any], x_BCHW: Tensor, target: Any, task: Task, recipe: Recipe, micro_batch: int
) -> tuple[Tensor, int]:
    """Add the gradient of the mean loss of a batch, in pieces of `micro_batch` images: (loss, the piece that did fit).

    Out of memory halves the piece and says so; the gradient stays that of the whole batch.
    """
    while True:
        try:
            total = torch.zeros((), device=x_BCHW.device)
            for start in range(0, len(x_BCHW), micro_batch):
                rows = slice(start, start + micro_batch)
                x_bCHW = x_BCHW[rows]
                with autocast(x_BCHW.device, recipe.amp):
                    loss = task.loss(model(x_bCHW), take(target, rows), smoothing=recipe.label_smoothing)
                    loss = loss * (len(x_bCHW) / len(x_BCHW))
                loss.backward()
                total += loss.detach()
            return total, micro_batch
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if micro_batch == 1:
                raise EvaluationError("out of memory with one image at a time") from error
        micro_batch = (micro_batch + 1) // 2
        logger.warning("out of memory: going on with micro-batches of %d images, accumulated", micro_batch)
        if isinstance(model, nn.Module | Replayed):
            model.zero_grad(set_to_none=True)
        if x_BCHW.device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has an exception of its own; the CPU allocator raises a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """average += (1 - d) (model - average), d rising to `decay` so that the first steps do not weigh for ever."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    torch._foreach_copy_(list(average.buffers()), list(model.buffers()))


def set_trainable(model: nn.Module, backbone: Callable[[str], bool], *, frozen: bool) -> None:
    """Training mode; frozen: the backbone's parameters get no gradient and its BatchNorms keep their statistics."""
    model.train()
    for name, weight in model.named_parameters():
        weight.requires_grad_(not (frozen and backbone(name)))
    if frozen:
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and backbone(f"{name}.weight"):
                module.eval()


def take(target: Any, rows: slice) -> Any:
    """Part of a batch's target: of every tensor, and of every list, the entries of these images."""
    if isinstance(target, (Tensor, list)):
        return target[rows]
    if isinstance(target, dict):
        return {key: take(value, rows) for key, value in target.items()}
    if isinstance(target, tuple):
        return tuple(take(value, rows) for value in target)
    raise TypeError(f"a target is made of tensors, lists, tuples and dicts, not {type(target).__name__}")


@torch.inference_mode()
def validate(model: nn.Module, batches: Batches, task: Task, device: torch.device, amp: str) -> Metrics:
    """The task's metrics over a split, in eval mode."""
    model.eval()
    scorer = task.scorer()
    for x_BCHW, target in batches:
        with autocast(device, amp):
            output = model(x_BCHW)
        scorer.update(output, target)
    return scorer.compute()
