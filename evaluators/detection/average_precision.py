"""COCO's mean average precision by COCO's own program: pycocotools, or faster-coco-eval where that is installed.

Lin et al., Microsoft COCO, 2014. mAP is the mean over classes and over overlaps from .5 to .95; mAP50 and mAP75 are at one
overlap; small, medium and large are objects below 32^2, below 96^2 and above, in pixels of the original picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from evaluators.data.boxes.objects import CROWD, DIFFICULT, Objects
from evaluators.outcomes import EvaluationError
from spaces.extras import need

NAMES = ("mAP", "mAP50", "mAP75", "mAP_small", "mAP_medium", "mAP_large")
BEYOND = 2e10  # square pixels, more than the largest of COCO's ranges: an object of this area is passed over
Backend = Literal["auto", "pycocotools", "faster"]


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one picture: boxes_N4 in pixels of the original picture, scores_N, labels_N from 0."""

    boxes_N4: np.ndarray
    scores_N: np.ndarray
    labels_N: np.ndarray


def average_precision(
    found: Sequence[Detections],
    truth: Sequence[Objects],
    classes: int,
    backend: Backend = "auto",
    *,
    names: Sequence[str] = (),
) -> dict[str, float]:
    """NAMES, each in [0, 1]; sizes of which there is no object are left out. Raises EvaluationError without any object.

    Crowds are COCO's; difficult objects are passed over, found or not. ``names`` of the classes: ``AP NAME`` too, of those
    that there are, whose mean is the mAP.
    """
    if not any((objects.kinds_M == 0).any() for objects in truth):
        raise EvaluationError("there is no object to find, so there is no mean average precision")
    made, evaluate = _program(backend)
    images = [{"id": index + 1} for index in range(len(truth))]
    categories = [{"id": index + 1, "name": str(index)} for index in range(classes)]
    with redirect_stdout(io.StringIO()):  # both print what they do
        right, guess = made(), made()
        right.dataset = {"info": {}, "images": images, "categories": categories, "annotations": _annotations(truth)}
        right.createIndex()
        guess.dataset = {"info": {}, "images": images, "categories": categories, "annotations": _guesses(found)}
        guess.createIndex()
        judge = evaluate(right, guess, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    values = [float(value) for value in judge.stats[: len(NAMES)]]
    told = dict(zip(NAMES, values, strict=True))
    if names:
        precision_TRK = judge.eval["precision"][
            :, :, :, 0, -1
        ]  # over all sizes, with most detections; -1 without objects
        told |= {f"AP {name}": float(precision_TRK[:, :, k].mean()) for k, name in enumerate(names)}
    return {name: value for name, value in told.items() if value >= 0}


def check_installed() -> None:
    """Raise MissingExtra where neither COCO's own program nor the faster one is installed."""
    if not find_spec("faster_coco_eval"):
        need("detection", "COCO's mAP")


def _program(backend: Backend) -> tuple[Any, Any]:
    """(its set of annotations, its evaluation)."""
    if backend == "faster" or (backend == "auto" and find_spec("faster_coco_eval")):
        from faster_coco_eval import COCO as FastSet
        from faster_coco_eval import COCOeval_faster

        return FastSet, COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def _annotations(truth: Sequence[Objects]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index, objects in enumerate(truth):
        for box_4, label, kind, area in zip(
            objects.boxes_M4.tolist(), objects.labels_M, objects.kinds_M, objects.areas_M, strict=True
        ):
            left, top, right, bottom = box_4
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": index + 1,
                    "category_id": int(label) + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": BEYOND if kind == DIFFICULT else float(area),
                    "iscrowd": int(kind == CROWD),
                }
            )
    return rows


def _guesses(found: Sequence[Detections]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index, one in enumerate(found):
        for box_4, label, score in zip(one.boxes_N4.tolist(), one.labels_N, one.scores_N, strict=True):
            left, top, right, bottom = box_4
            width, height = right - left, bottom - top
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": index + 1,
                    "category_id": int(label) + 1,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "score": float(score),
                    "iscrowd": 0,
                }
            )
    return rows
