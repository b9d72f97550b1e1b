"""Splits of pictures with boxes, in memory or on disk, at the size that the network sees.

Legend: N pictures, C channels, H and W pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evaluators.data.boxes.objects import ORDINARY, Objects
from evaluators.data.boxes.source import BoxSource
from evaluators.data.boxes.summary import BoxSummary
from evaluators.data.pixels import shaped
from evaluators.data.splits import DataSet, Form


@dataclass(frozen=True, eq=False)
class BoxSplit:
    """A split: what is marked in each picture, in that picture's own pixels, and the pictures.

    sizes_N2: (H, W) of the pictures. images_NCHW: decoded and stretched to the network's size, uint8, or float16 in [0, 1];
    None where they stay on disk, and then ``source``, ``rows`` and ``form`` tell how they are read.
    """

    objects: tuple[Objects, ...]
    sizes_N2: np.ndarray
    images_NCHW: Tensor | None = None
    source: BoxSource | None = None
    rows: np.ndarray | None = None
    form: Form | None = None

    def __len__(self) -> int:
        return len(self.objects)

    def image(self, index: int) -> Tensor:
        """(C, H, W) of one picture as the network sees it, before it is normalised."""
        if self.images_NCHW is not None:
            return self.images_NCHW[index]
        source, rows, form = self.source, self.rows, self.form
        if source is None or rows is None or form is None or form.size is None:
            raise TypeError("a split has its pictures in memory, or tells where they are")
        image_HWC = stretched(source, int(rows[index]), form.channels, form.size, forced=form.forced)
        return torch.from_numpy(np.ascontiguousarray(form.scaled(image_HWC).transpose(2, 0, 1)))

    def part(self, limit: int | None) -> BoxSplit:
        """At most so many pictures, always the same ones, with one among them that has something to find."""
        if limit is None or limit >= len(self):
            return self
        drawn = np.random.default_rng(0).permutation(len(self))
        first = int(np.argmax([self.is_judged[index] for index in drawn]))
        drawn[[0, first]] = drawn[[first, 0]]
        kept = np.sort(drawn[:limit])
        return replace(
            self,
            objects=tuple(self.objects[index] for index in kept),
            sizes_N2=self.sizes_N2[kept],
            images_NCHW=self.images_NCHW[torch.from_numpy(kept)] if self.images_NCHW is not None else None,
            rows=self.rows[kept] if self.rows is not None else None,
        )

    @cached_property
    def is_judged(self) -> np.ndarray:
        """(N,) whether a picture has an object that a detector is judged by."""
        return np.array([bool((one.kinds_M == ORDINARY).any()) for one in self.objects])

    @cached_property
    def digest(self) -> str:
        """A hash of the content: equal splits have equal digests wherever they are stored."""
        content = hashlib.blake2b(digest_size=8)
        if self.images_NCHW is not None:
            content.update(repr(tuple(self.images_NCHW.shape)).encode())
            content.update(self.images_NCHW.contiguous().numpy().data)
        elif self.form is not None and self.rows is not None:
            content.update(f"{self.form.channels} {self.form.size} {self.form.span}".encode())
            content.update(np.ascontiguousarray(self.rows).data)
        content.update(np.ascontiguousarray(self.sizes_N2).data)
        for objects in self.objects:
            for values in (objects.boxes_M4, objects.labels_M, objects.kinds_M, objects.areas_M):
                content.update(repr(values.shape).encode())
                content.update(np.ascontiguousarray(values).data)
        return content.hexdigest()


class BoxData(DataSet[BoxSplit, BoxSummary]):
    """Pictures with boxes."""


def stretched(source: BoxSource, row: int, channels: int | None, size: tuple[int, int], *, forced: bool) -> np.ndarray:
    """(H, W, C) of a picture, each side brought to that of ``size``, as SSD does it; bilinear, over the area that shrinks."""
    image_HWC = shaped(source.image(row), channels, None, source.where(row), forced=forced)
    if image_HWC.shape[:2] == size:
        return image_HWC
    height, width = size
    if image_HWC.dtype == np.uint8 and image_HWC.shape[2] == 3:
        return np.asarray(Image.fromarray(image_HWC).resize((width, height), Image.Resampling.BILINEAR))
    bands = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(image_HWC[:, :, band])).resize(
                (width, height), Image.Resampling.BILINEAR
            )
        )
        for band in range(image_HWC.shape[2])
    ]
    return np.stack(bands, axis=2)
