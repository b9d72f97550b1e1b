"""What was read of a set of pictures with boxes, beside what every summary says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluators.data.boxes.objects import ORDINARY, Objects
from evaluators.data.summary import SHOWN, Summary

FEW = 100  # objects of validation, below which one of them moves the mean average precision visibly


@dataclass(frozen=True)
class BoxSummary(Summary):
    """``classes``: objects of train by class, before validation is cut from them. ``objects``: marked ones by split.

    ``empty``: pictures without objects by split.
    """

    objects: Mapping[str, int] = field(default_factory=dict)
    empty: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without the warnings; ``objects`` and ``empty`` by split besides."""
        return {**super().to_dict(), "objects": dict(self.objects), "empty": dict(self.empty)}

    def lines(self) -> list[str]:
        """For people: one fact a line."""
        facts = super().lines()
        objects = ", ".join(f"{split} {number}" for split, number in self.objects.items())
        empty = ", ".join(f"{split} {number}" for split, number in self.empty.items() if number)
        place = next(index for index, line in enumerate(facts) if line.startswith("splits: ")) + 1
        told = f"objects: {objects}" + (f"; pictures without any, which are kept: {empty}" if empty else "")
        return [*facts[:place], told, *facts[place:]]


def summarise(
    name: str,
    taken: str,
    class_names: Sequence[str],
    train: Sequence[Objects],
    val: Sequence[Objects],
    *,
    channels: int,
    size: tuple[int, int],
    own_validation: bool,
    test_images: int | None = None,
    skipped: Mapping[str, int] | None = None,
    assumed: Sequence[str] = (),
) -> BoxSummary:
    """The summary of a set whose train and validation pictures have these objects, with the warnings that they call for."""
    train_K, val_K = objects_by_class(train, len(class_names)), objects_by_class(val, len(class_names))
    all_K = train_K if own_validation else train_K + val_K
    classes: dict[str, int] = {}
    for index, one in enumerate(class_names):
        classes[one if one not in classes else f"{one} ({index})"] = int(all_K[index])
    splits = {"train": len(train), "val": len(val)}
    if test_images is not None:
        splits["test"] = test_images
    warnings = []
    for numbers_K, split in ((train_K, "train"), (val_K, "validation")):
        lacking = [class_names[index] for index in np.flatnonzero(numbers_K == 0).tolist()]
        if lacking:
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            left = "; mAP is the mean over the classes that validation has" if split == "validation" else ""
            warnings.append(f"no {split} object of {', '.join(lacking[:SHOWN])}{more}{left}")
    if val_K.sum() < FEW:
        warnings.append(f"validation has {val_K.sum()} objects: small differences of mAP may be chance")
    return BoxSummary(
        name,
        taken,
        classes,
        channels,
        size,
        splits,
        {reason: number for reason, number in (skipped or {}).items() if number},
        assumed=tuple(assumed),
        warnings=tuple(warnings),
        objects={"train": int(train_K.sum()), "val": int(val_K.sum())},
        empty={"train": _empty(train), "val": _empty(val)},
    )


def objects_by_class(objects: Sequence[Objects], classes: int) -> np.ndarray:
    """Ordinary objects of each class, (K,)."""
    found_K = np.zeros(classes, dtype=np.int64)
    for one in objects:
        found_K += np.bincount(one.labels_M[one.kinds_M == ORDINARY], minlength=classes)
    return found_K


def _empty(objects: Sequence[Objects]) -> int:
    return sum(len(one) == 0 for one in objects)
