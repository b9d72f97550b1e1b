"""What was read of a data set, what was left out, what was assumed, and what to be careful with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

UNEVEN = 3.0  # the largest class has so many times the images of the smallest before it is said
SMALL = 100  # validation images, below which one of them is more than a point
DECIDING = 6  # images that all differ in one direction: less often than 5 % by chance (sign test, two-sided)
SHOWN = 5  # classes named in a sentence


@dataclass(frozen=True)
class Summary:
    """A data set in numbers.

    classes: training images by class, before validation is cut from them. size: (H, W), of clips (T, H, W). splits: images by
    split; test is missing where its number is not known before it is read. skipped: files by the reason why they were left
    out. label, image: the columns, or the keys of a file. assumed: what the data do not say themselves. warnings: what to be
    careful with.
    """

    name: str
    taken: str
    classes: Mapping[str, int]
    channels: int
    size: tuple[int, ...]
    splits: Mapping[str, int]
    skipped: Mapping[str, int] = field(default_factory=dict)
    label: str | None = None
    image: str | None = None
    assumed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        taken: str,
        class_names: Sequence[str],
        train_K: np.ndarray,
        val_K: np.ndarray,
        *,
        channels: int,
        size: tuple[int, ...],
        test_images: int | None = None,
        own_validation: bool = False,
        skipped: Mapping[str, int] | None = None,
        label: str | None = None,
        image: str | None = None,
        assumed: Sequence[str] = (),
    ) -> Summary:
        """The summary of a set with so many images of each class in train and validation, and the warnings they call for."""
        all_K = train_K if own_validation else train_K + val_K
        splits = {"train": int(train_K.sum()), "val": int(val_K.sum())}
        if test_images is not None:
            splits["test"] = test_images
        skipped = {reason: number for reason, number in (skipped or {}).items() if number}
        warnings = (*_uneven(class_names, all_K), *_validation(class_names, train_K, val_K), *_skipped(skipped))
        classes = _by_name(class_names, all_K)
        return cls(name, taken, classes, channels, size, splits, skipped, label, image, tuple(assumed), warnings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without the warnings."""
        return {
            "classes": dict(self.classes),
            "channels": self.channels,
            "size": list(self.size),
            "splits": dict(self.splits),
            "skipped": dict(self.skipped),
            "label": self.label,
            "image": self.image,
            "assumed": list(self.assumed),
        }

    def lines(self) -> list[str]:
        """For people: one fact a line."""
        kind, axes = ("images", "HxW") if len(self.size) == 2 else ("clips", "TxHxW")
        classes = ", ".join(f"{name} {images}" for name, images in list(self.classes.items())[:20])
        more = f" and {len(self.classes) - 20} more" if len(self.classes) > 20 else ""
        columns = [f"{what} {name!r}" for what, name in (("images", self.image), ("labels", self.label)) if name]
        facts = [
            f"data: {self.name} ({self.taken})",
            f"classes: {len(self.classes)} ({classes}{more})",
            f"{kind}: {'x'.join(map(str, self.size))} ({axes}), {self.channels} channel{'s' * (self.channels != 1)}",
            "splits: " + ", ".join(f"{split} {images}" for split, images in self.splits.items()),
        ]
        if columns:
            facts.append(f"columns: {', '.join(columns)}")
        if self.skipped:
            facts.append("skipped: " + ", ".join(f"{number} {reason}" for reason, number in self.skipped.items()))
        return [*facts, *(f"assumed: {text}" for text in self.assumed), *(f"warning: {text}" for text in self.warnings)]


def count(labels: Tensor | np.ndarray, classes: int) -> np.ndarray:
    """Images of each class, (K,)."""
    return np.bincount(labels.numpy() if isinstance(labels, torch.Tensor) else labels, minlength=classes)


def _by_name(names: Sequence[str], images_K: np.ndarray) -> dict[str, int]:
    """{class: images}. Two classes of one name stay two: the later ones get their number."""
    found: dict[str, int] = {}
    for index, (name, images) in enumerate(zip(names, images_K, strict=True)):
        found[name if name not in found else f"{name} ({index})"] = int(images)
    return found


def _uneven(names: Sequence[str], images_K: np.ndarray) -> list[str]:
    if images_K.max() < UNEVEN * max(1, images_K.min()):
        return []
    order = np.argsort(-images_K, kind="stable").tolist()
    shown: list[int] = [*order] if len(order) <= SHOWN else [*order[:2], *order[-3:]]
    counts = ", ".join(f"{names[index]} {images_K[index]}" for index in shown)
    share = 100 * images_K.max() / images_K.sum()
    return [
        f"classes are uneven ({counts}): who always says {names[order[0]]!r} has an accuracy of {share:.1f} %; "
        "balanced_accuracy counts every class alike"
    ]


def _validation(names: Sequence[str], train_K: np.ndarray, val_K: np.ndarray) -> list[str]:
    found = []
    for images_K, split in ((train_K, "train"), (val_K, "validation")):
        empty = [names[index] for index in np.flatnonzero(images_K == 0).tolist()]
        if empty:
            more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
            found.append(f"no {split} image of {', '.join(empty[:SHOWN])}{more}")
    total = int(val_K.sum())
    if total < SMALL:
        one = 100 / max(1, total)
        found.append(
            f"validation has {total} images: one of them is {one:.1f} points, and no smaller difference can show; "
            f"differences below {min(100.0, DECIDING * one):.1f} points may be chance"
        )
    return found


def _skipped(skipped: Mapping[str, int]) -> list[str]:
    number = skipped.get(CORRUPT, 0)
    return [f"{number} corrupt images were left out (data.skip_corrupt)"] if number else []


CORRUPT = "corrupt images"
