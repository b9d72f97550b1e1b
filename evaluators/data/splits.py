"""Splits in memory or on disk, and the cut of validation from train.

Legend: N images, C channels, H and W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from evaluators.data.source import Counted, Source
from evaluators.data.summary import Summary
from spaces.errors import UsageError

# Decoded splits up to this size are kept whole in memory and on the device; larger ones are streamed from disk.
RESIDENT_BYTES = 2 * 1024**3
FAR = 60_000  # what 16 bits of a float still hold, in units of full brightness


@dataclass(frozen=True)
class Form:
    """What every picture of a data set is brought to before a network sees it.

    size: (H, W); None keeps that of the pictures, which is the same for all. span: the pixel values that become 0 and 1, None
    for 8 bits (0 and 255). forced: the user chose the channels, so colour may become grey. own: a picture of 8 bits among
    deeper ones has a span of its own, 0 to 255 (not where the user chose the span).
    """

    channels: int
    size: tuple[int, int] | None
    span: tuple[float, float] | None = None
    forced: bool = False
    own: bool = True

    def scaled(self, image_HWC: np.ndarray) -> np.ndarray:
        """(H, W, C) as it is stored: uint8 for 8 bits, else float16 with `span` at 0 and 1."""
        if self.span is None:
            return image_HWC
        low, high = (0.0, 255.0) if self.own and image_HWC.dtype == np.uint8 else self.span
        scaled_HWC = (image_HWC.astype(np.float32) - low) / (high - low)
        if np.abs(scaled_HWC).max() > FAR:
            raise UsageError(
                f"pixel values of {image_HWC.min():g} to {image_HWC.max():g} are far beyond the {low:g} to {high:g} of data.max"
            )
        return scaled_HWC.astype(np.float16)


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split decoded in memory: images_NCHW uint8, or float16 in [0, 1] where 8 bits cannot hold them; labels_N int64."""

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
    """A split that stays on disk: the images `rows` of a source, decoded by loader workers when they are needed.

    classes: of every image of the source. turned: whether EXIF turns images of the set.
    """

    source: Source
    rows: np.ndarray
    classes: np.ndarray
    form: Form
    size: tuple[int, int]
    turned: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def in_chans(self) -> int:
        return self.form.channels

    @property
    def labels_N(self) -> Tensor:
        return torch.from_numpy(self.classes[self.rows].astype(np.int64))

    @cached_property
    def digest(self) -> str:
        content = hashlib.blake2b(digest_size=8)
        height, width = self.size
        pixels = height if height == width else f"{height}x{width}"
        content.update(f"{self.in_chans} {pixels} ".encode())
        content.update(np.ascontiguousarray(self.rows).data)
        content.update(np.ascontiguousarray(self.classes[self.rows]).data)
        content.update(f"{self.form.span} {self.turned} whole images".encode())
        return content.hexdigest()


Split = ArraySplit | StreamSplit


class Held(Protocol):
    """A split of any kind."""

    def __len__(self) -> int: ...

    @property
    def digest(self) -> str:
        """A hash of the content: equal splits have equal digests wherever they are stored."""
        ...


AnySplit = TypeVar("AnySplit", bound=Held)
AnySummary = TypeVar("AnySummary")


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSet(Generic[AnySplit, AnySummary]):
    """A data set: train and validation splits, and the test split for those who ask for it by name.

    size: (H, W) of every picture. mean and std: per channel, of the training pictures in [0, 1], or as they were ``chosen``.
    flip: whether a mirrored picture keeps its meaning. span: the pixel values of the files that [0, 1] stands for; None: 0 to
    255. summary: what was read.
    """

    name: str
    train: AnySplit
    val: AnySplit
    class_names: tuple[str, ...]
    in_chans: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    load_test: Callable[[], AnySplit] = field(repr=False)
    summary: AnySummary
    span: tuple[float, float] | None = None
    chosen: bool = False

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def identity(self) -> str:
        """A stable text: the name and a hash of the content of train and validation."""
        chosen = f" mean {self.mean} std {self.std}" if self.chosen else ""
        return f"{self.name}#{self.train.digest}{self.val.digest}{chosen}"

    @cached_property
    def test(self) -> AnySplit:
        """The test split, read only when somebody asks for it by this name."""
        return self.load_test()

    def split(self, name: Literal["train", "val", "test"]) -> AnySplit:
        """One of the three; raises MissingSplit where the data have no test split."""
        if name == "test":
            return self.test
        return self.train if name == "train" else self.val


class Data(DataSet[Split, Summary]):
    """Images with a label each."""


