"""The training evaluator: a candidate trained from scratch by a short strong recipe, in a loop one reads from top to bottom.

In the manner of airbench (Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024): the data already on the device,
augmentation of whole batches there, channels_last, bf16 where the device computes it well, no synchronisation inside an epoch.
Legend: B batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evaluators.base import EvaluationError, Metrics, OnData, Report
from evaluators.data import Data
from evaluators.data.batches import Augment, Batches, make_batches, mix
from evaluators.memory import check_memory, free_memory
from evaluators.speed import keep_freed_memory, use_fast_convolutions
from spaces.errors import UsageError, unknown

if TYPE_CHECKING:
    from spaces.placement import Architecture

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 512
FUSED = ("adam", "adamw")  # SGD's fused step fails when some parameters get their first gradient later than others

PRESETS: dict[str, dict[str, Any]] = {
    # A strong short training, for 5 to 30 epochs on small images.
    "short": {},
    # For the embedded default: seconds on one core. AdamW because few steps are all there is: with SGD the seeds differed
    # three times as much, in how soon a network began to learn.
    "embedded": {
        "epochs": 2,
        "batch_size": 32,
        "optimizer": "adamw",
        "lr": 0.01,
        "crop": 0,
        "warmup": 0.3,
    },
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
    cutout: int = Field(default=0, ge=0, description="side in pixels of a square set to the mean colour")
    mixup: float = Field(default=0, ge=0, description="alpha; 0: off")
    cutmix: float = Field(default=0, ge=0, description="alpha; 0: off")
    clip: float | None = Field(default=None, gt=0, description="largest norm of the gradient")
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="decay of an average of the weights, which is then judged"
    )
    amp: Literal["auto", "off"] = Field(default="auto", description="auto: bf16 autocast where the device does it well")
    channels_last: bool = True
    compile: bool = Field(default=False, description="torch.compile; pays for itself in long trainings only")
    workers: int = Field(default=2, ge=0, description="processes that decode data too large for memory")
    horizon: int | None = Field(
        default=None, ge=1, description="epochs the schedule is laid out for; None: the epochs that are trained"
    )
    weights: str | None = Field(
        default=None, description="start from `pretrained` (timm's own) or a checkpoint file of the plain backbone"
    )
    freeze: int = Field(default=0, ge=0, description="first epochs in which only attention and classifier learn")
    layer_decay: float = Field(
        default=1, gt=0, le=1, description="factor on the learning rate for each stage further from the classifier"
    )

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


@dataclass(frozen=True)
class FineTuning:
    """How the weights of a model that already knows something are treated, by parameter name.

    backbone: whether a parameter belongs to the plain backbone and is frozen in the first `Recipe.freeze` epochs.
    depth: how many stages lie between a parameter and the classifier, the exponent of `Recipe.layer_decay`.
    """

    backbone: Callable[[str], bool] = lambda name: False
    depth: Callable[[str], int] = lambda name: 0


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


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers that depend on the seed alone; those of the caller are untouched."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def train_model(
    build: Callable[[], nn.Module],
    data: Data,
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
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model = build().to(device).to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's stubs
        if device.type == "cpu" and not recipe.compile:
            keep_freed_memory()
            use_fast_convolutions(model)
        forward = torch.compile(model) if recipe.compile else model
        average = deepcopy(model).requires_grad_(False) if recipe.ema else None
        judged = average if average is not None else model

        generator = torch.Generator().manual_seed(seed)
        augment = make_augment(recipe, data)
        train = make_batches(
            data.train, data, recipe.batch_size, device, augment=augment, generator=generator, workers=recipe.workers
        )
        val = make_batches(data.val, data, VALIDATION_BATCH, device, workers=recipe.workers)
        optimizer = make_optimizer(model, recipe, tuning)
        schedule = make_schedule(optimizer, recipe, len(train), epochs)
        state = Progress(model, average, optimizer, generator, plan(recipe, epochs, seed, len(train)))
        first = state.load(checkpoint, epochs) + 1

        metrics: Metrics = state.metrics
        micro_batch = train.batch_size
        step = (first - 1) * len(train)
        for epoch in range(first, epochs + 1):
            set_trainable(model, tuning.backbone, frozen=epoch <= recipe.freeze)
            total_loss = torch.zeros((), device=device)
            for x_BCHW, y_B in train:
                schedule.step_update(step)
                x_BCHW, target = mix(x_BCHW, y_B, data.num_classes, augment, generator)
                loss, micro_batch = backward(forward, x_BCHW, target, recipe, micro_batch)
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
                metrics |= validate(judged, val, device, recipe.amp)
                metrics["seconds"] = state.seconds + time.perf_counter() - started
            state.save(checkpoint, epoch, metrics)
            if report is not None and not report(epoch, dict(metrics)):
                break
    return Trained(judged.eval(), metrics)


def make_augment(recipe: Recipe, data: Data) -> Augment:
    """The recipe's augmentation; images are mirrored only where the data allows it, unless the recipe says otherwise."""
    return Augment(
        flip=data.flip if recipe.flip is None else recipe.flip,
        crop=recipe.crop,
        cutout=recipe.cutout,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
    )


