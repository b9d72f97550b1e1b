"""Video classification: one label a video, cross-entropy on one clip of it, accuracy.

In the test several clips of each video are judged, and the logits of a video are the mean of those of its clips (as of Tran et
al. 2018, and of the A2-Nets). Legend: B clips, C channels, T frames, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from evaluators.data.clips.batches import ClipBatches
from evaluators.data.clips.load import list_clip_datasets, load_clips
from evaluators.data.clips.splits import ClipData, ClipSplit
from evaluators.data.splits import subset
from evaluators.data.summary import Summary
from evaluators.outcomes import EvaluationError, Metrics
from evaluators.recipe import Recipe
from evaluators.tasks.base import TASKS, Batches, Metric, Split, TaskConfig
from evaluators.tasks.classification import Accuracy
from evaluators.tasks.shared import OnData
from spaces.network import ClassifierHead, NetworkSpec


@dataclass(frozen=True, eq=False)
class VideoClassification(OnData[ClipSplit, Summary]):
    """Classification of videos by clips of them; the metric is the share of videos whose class is right."""

    data: ClipData
    metric: ClassVar[Metric] = Metric("accuracy", "share", higher_is_better=True, by_class="accuracy")
    validation_batch: ClassVar[int] = 64

    @cached_property
    def network(self) -> NetworkSpec:
        size = (self.data.clip.frames, *self.data.size)
        return NetworkSpec(self.data.in_chans, size, ClassifierHead(self.data.num_classes))

    @property
    def identity(self) -> str:
        return self.data.identity

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
        """Normalised clips (B, C, T, H, W) and, while training, labels (B,) or shares of classes (B, K).

        Without a generator the target is ``{"labels": (B,), "videos": (B,)}``: which video of the split a clip is of.
        """
        videos = self.data.split(split)
        rows = subset(videos.labels_N.numpy(), np.arange(len(videos)), limit, seed=0)
        videos = videos if len(rows) == len(videos) else videos.take(rows)
        return ClipBatches(
            videos,
            self.data,
            batch_size,
            device,
            clips=self.data.clips if split == "test" else 1,
            augment=recipe.augment(self.data.flip) if recipe is not None and generator is not None else None,
            generator=generator,
            workers=workers,
        )

    def loss(self, output: Tensor, target: Any, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of the logits (B, K) of clips with labels (B,) or shares (B, K)."""
        labels = target["labels"] if isinstance(target, Mapping) else target
        return cross_entropy(output.float(), labels, label_smoothing=smoothing)

    def scorer(self) -> VideoAccuracy:
        return VideoAccuracy(self.data.class_names)

    def dummy_target(self, batch: int) -> Tensor:
        return torch.zeros(batch, dtype=torch.long)

    def describe(self) -> dict[str, Any]:
        """What there is to know of the data; the size is (T, H, W), and ``frame_stride`` tells which frames are a clip."""
        clip = self.data.clip
        return {**super().describe(), "image_size": [clip.frames, *self.data.size], "frame_stride": clip.stride}


class VideoAccuracy:
    """``Accuracy`` of the mean logits of each video; the clips of one may come in several batches."""

    def __init__(self, class_names: Sequence[str] = ()) -> None:
        self.class_names = tuple(class_names)
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._videos: list[Tensor] = []

    def update(self, output: Tensor, target: Mapping[str, Tensor]) -> None:
        """(B, K), and the labels (B,) and videos (B,) of the clips."""
        self._logits.append(output.float())
        self._labels.append(target["labels"])
        self._videos.append(target["videos"])

    def compute(self) -> Metrics:
        """What ``Accuracy`` tells, of videos."""
        if not self._logits:
            raise EvaluationError("there was no video to judge")
        logits_BK, labels_B = torch.cat(self._logits), torch.cat(self._labels)
        _, video_B = torch.cat(self._videos).unique(return_inverse=True)
        videos = int(video_B.max()) + 1
        clips_V = torch.zeros(videos, device=logits_BK.device).index_add_(
            0, video_B, torch.ones_like(video_B, dtype=torch.float32)
        )
        summed_VK = torch.zeros(videos, logits_BK.shape[1], device=logits_BK.device).index_add_(0, video_B, logits_BK)
        labels_V = torch.zeros(videos, dtype=labels_B.dtype, device=labels_B.device).scatter_(0, video_B, labels_B)
        judged = Accuracy(self.class_names)
        judged.update(summed_VK / clips_V[:, None], labels_V)
        return judged.compute()


class VideoConfig(TaskConfig):
    """One label a video, by clips of it; judged by accuracy."""

    name: Literal["video"] = "video"

    @classmethod
    def listed(cls) -> dict[str, Any]:
        return {"metric": VideoClassification.metric.name, "heads": [], "data": list_clip_datasets()}

    def build(self, data: Any, *, seed: int) -> VideoClassification:
        return VideoClassification(load_clips(data, seed=seed))


TASKS.register("video", VideoConfig)
