"""Image classification: one label an image, cross-entropy (or a loss of fine-grained recognition beside it), accuracy.

Balanced accuracy is the mean recall over the classes that are present (Brodersen et al., The balanced accuracy and its
posterior distribution, 2010). Legend: B batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from evaluators.data import Data, Summary, list_datasets, load_data
from evaluators.data import Split as Images
from evaluators.data.batches import Mixed, make_batches
from evaluators.data.splits import part
from evaluators.fine_grained import channel_correlation, mutual_channel, watch
from evaluators.outcomes import EvaluationError, Metrics
from evaluators.recipe import Recipe
from evaluators.tasks.base import TASKS, Batches, Explained, Metric, Split, TaskConfig
from evaluators.tasks.shared import OnData
from spaces.errors import UsageError
from spaces.network import NetworkSpec
from spaces.placement import Architecture

TOLD = 100  # classes whose own accuracy is told: of more, nobody reads a list
Loss = Literal["cross_entropy", "mutual_channel", "channel_correlation"]


@dataclass(frozen=True)
class Beside:
    """What is added to the cross-entropy: ``weight`` times it, and of the mutual-channel loss L_dis - ``diversity`` L_div."""

    loss: Loss = "cross_entropy"
    weight: float = 1.0
    diversity: float = 10.0

    @property
    def words(self) -> str:
        """As a part of an identity."""
        if self.loss == "cross_entropy":
            return ""
        return f" {self.loss} {self.weight:g}" + (f" {self.diversity:g}" if self.loss == "mutual_channel" else "")


@dataclass(frozen=True, eq=False)
class Classification(OnData[Images, Summary]):
    """Image classification on a data set; the metric is the share of images whose class is right."""

    data: Data
    beside: Beside = Beside()
    metric: ClassVar[Metric] = Metric("accuracy", "share", higher_is_better=True, by_class="accuracy")
    cam: ClassVar[Literal["Grad-CAM"]] = "Grad-CAM"
    validation_batch: ClassVar[int] = 512

    @cached_property
    def network(self) -> NetworkSpec:
        return NetworkSpec.classifier(self.data.size, self.data.num_classes, self.data.in_chans)

    @property
    def identity(self) -> str:
        return self.data.identity + self.beside.words

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
        images = part(self.data.split(split), limit)
        if recipe is None or generator is None:
            return make_batches(images, self.data, batch_size, device, generator=generator, workers=workers)
        augment = recipe.augment(self.data.flip)
        plain = make_batches(
            images, self.data, batch_size, device, augment=augment, generator=generator, workers=workers
        )
        return Mixed(plain, self.data.num_classes, augment, generator)

    def watch(self, model: nn.Module, arch: Architecture) -> None:
        """Let a network in training mode put out what the loss takes: with one beside the cross-entropy, a map too."""
        if self.beside.loss != "cross_entropy":
            watch(model, self.network.stages(arch.backbone)[-1].blocks[-1])

    def loss(self, output: Any, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of logits (B, K) with labels (B,) or shares (B, K), and what is beside it.

        Raises UsageError where that needs the map of a network which was not made to put it out, or labels, not shares.
        """
        if self.beside.loss == "cross_entropy":
            return cross_entropy(output.float(), target, label_smoothing=smoothing)
        if not isinstance(output, dict):
            raise UsageError(
                f"task.loss {self.beside.loss!r} needs the map before the classifier, which the evaluator does not keep; valid "
                "there: cross_entropy"
            )
        logits_BK, features_BCHW = output["logits"], output["features"]
        plain = cross_entropy(logits_BK.float(), target, label_smoothing=smoothing)
        if self.beside.loss == "mutual_channel":
            alike, apart = mutual_channel(features_BCHW, target, self.data.num_classes)
            return plain + self.beside.weight * (alike - self.beside.diversity * apart)
        if target.dim() > 1:
            raise UsageError(
                "task.loss 'channel_correlation' compares images of one class; valid with mixup 0 and cutmix 0"
            )
        return plain + self.beside.weight * channel_correlation(features_BCHW, target)

    def scorer(self) -> Accuracy:
        return Accuracy(self.data.class_names)

    def explain(self, output: Tensor, target: Tensor) -> Explained:
        """The logit of each picture's own class, so that the maps of several networks can be compared."""
        names = self.data.class_names
        found = zip(target.tolist(), output.argmax(1).tolist(), strict=True)
        words = tuple(f"class {names[own]}, predicted as {names[most]}" for own, most in found)
        return Explained(output.gather(1, target[:, None])[:, 0], words)

    def dummy_target(self, batch: int) -> Tensor:
        return torch.zeros(batch, dtype=torch.long)


class Accuracy:
    """The share of images whose largest logit is that of their class, the mean of that over classes, and the cross-entropy.

    ``class_names``: the classes whose own share is told; of more than ``TOLD`` of them it is not.
    """

    def __init__(self, class_names: Sequence[str] = ()) -> None:
        self.class_names = tuple(class_names) if len(class_names) <= TOLD else ()
        self._hits: Tensor | float = 0.0  # on the device, so that nothing waits for it
        self._hits_K: Tensor | float = 0.0
        self._images_K: Tensor | float = 0.0
        self._loss: Tensor | float = 0.0
        self._count = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        """(B, K), (B,)."""
        logits_BK = output.float()
        right_B = logits_BK.argmax(1) == target
        self._hits = self._hits + right_B.sum()
        target_BK = one_hot(target, logits_BK.shape[1])
        self._images_K = self._images_K + target_BK.sum(0)
        self._hits_K = self._hits_K + target_BK[right_B].sum(0)
        self._loss = self._loss + cross_entropy(logits_BK, target, reduction="sum")
        self._count += len(target)

    def compute(self) -> Metrics:
        """``accuracy`` and ``balanced_accuracy`` in [0, 1], ``loss``, and ``accuracy CLASS`` of every class that there is."""
        loss = float(self._loss)
        if not abs(loss) < float("inf"):
            raise EvaluationError(f"the validation loss became {loss}")
        hits_K, images_K = torch.as_tensor(self._hits_K).cpu(), torch.as_tensor(self._images_K).cpu()
        present_K = images_K > 0
        share_K = hits_K.double() / images_K  # NaN of a class without images
        named = zip(self.class_names, share_K.tolist(), strict=True) if self.class_names else ()
        return {
            "accuracy": float(self._hits) / self._count,
            "balanced_accuracy": float(share_K[present_K].mean()),
            "loss": loss / self._count,
            **{f"accuracy {name}": value for name, value in named if value == value},
        }


class ClassificationConfig(TaskConfig):
    """One label an image; judged by accuracy."""

    name: Literal["classification"] = "classification"
    loss: Loss = Field(default="cross_entropy", description="the others are added to it, in trainings of candidates")
    weight: float = Field(default=1.0, ge=0, le=10**6, description="of the loss that is added (mu of mutual_channel)")
    diversity: float = Field(default=10.0, ge=0, le=10**6, description="of L_div in mutual_channel (lambda)")

    @classmethod
    def listed(cls) -> dict[str, Any]:
        return {"metric": Classification.metric.name, "heads": [], "data": list_datasets()}

    def build(self, data: Any, *, seed: int) -> Classification:
        return Classification(load_data(data, seed=seed), Beside(self.loss, self.weight, self.diversity))


TASKS.register("classification", ClassificationConfig)
