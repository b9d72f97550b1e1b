"""What was read of a data set with masks: classes with their shares of the pixels, splits, what was left out or assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluators.data.summary import CORRUPT, SHOWN, SMALL, Summary

RARE = 0.01  # of the labelled pixels: what is smaller hardly counts in pixel accuracy, but fully in the mean IoU


@dataclass(frozen=True)
class MaskSummary(Summary):
    """A data set with masks in numbers.

    classes: images of train and validation in which a class is there. shares: of the labelled pixels of train, by class.
    ignored: the share of all pixels of train that is not labelled. constant: the mean IoU on validation of who says the most
    frequent class of train everywhere.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    ignored: float = 0.0
    constant: float = 0.0

    @classmethod
    def of_pixels(
        cls,
        name: str,
        taken: str,
        class_names: Sequence[str],
        train_RL: np.ndarray,
        val_RL: np.ndarray,
        *,
        channels: int,
        size: tuple[int, int],
        test_images: int | None = None,
        skipped: Mapping[str, int] | None = None,
        label: str | None = None,
        image: str | None = None,
        assumed: Sequence[str] = (),
    ) -> MaskSummary:
        """The summary of splits whose images have so many pixels of each class and, last, without a label."""
        splits = {"train": len(train_RL), "val": len(val_RL)}
        if test_images is not None:
            splits["test"] = test_images
        skipped = {reason: number for reason, number in (skipped or {}).items() if number}
        there_K = (np.concatenate([train_RL, val_RL])[:, :-1] > 0).sum(0)
        train_L = train_RL.sum(0)
        share_K = train_L[:-1] / max(1, train_L[:-1].sum())
        return cls(
            name,
            taken,
            dict(zip(class_names, there_K.tolist(), strict=True)),
            channels,
            size,
            splits,
            skipped,
            label,
            image,
            tuple(assumed),
            (
                *_rare(class_names, share_K),
                *_empty(class_names, train_L, val_RL.sum(0)),
                *_few(len(val_RL)),
                *_left(skipped),
            ),
            dict(zip(class_names, share_K.tolist(), strict=True)),
            float(train_L[-1] / max(1, train_L.sum())),
            _constant(int(share_K.argmax()), val_RL.sum(0)[:-1]),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without the warnings."""
        return {**super().to_dict(), "pixels": dict(self.shares), "ignored": self.ignored}

    def lines(self) -> list[str]:
        """For people: one fact a line."""
        shown = [f"{name} {100 * share:.1f} %" for name, share in list(self.shares.items())[:20]]
        more = f" and {len(self.shares) - 20} more" if len(self.shares) > 20 else ""
        not_labelled = f"; {100 * self.ignored:.1f} % of all pixels are not labelled" if self.ignored else ""
        classes = f"classes: {len(self.shares)}, by pixels ({', '.join(shown)}{more}){not_labelled}"
        return [classes if line.startswith("classes: ") else line for line in super().lines()]


def _constant(most: int, val_K: np.ndarray) -> float:
    """The mean IoU of one class everywhere: over the classes of validation and that one."""
    there = int((val_K > 0).sum()) + int(val_K[most] == 0)
    return float(val_K[most] / max(1, val_K.sum()) / there)


def _rare(names: Sequence[str], share_K: np.ndarray) -> list[str]:
    order = np.argsort(share_K, kind="stable").tolist()
    rare = [names[index] for index in order if 0 < share_K[index] < RARE]
    if not rare or len(rare) == len(names):
        return []
    most = names[order[-1]]
    more = f" and {len(rare) - SHOWN} more" if len(rare) > SHOWN else ""
    return [
        f"{', '.join(rare[:SHOWN])}{more} have less than {100 * RARE:.0f} % of the pixels each, {most!r} has "
        f"{100 * share_K[order[-1]]:.1f} %: each of them counts as much in mIoU (task.class_weights weighs them in the loss)"
    ]


def _empty(names: Sequence[str], train_L: np.ndarray, val_L: np.ndarray) -> list[str]:
    found = []
    for pixels_L, split in ((train_L, "train"), (val_L, "validation")):
        empty = [names[index] for index in np.flatnonzero(pixels_L[:-1] == 0).tolist()]
        if empty:
            more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
            found.append(f"no {split} pixel of {', '.join(empty[:SHOWN])}{more}")
    return found


def _few(images: int) -> list[str]:
    if images >= SMALL:
        return []
    return [
        f"validation has {images} images: which ones they are decides over small differences of mIoU, and more seeds do not "
        "change that"
    ]


def _left(skipped: Mapping[str, int]) -> list[str]:
    number = skipped.get(CORRUPT, 0)
    return [f"{number} corrupt images or masks were left out (data.skip_corrupt)"] if number else []
