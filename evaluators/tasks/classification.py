"""Image classification: one label an image, cross-entropy, accuracy.

Legend: B batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from evaluators.data import Data, load_data
from evaluators.data import Split as Images
from evaluators.data.batches import Mixed, make_batches
from evaluators.data.splits import part
from evaluators.outcomes import EvaluationError, Metrics
from evaluators.recipe import Recipe
from evaluators.tasks.base import TASKS, Batches, Metric, Split, TaskConfig
from spaces.network import NetworkSpec


@dataclass(frozen=True, eq=False)
class Classification:
    """Image classification on a data set; the metric is the share of images whose class is right."""

    data: Data
    metric: ClassVar[Metric] = Metric("accuracy", "share", higher_is_better=True)
    validation_batch: ClassVar[int] = 512

    @cached_property
    def network(self) -> NetworkSpec:
        return NetworkSpec.classifier(self.data.size, self.data.num_classes, self.data.in_chans)

    @property
    def identity(self) -> str:
        return self.data.identity

    def count(self, split: Split) -> int:
        return len(self._images(split))

    def batches(
        self,
        split: Split,
        *,
        batch_size: int,
        device: torch.device,
        generator: torch.Generator | None = None,
        recipe: Recipe | None = None,
        workers: int = 2,
        limit: int | None = None,
    ) -> Batches:
        """Normalised images (B, C, H, W) and their labels (B,), or shares of classes (B, K) where the recipe mixes images."""
        images = part(self._images(split), limit)
        if recipe is None or generator is None:
            return make_batches(images, self.data, batch_size, device, generator=generator, workers=workers)
        augment = recipe.augment(self.data.flip)
        plain = make_batches(
            images, self.data, batch_size, device, augment=augment, generator=generator, workers=workers
        )
        return Mixed(plain, self.data.num_classes, augment, generator)

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of logits (B, K) with labels (B,) or shares (B, K)."""
        return cross_entropy(output.float(), target, label_smoothing=smoothing)

    def scorer(self) -> Accuracy:
        return Accuracy()

    def dummy_target(self, batch: int) -> Tensor:
        return torch.zeros(batch, dtype=torch.long)

    def describe(self) -> dict[str, Any]:
        """Classes, channels, size and normalisation."""
        size = self.data.size
        return {
            "num_classes": self.data.num_classes,
            "in_chans": self.data.in_chans,
            "image_size": size[0] if size[0] == size[1] else list(size),
            "mean": list(self.data.mean),
            "std": list(self.data.std),
            "class_names": list(self.data.class_names),
        }

    def _images(self, split: Split) -> Images:
        return {"train": lambda: self.data.train, "val": lambda: self.data.val, "test": lambda: self.data.test}[split]()


class Accuracy:
    """The share of images whose largest logit is that of their class, and the mean cross-entropy."""

    def __init__(self) -> None:
        self._hits: Tensor | float = 0.0  # on the device, so that nothing waits for it
        self._loss: Tensor | float = 0.0
        self._count = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        """(B, K), (B,)."""
        logits_BK = output.float()
        self._hits = self._hits + (logits_BK.argmax(1) == target).sum()
        self._loss = self._loss + cross_entropy(logits_BK, target, reduction="sum")
        self._count += len(target)

    def compute(self) -> Metrics:
        """``accuracy`` in [0, 1] and ``loss``."""
        loss = float(self._loss)
        if not abs(loss) < float("inf"):
            raise EvaluationError(f"the validation loss became {loss}")
        return {"accuracy": float(self._hits) / self._count, "loss": loss / self._count}


class ClassificationConfig(TaskConfig):
    """One label an image; judged by accuracy."""

    name: Literal["classification"] = "classification"

    def build(self, data: Any, *, seed: int) -> Classification:
        return Classification(load_data(data, seed=seed))


TASKS.register("classification", ClassificationConfig)