def backward(
    model: Callable[[Tensor], Tensor], x_BCHW: Tensor, target: Tensor, recipe: Recipe, micro_batch: int
) -> tuple[Tensor, int]:
    """Add the gradient of the mean loss of a batch, in pieces of `micro_batch` images: (loss, the piece that did fit).

    Out of memory halves the piece and says so; the gradient stays that of the whole batch.
    """
    while True:
        try:
            total = torch.zeros((), device=x_BCHW.device)
            for x_bCHW, target_b in zip(x_BCHW.split(micro_batch), target.split(micro_batch), strict=True):
                with autocast(x_BCHW.device, recipe.amp):
                    logits_bK = model(x_bCHW)
                    loss = cross_entropy(logits_bK.float(), target_b, label_smoothing=recipe.label_smoothing)
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
        if isinstance(model, nn.Module):
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
    for kept, current in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(current)


def set_trainable(model: nn.Module, backbone: Callable[[str], bool], *, frozen: bool) -> None:
    """Training mode; frozen: the backbone's parameters get no gradient and its BatchNorms keep their statistics."""
    model.train()
    for name, weight in model.named_parameters():
        weight.requires_grad_(not (frozen and backbone(name)))
    if frozen:
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and backbone(f"{name}.weight"):
                module.eval()


def plan(recipe: Recipe, epochs: int, seed: int, steps_per_epoch: int) -> dict[str, Any]:
    """What must be equal for one training to continue another: all but the epochs, where the schedule does not need them."""
    stretched = recipe.schedule != "constant" and recipe.horizon is None
    return {
        "recipe": recipe.digest,
        "seed": seed,
        "steps_per_epoch": steps_per_epoch,
        "epochs": epochs if stretched else None,
    }


@dataclass(eq=False)
class Progress:
    """Everything that a training needs in order to go on after `epoch`."""

    model: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    plan: dict[str, Any]
    metrics: Metrics = field(default_factory=dict)
    seconds: float = 0.0  # spent before the interruption

    def save(self, file: Path | None, epoch: int, metrics: Metrics) -> None:
        """Write the checkpoint, whole or not at all."""
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "plan": self.plan,
            "epoch": epoch,
            "metrics": metrics,
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "random": torch.random.get_rng_state(),
        }
        partial = file.with_name(file.name + ".partial")
        torch.save(content, partial)
        partial.replace(file)

    def load(self, file: Path | None, epochs: int) -> int:
        """Take over the checkpoint of an earlier part of this training; the epochs it had finished, 0 without one."""
        if file is None or not file.is_file():
            return 0
        content = torch.load(file, map_location="cpu", weights_only=True)
        if content["plan"] != self.plan or content["epoch"] > epochs:
            return 0
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.generator.set_state(content["generator"])
        torch.random.set_rng_state(content["random"])
        self.metrics, self.seconds = content["metrics"], content["metrics"]["seconds"]
        return int(content["epoch"])


