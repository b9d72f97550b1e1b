"""From the rows of a source to tensors: decode, agree on channels and scale, stack.

Legend: N images, C channels, H and W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluators.data.pixels import TURNED, CorruptImage, has_alpha, is_deep, shaped
from evaluators.data.source import Pictures
from evaluators.data.splits import Form
from spaces.errors import UsageError

BEYOND = 2.0  # times full brightness: more than that is another scale
DARK = 0.1  # of the brightest value: a split that stays below it is of another scale


@dataclass(frozen=True, eq=False)
class Pile:
    """Decoded images (H, W, C) of some rows, each with its own channels: uint8, or float32 in the unit of the files.

    corrupt: what could not be decoded, where that is allowed. ranges: the smallest and the largest value of the images that 8
    bits cannot hold, of those that store whole numbers (True) and of those that store fractions (False). turned: by EXIF.
    alpha: images whose transparency is ignored.
    """

    images: list[np.ndarray]
    rows: np.ndarray
    corrupt: tuple[str, ...]
    ranges: Mapping[bool, tuple[float, float]]
    turned: int
    alpha: int


def pile(
    source: Pictures,
    rows: np.ndarray,
    *,
    channels: int | None,
    size: tuple[int, int] | None,
    forced: bool = False,
    skip_corrupt: bool = False,
) -> Pile:
    """Decode `rows`. channels, size: what they are brought to; None leaves them, and sizes must then be the same.

    Raises UsageError naming the file for one that is corrupt (unless it may be skipped) or of another size.
    """
    images: list[np.ndarray] = []
    kept, corrupt = [], []
    turned = alpha = 0
    ranges: dict[bool, tuple[float, float]] = {}
    for row in map(int, rows):
        try:
            picture = source.image(row)
        except CorruptImage:
            if not skip_corrupt:
                raise
            corrupt.append(source.where(row))
            continue
        if isinstance(picture, np.ndarray):
            if is_deep(picture):
                whole = picture.dtype.kind in "iu"
                low, high = ranges.get(whole, (np.inf, -np.inf))
                ranges[whole] = min(low, float(picture.min())), max(high, float(picture.max()))
        else:
            turned += TURNED in picture.info
            alpha += channels not in (2, 4) and has_alpha(picture)
        pixels_HWC = shaped(picture, channels, size, source.where(row), forced=forced)
        if images and pixels_HWC.shape[:2] != images[0].shape[:2]:
            height, width = pixels_HWC.shape[:2]
            raise UsageError(f"images differ in size ({source.where(row)} is {width}x{height}); set image_size")
        images.append(pixels_HWC)
        kept.append(row)
    if not images:
        raise UsageError(f"no image can be read: {', '.join(corrupt[:3]) or 'there is none'}")
    return Pile(images, np.array(kept), tuple(corrupt), ranges, turned, alpha)


def settle(
    piles: Sequence[Pile],
    channels: int | None,
    span: tuple[float, float] | None,
    size: tuple[int, int] | None,
) -> Form:
    """The form that suits all these images: as many channels as any of them has, and the scale of their values.

    channels, span: the user's choice.
    """
    given = span is not None
    most = max(image.shape[2] for found in piles for image in found.images)
    ranges = [(whole, ends) for found in piles for whole, ends in found.ranges.items()]
    if span is None and ranges:
        low, high = min(low for _, (low, _) in ranges), max(high for _, (_, high) in ranges)
        span = full_span(low, high, whole=all(whole for whole, _ in ranges))
    return Form(channels or most, size, span, channels is not None, own=not given)


def top(piles: Sequence[Pile]) -> float:
    """The largest value of images that 8 bits cannot hold; 0 without any."""
    return max((high for found in piles for _, high in found.ranges.values()), default=0.0)


def check_alike(piles: Sequence[Pile], form: Form, what: str, highest: float) -> None:
    """UsageError where deep images are of another scale than the data set: they would be black, or beyond white.

    highest: the largest value of training and validation. What the user has chosen the scale of passes.
    """
    if form.span is None or not form.own:
        return
    black, white = form.span
    dark = black + DARK * (highest - black)
    for low, high in (ends for found in piles for ends in found.ranges.values()):
        darkest, brightest = (low - black) / (white - black), (high - black) / (white - black)
        if brightest > BEYOND or darkest < 1 - BEYOND or high < dark:
            raise UsageError(
                f"{what} have values from {low:g} to {high:g} where the data set spans {black:g} to {white:g}; "
                "bring all to one scale, or set data.max if they are of one"
            )


def full_span(low: float, high: float, *, whole: bool) -> tuple[float, float]:
    """What values from `low` to `high` are a part of: the full range of so many bits, or [0, 1], or [-1, 1].

    12 bits in a file of 16 are 0 to 4095. Values of no usual range span their own.
    """
    if low < 0:
        return (-1.0, 1.0) if low >= -1 and 0.1 < high <= 1 and not whole else (low, max(high, low + 1e-6))
    if not whole and 0.1 < high <= 1:
        return 0.0, 1.0
    if not whole and high <= 0.1:
        return 0.0, high or 1.0
    bits = next((bits for bits in range(8, 17) if high <= 2**bits - 1), None)
    return 0.0, float(2**bits - 1) if bits is not None else high


def describe_span(span: tuple[float, float], reached: float, *, given: bool) -> str:
    """The sentence that says what pixel values stand for. reached: the largest one."""
    low, high = span
    if given and reached > high * 1.01:
        source = f"data.max; the images go beyond it, to {reached:.4g}"
    else:
        source = "data.max" if given else "read from the data; data.max sets it"
    return f"pixel values from {low:g} to {high:g} are scaled to [0, 1] ({source})"


def stack(found: Pile, form: Form, where: Pictures) -> Tensor:
    """(N, C, H, W), uint8 or float16; grey becomes colour where the form is colour. Takes the images out of the pile."""
    height, width = found.images[0].shape[:2]
    dtype = np.uint8 if form.span is None else np.float16
    stacked_NCHW = np.empty((len(found.images), form.channels, height, width), dtype)
    for index, image_HWC in enumerate(found.images):
        if image_HWC.shape[2] not in (1, form.channels) or (image_HWC.shape[2] == 1 and form.channels not in (1, 3)):
            raise UsageError(
                f"{where.where(int(found.rows[index]))} has {image_HWC.shape[2]} channels where others have {form.channels}; "
                "set data.channels"
            )
        stacked_NCHW[index] = form.scaled(image_HWC).transpose(2, 0, 1)
    return torch.from_numpy(stacked_NCHW)


def readable(source: Pictures, rows: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """(rows whose images can be decoded, the places of the others): each is decoded once, on all cores."""

    def problem(row: int) -> str | None:
        try:
            source.image(row)
        except CorruptImage as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(pool.map(problem, map(int, rows)))
    return rows[[found is None for found in problems]], tuple(found for found in problems if found is not None)
