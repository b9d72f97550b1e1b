"""What is marked in one picture, and what is repaired, left out or refused of it.

Legend: M objects. Boxes are (x1, y1, x2, y2) in pixels from the upper left corner of the picture, the edges of the box: a box
around the first pixel is (0, 0, 1, 1).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from spaces.errors import UsageError, shortened

# Difficult objects (VOC) are learned, but it is no mistake to miss or to find them, as in VOC's devkit. Crowds (COCO) are
# not learned either, and any number of boxes inside of them is no mistake, as in COCO's.
ORDINARY, DIFFICULT, CROWD = 0, 1, 2
KINDS = {DIFFICULT: "difficult objects (learned, not judged)", CROWD: "crowd regions (neither learned nor judged)"}
CLIPPED, OUTSIDE = "boxes that reach outside of their picture (clipped)", "boxes outside of their picture (left out)"
TURNED, FLAT = "boxes whose corners were in another order (put right)", "boxes without width or height (left out)"
SLACK = 1e-3  # of the picture: rounding of relative boxes, which is no mistake


@dataclass(frozen=True, eq=False)
class Marks:
    """What a file says of one picture, before it is compared with the picture.

    boxes_M4: float64 in pixels, or in shares of the picture where ``relative``. labels_M: classes 0 ... K-1. kinds_M: ORDINARY,
    DIFFICULT or CROWD. where: the file and the place in it. declared: the (H, W) that the file says the picture has.
    areas_M: of the objects in pixels, where the file has them (of masks, in COCO's own).
    """

    boxes_M4: np.ndarray
    labels_M: np.ndarray
    kinds_M: np.ndarray
    where: str
    declared: tuple[int, int] | None = None
    relative: bool = False
    areas_M: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one picture: boxes_M4 float32 in its pixels, labels_M int64, kinds_M uint8, areas_M float32 in pixels."""

    boxes_M4: np.ndarray
    labels_M: np.ndarray
    kinds_M: np.ndarray
    areas_M: np.ndarray

    def __len__(self) -> int:
        return len(self.labels_M)


def tidy(marks: Marks, size: tuple[int, int], counts: Counter[str]) -> Objects:
    """The objects of a picture of (H, W) = ``size``; what was repaired or left out is added to ``counts``.

    Boxes are clipped to the picture, corners in another order put right, boxes outside or without area left out.
    Raises UsageError naming the file for numbers that are none, and where the picture has another size than the file says.
    """
    height, width = size
    if marks.declared is not None and marks.declared != size:
        told = f"{marks.declared[1]}x{marks.declared[0]}"
        turned = " (turned by its EXIF orientation?)" if marks.declared == size[::-1] else ""
        raise UsageError(f"{marks.where} says that its picture is {told}, but it is {width}x{height}{turned}")
    boxes_M4 = marks.boxes_M4.reshape(-1, 4).astype(np.float64)
    if not np.isfinite(boxes_M4).all():
        raise UsageError(f"{marks.where}: a box with a coordinate that is no number: {boxes_M4.tolist()[:3]}")
    if marks.relative:
        beyond = boxes_M4[(boxes_M4 < -SLACK) | (boxes_M4 > 1 + SLACK)]
        if len(beyond) and np.abs(beyond).max() > 2:
            raise UsageError(f"{marks.where}: {beyond[0]:g} is no share of a picture; boxes in pixels?")
        boxes_M4 = boxes_M4 * (width, height, width, height)
    low_M2, high_M2 = np.minimum(boxes_M4[:, :2], boxes_M4[:, 2:]), np.maximum(boxes_M4[:, :2], boxes_M4[:, 2:])
    counts[TURNED] += int((boxes_M4[:, :2] > boxes_M4[:, 2:]).any(1).sum())
    flat_M = (high_M2 <= low_M2).any(1)
    outside_M = ~flat_M & ((high_M2 <= 0) | (low_M2 >= (width, height))).any(1)
    ordered_M4 = np.concatenate([low_M2, high_M2], axis=1)
    clipped_M4 = np.clip(ordered_M4, 0, (width, height, width, height))
    slack = SLACK * max(size)
    reaches_M = (np.abs(clipped_M4 - ordered_M4) > slack).any(1) & ~flat_M & ~outside_M
    counts[CLIPPED] += int(reaches_M.sum())
    counts[FLAT] += int(flat_M.sum())
    counts[OUTSIDE] += int(outside_M.sum())
    kept_M = ~flat_M & ~outside_M
    for kind, what in KINDS.items():
        counts[what] += int((marks.kinds_M[kept_M] == kind).sum())
    kept_M4 = clipped_M4[kept_M]
    areas_M = (kept_M4[:, 2] - kept_M4[:, 0]) * (kept_M4[:, 3] - kept_M4[:, 1])
    if marks.areas_M is not None:
        areas_M = np.where(marks.areas_M[kept_M] > 0, marks.areas_M[kept_M], areas_M)
    return Objects(
        kept_M4.astype(np.float32),
        marks.labels_M[kept_M].astype(np.int64),
        marks.kinds_M[kept_M].astype(np.uint8),
        areas_M.astype(np.float32),
    )


def no_marks(where: str, declared: tuple[int, int] | None = None) -> Marks:
    """A picture without objects."""
    return Marks(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.uint8), where, declared)


def number(text: object, what: str, where: str) -> float:
    """A coordinate from a file; raises UsageError that names it."""
    try:
        return float(text)  # type: ignore[arg-type]  # that is what is tried
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{where}: {what} = {shortened(text)} is no number") from None
