"""The training evaluator: a candidate trained from scratch by a short strong recipe, in a loop one reads from top to bottom.

In the manner of airbench (Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024): the data already on the device,
augmentation of whole batches there, channels_last, bf16 where the device computes it well, no synchronisation inside an epoch.
Legend: B batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evaluators.base import EvaluationError, Metrics, Report
from evaluators.data import ArraySplit, Data
from evaluators.data.batches import Augment, ResidentBatches
from spaces.errors import unknown

if TYPE_CHECKING:
    from spaces.placement import Architecture

VALIDATION_BATCH = 512

PRESETS: dict[str, dict[str, Any]] = {
    # A strong short training, for 5 to 30 epochs on small images.
    "short": {},
    # For the embedded default: seconds on one core; small batches because few steps are all there is.
    "embedded": {"epochs": 2, "batch_size": 32, "lr": 0.1, "crop": 0, "warmup": 0.3},
    # Hou et al., Coordinate Attention for Efficient Mobile Network Design (2021), their ImageNet recipe.
    "coordinate_attention": {
        "epochs": 200,
        "batch_size": 256,
        "lr": 0.05,
        "momentum": 0.9,
        "weight_decay": 4e-5,
        "schedule": "cosine",
        "warmup": 0,
    },
    # The fine-grained classification recipe: small batches, a slow polynomial decay from 1e-4 to 1e-6.
    "fine_grained": {
        "epochs": 200,
        "batch_size": 16,
        "lr": 1e-4,
        "min_lr": 1e-6,
        "momentum": 0.8,
        "weight_decay": 2.5e-4,
        "schedule": "poly",
        "warmup": 0,
        "label_smoothing": 0,
    },
}


class Recipe(BaseModel):
    """How a candidate is trained. `preset` (one of PRESETS) gives the values that are not set here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = "short"
    epochs: int = Field(default=10, ge=1, description="the full fidelity")
    batch_size: int = Field(default=128, ge=1)
    optimizer: str = Field(default="sgd", description="one of timm's; sgd has Nesterov momentum")
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(
        default=5e-4, ge=0, description="of matrices and kernels; norms, biases and gates have none"
    )
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    warmup: float = Field(default=1, ge=0, description="epochs")
    min_lr: float = Field(default=0, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    flip: bool | None = Field(default=None, description="mirror half of the images; None: where the data allows it")
    crop: int = Field(default=4, ge=0, description="pixels of padding before a random crop of the old size")
    amp: Literal["auto", "off"] = Field(default="auto", description="auto: bf16 autocast where the device does it well")
    channels_last: bool = True

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset", "short")
        if preset not in PRESETS:
            raise unknown("preset", preset, PRESETS)
        return {**PRESETS[preset], **values}

    @property
    def digest(self) -> str:
        """Equal for recipes that train equally; the fidelity is not part of it."""
        content = self.model_dump_json(exclude={"preset", "epochs"})
        return hashlib.blake2b(content.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Trained:
    """The outcome of train_model: the model in eval mode on its device, and its metrics."""

    model: nn.Module
    metrics: Metrics


def pick_device() -> torch.device:
    """The first GPU this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache
def autocast_dtype(device_type: str) -> torch.dtype | None:
    """bfloat16 where the device does it well (Ampere and later, AMX, ARM's BF16), else None: stay in float32.

    AVX512-BF16 alone does not count: small convolutions trained 1.1 to 1.8 times slower with it than in float32.
    """
    if device_type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else None
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if has.get("amx_bf16") or has.get("bf16") else None


def autocast(device: torch.device, amp: str) -> AbstractContextManager[None]:
    """The precision of the forward pass."""
    dtype = autocast_dtype(device.type) if amp == "auto" else None
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def train_model(
    build: Callable[[], nn.Module],
    data: Data,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    report: Report | None = None,
) -> Trained:
    """Train build() for `epochs` epochs and measure it on the validation split.

    Initial weights, order and augmentation depend on the seed only; on the CPU two runs give the same weights, bit for bit.
    Raises EvaluationError when the loss stops being finite or memory runs out.
    """
    assert isinstance(data.train, ArraySplit)
    assert isinstance(data.val, ArraySplit)
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = build()
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model = model.to(device).to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's stubs

        generator = torch.Generator().manual_seed(seed)
        augment = Augment(flip=data.flip if recipe.flip is None else recipe.flip, crop=recipe.crop)
        train = ResidentBatches(data.train, data, recipe.batch_size, device, augment=augment, generator=generator)
        val = ResidentBatches(data.val, data, VALIDATION_BATCH, device)
        optimizer = make_optimizer(model, recipe)
        schedule = make_schedule(optimizer, recipe, len(train), epochs)

        metrics: Metrics = {}
        step = 0
        for epoch in range(1, epochs + 1):
            model.train()
            total_loss = torch.zeros((), device=device)
            for x_BCHW, y_B in train:
                schedule.step_update(step)
                with autocast(device, recipe.amp):
                    logits_BK = model(x_BCHW)
                    loss = cross_entropy(logits_BK.float(), y_B, label_smoothing=recipe.label_smoothing)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                total_loss += loss.detach()
                step += 1
            train_loss = float(total_loss) / len(train)
            if not train_loss < float("inf"):
                raise EvaluationError(f"the training loss became {train_loss} in epoch {epoch}")
            if report is not None or epoch == epochs:
                metrics = validate(model, val, device, recipe.amp)
                metrics |= {"train_loss": train_loss, "epochs": epoch, "seconds": time.perf_counter() - started}
            if report is not None and not report(epoch, dict(metrics)):
                break
    return Trained(model.eval(), metrics)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """One of timm's optimizers; matrices and kernels are decayed, everything of one dimension or none is not."""
    from timm.optim import create_optimizer_v2, list_optimizers

    if recipe.optimizer not in list_optimizers():
        raise unknown("optimizer", recipe.optimizer, list_optimizers())
    decayed = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim > 1]
    free = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return create_optimizer_v2(groups, opt=recipe.optimizer, lr=recipe.lr, momentum=recipe.momentum)


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int, epochs: int) -> Any:
    """One of timm's schedules, stepped after every batch."""
    from timm.scheduler import create_scheduler_v2

    steps = steps_per_epoch * epochs
    warmup = min(round(recipe.warmup * steps_per_epoch), steps // 2)
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched="step" if recipe.schedule == "constant" else recipe.schedule,
        decay_epochs=steps + 1,  # of "step": never reached
        num_epochs=steps,
        warmup_epochs=warmup,
        warmup_lr=recipe.lr / max(1, warmup),
        min_lr=recipe.min_lr,
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    return schedule


@torch.inference_mode()
def validate(model: nn.Module, val: ResidentBatches, device: torch.device, amp: str) -> Metrics:
    """accuracy in [0, 1] and loss over a split."""
    model.eval()
    hits = torch.zeros((), device=device)
    loss = torch.zeros((), device=device)
    count = 0
    for x_BCHW, y_B in val:
        with autocast(device, amp):
            logits_BK = model(x_BCHW).float()
        hits += (logits_BK.argmax(1) == y_B).sum()
        loss += cross_entropy(logits_BK, y_B, reduction="sum")
        count += len(y_B)
    if not bool(torch.isfinite(loss)):
        raise EvaluationError(f"the validation loss became {float(loss)}")
    return {"accuracy": float(hits) / count, "loss": float(loss) / count}


@dataclass(frozen=True, eq=False)
class TrainingEvaluator:
    """Trains every candidate from scratch with one recipe. fidelity: epochs.

    identity_init: attention starts as the identity. native: what becomes of a backbone's own SE (build_model).
    """

    data: Data
    recipe: Recipe = field(default_factory=Recipe)
    identity_init: bool = True
    native: str = "keep"
    device: torch.device = field(default_factory=pick_device)

    @property
    def num_classes(self) -> int:
        return self.data.num_classes

    @property
    def in_chans(self) -> int:
        return self.data.in_chans

    @property
    def image_size(self) -> int:
        return self.data.image_size

    @cached_property
    def identity(self) -> str:
        start = "identity" if self.identity_init else "fresh"
        return f"training {self.data.identity} {self.recipe.digest} {start} {self.native}"

    def evaluate(
        self, arch: Architecture, *, fidelity: int, seed: int, report: Report | None = None, keep: Path | None = None
    ) -> Metrics:
        """Metrics of `arch` after `fidelity` epochs; `keep` is a .safetensors file for the trained weights."""
        trained = self.train(arch, fidelity=fidelity, seed=seed, report=report)
        if keep is not None:
            save_weights(trained.model.state_dict(), keep)
        return trained.metrics

    def train(self, arch: Architecture, *, fidelity: int, seed: int, report: Report | None = None) -> Trained:
        """The trained model itself, with its metrics."""
        return train_model(
            lambda: self.build(arch),
            self.data,
            self.recipe,
            epochs=fidelity,
            seed=seed,
            device=self.device,
            report=report,
        )

    def build(self, arch: Architecture) -> nn.Module:
        """The untrained model of `arch` for this data."""
        from spaces.backbone import build_model

        return build_model(
            arch,
            self.num_classes,
            self.in_chans,
            image_size=self.image_size,
            identity_init=self.identity_init,
            native=self.native,
        )


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state_dict as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, partial)
    partial.replace(path)
