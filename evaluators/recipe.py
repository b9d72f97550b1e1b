"""How a candidate is trained: the recipe, and the presets that give its defaults."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from evaluators.data.batches import Augment
from evaluators.sections import Section
from spaces.errors import UsageError, unknown

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
    # For the embedded scenes with boxes: SSD's loss falls fast with AdamW, and a few first gradients are far too long.
    "detection": {
        "epochs": 3,
        "batch_size": 16,
        "optimizer": "adamw",
        "lr": 0.01,
        "crop": 0,
        "warmup": 0.3,
        "label_smoothing": 0,
        "clip": 5.0,
    },
    # torchvision's reference training of ssdlite320_mobilenet_v3_large on COCO: eight devices of 24 images.
    "ssdlite320": {
        "epochs": 660,
        "batch_size": 192,
        "lr": 0.15,
        "momentum": 0.9,
        "weight_decay": 4e-5,
        "schedule": "cosine",
        "warmup": 1,
        "crop": 0,
        "label_smoothing": 0,
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


class Recipe(Section):
    """How a candidate is trained. `preset` (one of PRESETS) gives the values that are not set here."""

    preset: str = Field(default="short", description="gives the values of the keys that are not set here")
    epochs: int = Field(default=10, ge=1, le=10**6, description="the full fidelity")
    batch_size: int = Field(default=128, ge=1, le=10**6, description="images of a step")
    optimizer: str = Field(default="sgd", description="one of timm's; sgd has Nesterov momentum")
    lr: float = Field(default=0.1, gt=0, le=1000, description="the highest learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd and of those optimizers that have one")
    weight_decay: float = Field(
        default=5e-4, ge=0, le=1000, description="of matrices and kernels; norms, biases and gates have none"
    )
    schedule: Literal["cosine", "poly", "constant"] = Field(
        default="cosine", description="how the learning rate falls after the warm-up"
    )
    warmup: float = Field(default=1, ge=0, le=10**6, description="epochs")
    min_lr: float = Field(default=0, ge=0, description="the learning rate at the end")
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="share of a label that is spread over all classes"
    )
    flip: bool | None = Field(default=None, description="mirror half of the images; None: where the data allows it")
    crop: int = Field(default=4, ge=0, le=10**4, description="pixels of padding before a random crop of the old size")
    cutout: int = Field(default=0, ge=0, le=10**4, description="side in pixels of a square set to the mean colour")
    mixup: float = Field(default=0, ge=0, le=1000, description="alpha; 0: off")
    cutmix: float = Field(default=0, ge=0, le=1000, description="alpha; 0: off")
    clip: float | None = Field(default=None, gt=0, description="largest norm of the gradient")
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="decay of an average of the weights, which is then judged"
    )
    amp: Literal["auto", "off"] = Field(default="auto", description="auto: bf16 autocast where the device does it well")
    channels_last: bool = Field(default=True, description="the memory format that convolutions are fastest in")
    compile: bool = Field(default=False, description="torch.compile; pays for itself in long trainings only")
    workers: int = Field(default=2, ge=0, le=1000, description="processes that decode data too large for memory")
    horizon: int | None = Field(
        default=None,
        ge=1,
        le=10**6,
        description="epochs the schedule is laid out for; None: the epochs that are trained",
    )
    weights: str | None = Field(
        default=None, description="start from `pretrained` (timm's own) or a checkpoint file of the plain backbone"
    )
    freeze: int = Field(
        default=0, ge=0, le=10**6, description="first epochs in which only attention and classifier learn"
    )
    layer_decay: float = Field(
        default=1, gt=0, le=1, description="factor on the learning rate for each stage further from the classifier"
    )

    @field_validator("optimizer")
    @classmethod
    def _of_timm(cls, optimizer: str) -> str:
        from timm.optim import list_optimizers

        if optimizer not in list_optimizers():
            raise unknown("optimizer", optimizer, list_optimizers())
        return optimizer

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset", "short")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise unknown("preset", preset, PRESETS)
        return {**PRESETS[preset], **values}

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.min_lr > self.lr:
            raise UsageError(f"min_lr {self.min_lr} lies above lr {self.lr}")
        return self

    @property
    def digest(self) -> str:
        """Equal for recipes that train equally; the fidelity is not part of it."""
        content = self.model_dump_json(exclude={"preset", "epochs"})
        return hashlib.blake2b(content.encode(), digest_size=6).hexdigest()

    def augment(self, flip: bool) -> Augment:
        """The random changes of training images; ``flip``: whether the data allow mirroring, where the recipe does not say."""
        return Augment(
            flip=flip if self.flip is None else self.flip,
            crop=self.crop,
            cutout=self.cutout,
            mixup=self.mixup,
            cutmix=self.cutmix,
        )
