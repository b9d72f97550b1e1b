"""Splits of pictures with masks, in memory or on disk.

Legend: N images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from evaluators.data.masks.codes import IGNORED, MaskCode
from evaluators.data.masks.source import MaskSource
from evaluators.data.masks.summary import MaskSummary
from evaluators.data.splits import DataSet, Form


@dataclass(frozen=True, eq=False)
class MaskSplit:
    """A split decoded in memory: images_NCHW uint8, or float16 in [0, 1] where 8 bits cannot hold them; masks_NHW uint8."""

    images_NCHW: Tensor
    masks_NHW: Tensor

    def __len__(self) -> int:
        return len(self.masks_NHW)

    @cached_property
    def digest(self) -> str:
        """A hash of the content: equal splits have equal digests wherever they are stored."""
        content = hashlib.blake2b(digest_size=8)
        content.update(repr((tuple(self.images_NCHW.shape), "masks")).encode())
        content.update(self.images_NCHW.contiguous().numpy().data)
        content.update(self.masks_NHW.contiguous().numpy().data)
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class StreamMasks:
    """A split that stays on disk: the pairs ``rows`` of a source, decoded by loader workers when they are needed.

    pixels_RL: pixels of every class and of what is not labelled, for each of the rows, before they are brought to size.
    """

    source: MaskSource
    rows: np.ndarray
    pixels_RL: np.ndarray
    form: Form
    size: tuple[int, int]
    code: MaskCode

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def digest(self) -> str:
        """A hash of how many pixels every class has in every mask, and of what the pictures are brought to."""
        content = hashlib.blake2b(digest_size=8)
        content.update(f"{self.form.channels} {self.size} {self.form.span} masks".encode())
        content.update(np.ascontiguousarray(self.rows).data)
        content.update(np.ascontiguousarray(self.pixels_RL).data)
        return content.hexdigest()


Masks = MaskSplit | StreamMasks


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskData(DataSet[Masks, MaskSummary]):
    """Pictures with masks. pixels: of each class in the training masks, the last number being what is not labelled."""

    pixels: tuple[int, ...]


def part(split: Masks, size: int | None) -> Masks:
    """At most ``size`` images of a split, always the same ones; all of them with None."""
    if size is None or size >= len(split):
        return split
    kept = np.sort(np.random.default_rng(0).permutation(len(split))[:size])
    if isinstance(split, StreamMasks):
        return replace(split, rows=split.rows[kept], pixels_RL=split.pixels_RL[kept])
    rows = torch.from_numpy(kept)
    return MaskSplit(split.images_NCHW[rows], split.masks_NHW[rows])


def pixels_of(mask_HW: np.ndarray, classes: int) -> np.ndarray:
    """(K + 1,): how many pixels each class has, and how many are not labelled."""
    counts = np.bincount(mask_HW.ravel(), minlength=IGNORED + 1)
    return np.append(counts[:classes], counts[IGNORED])
