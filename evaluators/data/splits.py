"""Splits in memory or on disk, the cut of validation from train, and the checks that every data set passes.

Legend: N images, C channels, H and W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spaces.errors import UsageError

# Decoded splits up to this size are kept whole in memory and on the device; larger ones are streamed from disk.
RESIDENT_BYTES = 2 * 1024**3


class Source(Protocol):
    """Where the images of one split come from, before anything is decoded."""

    @property
    def class_names(self) -> tuple[str, ...] | None: ...

    @property
    def labels(self) -> np.ndarray: ...

    def image(self, index: int) -> Image.Image:
        """The decoded image; UsageError naming `where(index)` when it is corrupt."""
        ...

    def where(self, index: int) -> str:
        """The file, and the row in it, for error messages."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split decoded in memory: images_NCHW uint8, labels_N int64."""

    images_NCHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    @cached_property
    def digest(self) -> str:
        """A hash of the content: equal splits have equal digests wherever they are stored."""
        content = hashlib.blake2b(digest_size=8)
        content.update(repr(tuple(self.images_NCHW.shape)).encode())
        content.update(self.images_NCHW.contiguous().numpy().data)
        content.update(self.labels_N.numpy().data)
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class StreamSplit:
    """A split that stays on disk: the images `rows` of a source, decoded by loader workers when they are needed."""

    source: Source
    rows: np.ndarray
    in_chans: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels_N(self) -> Tensor:
        return torch.from_numpy(self.source.labels[self.rows].astype(np.int64))

    @cached_property
    def digest(self) -> str:
        content = hashlib.blake2b(digest_size=8)
        height, width = self.size
        pixels = height if height == width else f"{height}x{width}"
        content.update(f"{self.in_chans} {pixels} ".encode())
        content.update(np.ascontiguousarray(self.rows).data)
        content.update(np.ascontiguousarray(self.source.labels[self.rows]).data)
        return content.hexdigest()


Split = ArraySplit | StreamSplit


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: train and validation splits, and the test split for those who ask for it by name.

    size: (H, W) of every image. mean and std: per channel, of the training images in [0, 1]. flip: whether a mirrored image
    keeps its label.
    """

    name: str
    train: Split
    val: Split
    class_names: tuple[str, ...]
    in_chans: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    load_test: Callable[[], Split] = field(repr=False)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def identity(self) -> str:
        """A stable text: the name and a hash of the content of train and validation."""
        return f"{self.name}#{self.train.digest}{self.val.digest}"

    @cached_property
    def test(self) -> Split:
        """The test split, read only when somebody asks for it by this name."""
        return self.load_test()


def cut(labels: np.ndarray, val_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, validation rows): a stratified cut that depends on nothing but the labels, the size and the seed.

    Every class gives validation its proportional share (largest remainders first) and keeps at least one image for train;
    what a class of few images cannot give, the others do.
    """
    if not 0 < val_size < len(labels):
        raise UsageError(f"val_size {val_size} leaves no image for validation or train; valid: 1 to {len(labels) - 1}")
    classes, counts = np.unique(labels, return_counts=True)
    ideal = counts * val_size / len(labels)
    shares = np.minimum(ideal.astype(int), counts - 1)
    while shares.sum() < val_size and (can_give := shares < counts - 1).any():
        shares[np.argmax(np.where(can_give, ideal - shares, -np.inf))] += 1
    rng = np.random.default_rng(seed)
    val = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:share] for label, share in zip(classes, shares, strict=True)]
    )
    return np.setdiff1d(np.arange(len(labels)), val), np.sort(val)


def subset(labels: np.ndarray, rows: np.ndarray, size: int | None, seed: int) -> np.ndarray:
    """At most `size` of `rows`, stratified by label; all of them when size is None or larger."""
    if size is None or size >= len(rows):
        return rows
    if size < 1:
        raise UsageError(f"a subset of {size} images is empty; valid: 1 to {len(rows)}")
    return rows[cut(labels[rows], size, seed)[1]]


def part(split: Split, size: int | None) -> Split:
    """At most `size` images of a split, by class in proportion, always the same ones; all of them with None."""
    rows = subset(split.labels_N.numpy(), np.arange(len(split)), size, seed=0)
    if len(rows) == len(split):
        return split
    if isinstance(split, StreamSplit):
        return replace(split, rows=split.rows[rows])
    kept = torch.from_numpy(rows)
    return ArraySplit(split.images_NCHW[kept], split.labels_N[kept])


def check_labels(labels: np.ndarray, num_classes: int, where: Callable[[int], str]) -> None:
    """UsageError naming the file when a label is not one of 0 ... num_classes - 1."""
    if len(labels) == 0:
        return
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        raise UsageError(f"label {labels[bad[0]]} out of range in {where(int(bad[0]))}; valid: 0 to {num_classes - 1}")


def check_classes(labels: np.ndarray, class_names: Sequence[str], name: str) -> None:
    """UsageError naming the classes that have no training image."""
    counts = np.bincount(labels, minlength=len(class_names))
    empty = [class_names[int(index)] for index in np.flatnonzero(counts == 0)]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        raise UsageError(f"{name}: no training image for class {', '.join(empty[:5])}{more}")


def decode(source: Source, rows: np.ndarray, in_chans: int, size: tuple[int, int] | None) -> ArraySplit:
    """All images `rows` as uint8, resized to `size` (H, W); None: they must share one size already."""
    images: list[np.ndarray] = []
    for row in rows:
        pixels_HWC = to_pixels(source.image(int(row)), in_chans, size)
        if images and pixels_HWC.shape != images[0].shape:
            height, width = pixels_HWC.shape[:2]
            raise UsageError(f"images differ in size ({source.where(int(row))} is {width}x{height}); set image_size")
        images.append(pixels_HWC)
    images_NCHW = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return ArraySplit(images_NCHW, torch.from_numpy(source.labels[rows].astype(np.int64)))


def to_pixels(image: Image.Image, in_chans: int, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W, C) uint8; with a `size` (H, W) the image is resized until it covers it, and the centre is cropped out."""
    image = image.convert("L" if in_chans == 1 else "RGB")
    if size is not None and image.size != size[::-1]:
        height, width = size
        scale = max(width / image.width, height / image.height)
        covering = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
        image = image.resize(covering, Image.Resampling.BICUBIC)
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def moments(images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images scaled to [0, 1]; a constant channel gets 1."""
    flat_CM = images_NCHW.transpose(0, 1).flatten(1)
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel_M in flat_CM:
        share = torch.bincount(channel_M, minlength=256).double() / len(channel_M)
        mean = float(share @ levels)
        std = float(share @ (levels - mean) ** 2) ** 0.5
        means.append(round(mean, 6))
        stds.append(round(std, 6) or 1.0)
    return tuple(means), tuple(stds)
