"""What detectors are judged by: the mean average precision of their detections, and their loss.

Legend: B batch, M objects at most, N detections, A anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.data.boxes.objects import CROWD, Objects
from evaluators.detection.average_precision import Detections, average_precision
from evaluators.detection.postprocess import postprocess
from evaluators.outcomes import EvaluationError, Metrics


class BoxScorer:
    """Adds up detections, in pixels of the original pictures, and the loss."""

    def __init__(
        self,
        loss: Callable[[Mapping[str, Any], dict[str, Tensor]], Tensor],
        kind: str,
        class_names: Sequence[str],
        size: tuple[int, int],
    ) -> None:
        self.loss, self.kind, self.class_names, self.size = loss, kind, tuple(class_names), size
        self.found: list[Detections] = []
        self.truth: list[Objects] = []
        self._loss: Tensor | float = 0.0
        self._count = 0

    def update(self, output: Mapping[str, Any], target: dict[str, Tensor]) -> None:
        """The raw output of a batch, and its padded targets."""
        batch = len(target["labels"])
        self._loss = self._loss + self.loss(output, target) * batch
        self._count += batch
        tensors = {name: values for name, values in output.items() if isinstance(values, Tensor)}
        raw = {name: values.float().cpu().numpy() for name, values in tensors.items()}
        if not all(np.isfinite(values).all() for values in raw.values()):
            raise EvaluationError("the output of the network is not finite")
        found = postprocess(raw, raw["anchors"], output["levels"].tolist(), self.size, self.kind, _suppress)
        held = {name: values.cpu().numpy() for name, values in target.items()}
        for index, one in enumerate(found):
            scale_4 = np.tile(held["scales"][index], 2)
            self.found.append(Detections(one["boxes"] * scale_4, one["scores"], one["labels"]))
            there = held["labels"][index] >= 0
            self.truth.append(
                Objects(
                    held["boxes"][index][there] * scale_4,
                    held["labels"][index][there],
                    held["kinds"][index][there],
                    held["areas"][index][there],
                )
            )

    def compute(self) -> Metrics:
        """``mAP``, ``mAP50``, ``mAP75``, those of the sizes and ``AP CLASS`` of the classes that are there, and ``loss``."""
        loss = float(self._loss) / max(1, self._count)
        if not abs(loss) < float("inf"):
            raise EvaluationError(f"the validation loss became {loss}")
        names = self.class_names
        return {**average_precision(self.found, self.truth, len(names), names=names), "loss": loss}


def without_crowds(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Targets in which crowds are no objects."""
    return {**target, "labels": torch.where(target["kinds"] == CROWD, -1, target["labels"])}


def _suppress(boxes_N4: np.ndarray, scores_N: np.ndarray, overlap: float) -> np.ndarray:
    """What ``postprocess.suppress_overlaps`` does, by torchvision's compiled one."""
    from torchvision.ops import nms  # here because it takes seconds to import

    kept: np.ndarray = nms(torch.from_numpy(boxes_N4), torch.from_numpy(scores_N), overlap).numpy()
    return kept