def cut(labels: np.ndarray, val_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, validation rows): a stratified cut that depends on nothing but the labels, the size and the seed.

    Every class gives validation its proportional share (largest remainders first) and keeps at least one image for train;
    what a class of few images cannot give, the others do. A class of two images or more gives at least one, where val_size
    has room for one of each.
    """
    if not 0 < val_size < len(labels):
        raise UsageError(f"val_size {val_size} leaves no image for validation or train; valid: 1 to {len(labels) - 1}")
    return _drawn(labels, val_size, seed, keep=1)


def cut_unlabelled(
    spec: str,
    train: Counted,
    val: Counted | None,
    *,
    train_size: int | float | None,
    val_size: int | float | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, validation rows) of pictures without one label each; validation is cut from train where there is no ``val``.

    The sizes are numbers of images or shares of them. Raises UsageError where a split has none, or both have the same picture.
    """
    rows = np.random.default_rng(seed).permutation(len(train))
    if val is None:
        wanted = number(val_size, len(rows))
        size = max(1, len(rows) // 10) if wanted is None else wanted
        if not 0 < size < len(rows):
            raise UsageError(
                f"{spec}: val_size {size} leaves no image for validation or train; valid: 1 to {len(rows) - 1}"
            )
        val_rows, train_rows = rows[:size], rows[size:]
    else:
        _refuse_shared(spec, train, val)
        val_rows = _first(np.random.default_rng(seed).permutation(len(val)), val_size, "val_size")
        train_rows = rows
        if len(val_rows) == 0:
            raise UsageError(f"{spec} has an empty validation split")
    return np.sort(_first(train_rows, train_size, "train_size")), np.sort(val_rows)


def _first(rows: np.ndarray, size: int | float | None, what: str) -> np.ndarray:
    """The first ``size`` of some rows in random order."""
    wanted = number(size, len(rows))
    if wanted is not None and wanted < 1:
        raise UsageError(f"{what} {wanted} leaves no image; valid: 1 to {len(rows)}")
    return rows[:wanted]


def _refuse_shared(spec: str, train: Counted, val: Counted) -> None:
    """UsageError where pictures of validation are learned too: their score would say nothing of others."""
    shared = {train.where(row) for row in range(len(train))} & {val.where(row) for row in range(len(val))}
    if shared:
        raise UsageError(
            f"{spec}: {len(shared)} of {len(val)} validation pictures are training pictures too, first {min(shared)}; where a "
            "set has none of its own for validation, leave val out, and some are cut from train"
        )


def _drawn(labels: np.ndarray, size: int, seed: int, *, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """(the rest, `size` rows by class in proportion); `keep`: images that a class without a share leaves to the rest."""
    classes, counts = np.unique(labels, return_counts=True)
    ideal = counts * size / len(labels)
    shares = np.minimum(ideal.astype(int), counts - 1)
    while shares.sum() < size and (can_give := shares < counts - 1).any():
        shares[np.argmax(np.where(can_give, ideal - shares, -np.inf))] += 1
    for rare in np.flatnonzero((shares == 0) & (counts > keep)):
        if shares.sum() >= size:
            if shares.max() < 2:
                break
            shares[np.argmax(np.where(shares > 1, shares - ideal, -np.inf))] -= 1
        shares[rare] += 1
    while shares.sum() < size and (can_give := shares < counts - keep).any():
        shares[np.argmax(np.where(can_give, ideal - shares, -np.inf))] += 1
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:share] for label, share in zip(classes, shares, strict=True)]
    )
    return np.setdiff1d(np.arange(len(labels)), drawn), np.sort(drawn)


def subset(labels: np.ndarray, rows: np.ndarray, size: int | None, seed: int, what: str = "size") -> np.ndarray:
    """At most `size` of `rows`, stratified by label; all of them when size is None or larger. what: names `size` in errors."""
    if size is None or size >= len(rows):
        return rows
    if size < 1:
        raise UsageError(f"{what} {size} leaves no image; valid: 1 to {len(rows)}")
    return rows[_drawn(labels[rows], size, seed, keep=0)[1]]


def number(size: int | float | None, of: int) -> int | None:
    """A number of images from a number or a share; at least one."""
    return size if size is None or isinstance(size, int) else max(1, round(size * of))


def part(split: Split, size: int | None) -> Split:
    """At most `size` images of a split, by class in proportion, always the same ones; all of them with None."""
    rows = subset(split.labels_N.numpy(), np.arange(len(split)), size, seed=0)
    if len(rows) == len(split):
        return split
    if isinstance(split, StreamSplit):
        return replace(split, rows=split.rows[rows])
    kept = torch.from_numpy(rows)
    return ArraySplit(split.images_NCHW[kept], split.labels_N[kept])


def moments(images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of images scaled to [0, 1]; a constant channel gets 1.

    UsageError where every channel is constant: there is nothing to learn from.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images_NCHW.shape[1]):
        channel_M = images_NCHW[:, channel].flatten()
        if images_NCHW.dtype == torch.uint8:
            share = torch.bincount(channel_M, minlength=256).double() / len(channel_M)
            mean = float(share @ levels)
            std = float(share @ (levels - mean) ** 2) ** 0.5
        else:
            mean, std = float(channel_M.double().mean()), float(channel_M.double().std(correction=0))
        means.append(round(mean, 6))
        stds.append(round(std, 6))
    if not any(stds):
        raise UsageError(
            f"all training images are one even {'grey' if len(stds) == 1 else 'colour'} "
            f"({', '.join(f'{mean:g}' for mean in means)} of 1); see data.max for what full brightness is"
        )
    return tuple(means), tuple(std or 1.0 for std in stds)