def make_optimizer(model: nn.Module, recipe: Recipe, tuning: FineTuning | None = None) -> torch.optim.Optimizer:
    """One of timm's optimizers; matrices and kernels are decayed, everything of one dimension or none is not.

    A group of parameters per depth: timm's schedules multiply the rate of each group by its `lr_scale`.
    """
    from timm.optim import create_optimizer_v2, list_optimizers

    if recipe.optimizer not in list_optimizers():
        raise unknown("optimizer", recipe.optimizer, list_optimizers())
    depth = (tuning or FineTuning()).depth
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        groups.setdefault((depth(name), weight.ndim > 1), []).append(weight)
    settings: list[dict[str, Any]] = [
        {
            "params": weights,
            "weight_decay": recipe.weight_decay if decayed else 0.0,
            "lr_scale": recipe.layer_decay**level,
        }
        for (level, decayed), weights in sorted(groups.items(), key=lambda item: item[0])
    ]
    # torch's fused step does the work of a loop over parameters in one pass: 1.5 ms instead of 3.7 for a network of 60.
    options = {"fused": True} if recipe.optimizer in FUSED else {}
    return create_optimizer_v2(settings, opt=recipe.optimizer, lr=recipe.lr, momentum=recipe.momentum, **options)


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int, epochs: int) -> Any:
    """One of timm's schedules, stepped after every batch."""
    from timm.scheduler import create_scheduler_v2

    steps = steps_per_epoch * (recipe.horizon or epochs)
    warmup = round(recipe.warmup * steps_per_epoch)
    if recipe.schedule != "constant":
        warmup = min(warmup, steps // 2)
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
def validate(model: nn.Module, val: Batches, device: torch.device, amp: str) -> Metrics:
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
class TrainingEvaluator(OnData):
    """Trains every candidate from scratch with one recipe. fidelity: epochs.

    identity_init: attention starts as the identity. native: what becomes of a backbone's own SE (build_model).
    memory: bytes that a training may take; None: what is free when it starts. There a GPU has to hold one image only,
    since running out of its memory halves the micro-batch.
    """

    data: Data
    recipe: Recipe = field(default_factory=Recipe)
    identity_init: bool = True
    native: str = "keep"
    memory: int | None = None
    device: torch.device = field(default_factory=pick_device)

    @cached_property
    def identity(self) -> str:
        start = "identity" if self.identity_init else "fresh"
        return f"training {self.data.identity} {self.recipe.digest} {start} {self.native}"

    def at_home(self) -> Self:
        """The same on the device of this machine."""
        return replace(self, device=pick_device())

    def evaluate(
        self,
        arch: Architecture,
        *,
        fidelity: int,
        seed: int,
        report: Report | None = None,
        keep: Path | None = None,
        checkpoint: Path | None = None,
    ) -> Metrics:
        """Metrics of `arch` after `fidelity` epochs; `keep` is a .safetensors file for the trained weights."""
        trained = self.train(arch, fidelity=fidelity, seed=seed, report=report, checkpoint=checkpoint)
        if keep is not None:
            save_weights(trained.model.state_dict(), keep)
        return trained.metrics

    def train(
        self,
        arch: Architecture,
        *,
        fidelity: int,
        seed: int,
        report: Report | None = None,
        checkpoint: Path | None = None,
        start: Mapping[str, Tensor] | None = None,
    ) -> Trained:
        """The trained model itself, with its metrics.

        start: weights to begin with instead of `initial_weights`, by name; names it does not have stay random.
        Raises EvaluationError where the training fails, or cannot fit into memory.
        """
        self._check_memory(arch)
        given = self.initial_weights(arch, seed) if start is None else start

        def build() -> nn.Module:
            model = self.build(arch)
            model.load_state_dict(dict(given), strict=False)
            return model

        return train_model(
            build,
            self.data,
            self.recipe,
            epochs=fidelity,
            seed=seed,
            device=self.device,
            report=report,
            checkpoint=checkpoint,
            tuning=fine_tuning(arch.backbone),
        )

    def _check_memory(self, arch: Architecture) -> None:
        split = self.memory is None and self.device.type == "cuda"
        batch, recipe = min(self.recipe.batch_size, len(self.data.train)), self.recipe
        check_memory(
            arch,
            free_memory(self.device) if self.memory is None else self.memory,
            batch=1 if split else batch,
            image_size=self.image_size,
            num_classes=self.num_classes,
            in_chans=self.in_chans,
            native=self.native,
            identity_init=self.identity_init,
            optimizer_states=1 if recipe.optimizer == "sgd" else 2,
            average=recipe.ema is not None,
            validation_batch=1 if split else min(VALIDATION_BATCH, len(self.data.val)),
        )

    def initial_weights(self, arch: Architecture, seed: int) -> Mapping[str, Tensor]:
        """Weights to begin with, by name, besides the recipe's; none here."""
        return {}

    def build(self, arch: Architecture) -> nn.Module:
        """The model of `arch` for this data, with the recipe's starting weights."""
        from spaces.backbone import build_model

        model = build_model(
            arch,
            self.num_classes,
            self.in_chans,
            self.recipe.weights == "pretrained",
            image_size=self.image_size,
            identity_start=self.identity_init,
            native=self.native,
        )
        if self.recipe.weights not in (None, "pretrained"):
            load_backbone(model, Path(self.recipe.weights))
        return model


def is_attention(name: str) -> bool:
    """Whether a parameter belongs to inserted attention."""
    return ".attune." in name


@lru_cache
def fine_tuning(backbone_name: str) -> FineTuning:
    """Depths counted in the stages of a backbone: classifier, attention and what follows the last stage 0, the last stage 1,
    ... the stem most. Everything but attention and classifier belongs to the backbone.
    """
    from spaces.backbone import describe_backbone
    from spaces.backbones.zoo import create_plain

    stages = describe_backbone(backbone_name).stages
    stage_of = {path: index for index, stage in enumerate(stages) for path in stage.blocks}
    with torch.device("meta"):
        plain = create_plain(backbone_name, 10, 3)
    head = classifier_prefix(plain)

    def stage(name: str) -> int | None:
        parts = name.split(".")
        prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((stage_of[prefix] for prefix in prefixes if prefix in stage_of), None)

    names = [name for name, _ in plain.named_parameters()]
    first = next((index for index, name in enumerate(names) if stage(name) is not None), 0)
    stem = frozenset(names[:first])

    def depth(name: str) -> int:
        found = None if is_attention(name) else stage(name)
        if found is not None:
            return len(stages) - found
        return len(stages) + 1 if name in stem else 0

    return FineTuning(backbone=lambda name: not is_attention(name) and not name.startswith(head), depth=depth)


def classifier_prefix(model: nn.Module) -> str:
    """How the names of the classifier's parameters begin."""
    find = getattr(model, "get_classifier", None)
    classifier = find() if find else None
    names = [name for name, module in model.named_modules() if module is classifier]
    linear = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and not is_attention(name)
    ]
    return f"{(names or linear)[-1]}."


def load_backbone(model: nn.Module, file: Path) -> None:
    """Fill the plain backbone's weights from a .safetensors or torch checkpoint; attention keeps its start.

    A classifier of another shape is left out. Raises UsageError when the file misses anything else of the backbone.
    """
    from safetensors.torch import load_file

    if not file.is_file():
        raise UsageError(f"no such checkpoint: {file}")
    state = (
        load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    )
    own = model.state_dict()
    head = classifier_prefix(model)
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    missing = [name for name in own if name not in fitting and not is_attention(name) and not name.startswith(head)]
    if missing:
        raise UsageError(f"checkpoint {file} does not fit the backbone: {missing[0]} is missing or has another shape")
    if any(name.startswith(head) and name not in fitting for name in own):
        fitting = {name: value for name, value in fitting.items() if not name.startswith(head)}
    model.load_state_dict(fitting, strict=False)


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state_dict as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, partial)
    partial.replace(path)
