"""From pictures with masks and the user's options to a data set: what values stand for, cut, size, in memory or on disk.

Legend: N images, R rows, H and W pixels, K classes, L = K + 1 with what is not labelled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from evaluators.data.decoding import Pile, check_alike, pile, readable, settle, stack, top
from evaluators.data.masks.codes import MaskCode, numbers_of, settle_code
from evaluators.data.masks.source import MasksFound, MaskSource, Pairs, lost
from evaluators.data.masks.splits import MaskData, Masks, MaskSplit, StreamMasks, pixels_of
from evaluators.data.masks.summary import MaskSummary
from evaluators.data.options import FolderOptions
from evaluators.data.pixels import CorruptImage
from evaluators.data.real import FIRST, SAMPLE, assumed_of
from evaluators.data.splits import RESIDENT_BYTES, Form, cut_unlabelled
from evaluators.data.summary import CORRUPT
from evaluators.outcomes import MissingSplit
from spaces.errors import UsageError

CUT = 0.005  # of the pixels: what image_size cuts off beyond that is said


@dataclass(frozen=True, eq=False)
class _Read:
    """What was read of some rows.

    pile: their pictures, of a stream a sample of them. rows: what can be read. masks: brought to size; none of a stream.
    pixels_RL: of each class in each mask, and without a label. sizes: (H, W) of the pictures of the pile.
    """

    pile: Pile
    rows: np.ndarray
    masks: list[np.ndarray]
    pixels_RL: np.ndarray
    corrupt: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]


def prepare_masks(spec: str, found: MasksFound, options: FolderOptions, *, seed: int) -> MaskData:
    """The data set; UsageError in one line for whatever cannot be read without guessing."""
    source, own = found.train, found.val
    if len(source) == 0:
        raise UsageError(f"{spec} has no training images")
    train_rows, val_rows = cut_unlabelled(
        spec, source, own, train_size=options.train_size, val_size=options.val_size, seed=seed
    )
    parts = [(source, train_rows), (own or source, val_rows)]
    code = _code(spec, found, parts)
    size = options.image_size
    stream = options.stream
    if stream is None:
        stream = _bytes(source, train_rows, options) * (len(train_rows) + len(val_rows)) > RESIDENT_BYTES
    if stream and size is None:
        raise UsageError(f"{spec} is read from disk while training and needs image_size, for example [512, 1024]")
    read = [_read(of, rows, options, code, stream=stream) for of, rows in parts]
    piles = [one.pile for one in read]
    form = settle(piles, options.channels, options.max, size)
    check_alike(piles[:1], form, "some training images", top(piles))
    check_alike(piles[1:], form, "some validation images", top(piles))
    if size is None:
        size = _common(read, parts)
    images_NCHW = stack(piles[0], form, source)
    mean, std = options.moments(images_NCHW)
    splits: list[Masks]
    if stream:
        splits = [
            StreamMasks(of, one.rows, one.pixels_RL, form, size, code) for one, (of, _) in zip(read, parts, strict=True)
        ]
    else:
        stacked = [images_NCHW, stack(piles[1], form, parts[1][0])]
        splits = [MaskSplit(images, _masks(one)) for images, one in zip(stacked, read, strict=True)]
    said = assumed_of(piles, form, options, images_NCHW, sampled=stream)
    if any(one.pile.turned for one in read):
        said.append("masks of turned images are taken as upright")
    summary = MaskSummary.of_pixels(
        spec,
        found.found.taken,
        code.names,
        read[0].pixels_RL,
        read[1].pixels_RL,
        channels=form.channels,
        size=size,
        test_images=found.test_images,
        skipped={**found.found.skipped, CORRUPT: sum(len(one.corrupt) for one in read)},
        label=found.found.label,
        image=found.found.image,
        assumed=[*found.found.assumed, *code.assumed, *_cut_off(read, size), *said],
    )
    return MaskData(
        name=spec,
        train=splits[0],
        val=splits[1],
        class_names=code.names,
        in_chans=form.channels,
        size=size,
        mean=mean,
        std=std,
        chosen=options.mean is not None,
        flip=True if options.flip is None else options.flip,
        pixels=tuple(read[0].pixels_RL.sum(0).tolist()),
        load_test=_test_loader(spec, found, options, code, form, size, stream=stream, highest=top(piles)),
        summary=summary,
        span=form.span,
    )


def _code(spec: str, found: MasksFound, parts: Sequence[tuple[MaskSource, np.ndarray]]) -> MaskCode:
    """What pixel values stand for; all masks are looked at first, unless they are declared to the last value."""
    declared = found.declared
    if declared.colors is not None or (declared.count is not None and declared.ignore is not None):
        return settle_code(declared, {})
    seen: dict[int, str] = {}
    for source, rows in parts:
        for row, values in zip(rows, _each(partial(_values, source), rows), strict=True):
            for value in values:
                seen.setdefault(value, source.mask_where(int(row)))
    if not seen:
        raise UsageError(f"{spec}: no mask can be read")
    return settle_code(declared, seen)


def _values(source: MaskSource, row: int) -> list[int]:
    try:
        return np.unique(numbers_of(source.mask(row), source.mask_where(row))).tolist()
    except CorruptImage:
        return []  # it is refused, or skipped and counted, when it is read


T = TypeVar("T")


def _each(function: Callable[[int], T], rows: np.ndarray) -> list[T]:
    """A function of every row, on all cores: decoding leaves Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, map(int, rows)))


def _read(source: MaskSource, rows: np.ndarray, options: FolderOptions, code: MaskCode, *, stream: bool) -> _Read:
    """The pictures of some rows (in a stream: of a sample) and all of their masks."""
    pairs, skip = Pairs(source), options.skip_corrupt
    corrupt: tuple[str, ...] = ()
    if stream and skip:
        rows, corrupt = readable(pairs, rows)
    found = pile(
        pairs,
        rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)] if stream else rows,
        channels=options.channels,
        size=options.image_size,
        forced=options.channels is not None,
        skip_corrupt=skip,
    )
    rows = rows if stream else found.rows

    def mask(row: int) -> tuple[np.ndarray | None, np.ndarray] | str:
        try:
            mask_HW = pairs.classes(row, code, None if stream else options.image_size)
        except CorruptImage as error:
            if not skip:
                raise
            return str(error)
        return None if stream else mask_HW, pixels_of(mask_HW, len(code.names))

    masks = _each(mask, rows)
    whole = [index for index, one in enumerate(masks) if not isinstance(one, str)]
    good = [one for one in masks if not isinstance(one, str)]
    if not good:
        raise UsageError(f"no mask can be read: {masks[0]}")
    if not stream and len(good) < len(masks):
        found = replace(found, images=[found.images[index] for index in whole], rows=rows[whole])
    sizes = tuple(pairs.sizes[row] for row in map(int, found.rows))
    broken = (*corrupt, *found.corrupt, *(one for one in masks if isinstance(one, str)))
    decoded = [mask_HW for mask_HW, _ in good if mask_HW is not None]
    return _Read(found, rows[whole], decoded, np.stack([pixels_L for _, pixels_L in good]), broken, sizes)


def _masks(read: _Read) -> torch.Tensor:
    return torch.from_numpy(np.stack(read.masks))


def _common(read: Sequence[_Read], parts: Sequence[tuple[MaskSource, np.ndarray]]) -> tuple[int, int]:
    size = read[0].sizes[0]
    for one, (source, _) in zip(read, parts, strict=True):
        if one.sizes[0] != size:
            height, width = one.sizes[0]
            raise UsageError(
                f"images differ in size ({source.where(int(one.rows[0]))} is {width}x{height}); set image_size"
            )
    return size


def _cut_off(read: Sequence[_Read], size: tuple[int, int]) -> list[str]:
    """The sentence that says what image_size cuts off pictures of another shape."""
    shares = [share for one in read for own in one.sizes if (share := lost(own, size)) > CUT]
    if not shares:
        return []
    return [
        f"image_size cuts up to {100 * max(shares):.0f} % off {len(shares)} images of another shape, and off their masks: "
        "mIoU is that of what is left"
    ]


def _bytes(source: MaskSource, rows: np.ndarray, options: FolderOptions) -> int:
    """What one picture with its mask takes in memory, from some that lie far apart."""
    few = rows[np.unique(np.linspace(0, len(rows) - 1, FIRST).astype(int))]
    few = few if not options.skip_corrupt else readable(source, few)[0]
    if len(few) == 0:
        return 0
    picture = pile(
        source, few[:1], channels=options.channels, size=options.image_size, forced=options.channels is not None
    )
    height, width, channels = picture.images[0].shape
    return height * width * ((options.channels or channels) * (2 if picture.ranges else 1) + 1)


def _test_loader(
    spec: str,
    opened: MasksFound,
    options: FolderOptions,
    code: MaskCode,
    form: Form,
    size: tuple[int, int],
    *,
    stream: bool,
    highest: float,
) -> Callable[[], Masks]:
    """Reads the test split; every picture of it is decoded once, so that a corrupt one is known before anything is tested."""
    whole = options.model_copy(update={"skip_corrupt": False, "image_size": options.image_size or size})

    def load() -> Masks:
        source = opened.test()
        if source is None:
            raise MissingSplit(f"{spec} has no test split")
        rows = np.arange(len(source))
        if len(rows) == 0:
            raise UsageError(f"{spec} has an empty test split")
        if stream and (problems := readable(source, rows)[1]):
            raise UsageError(problems[0])
        read = _read(source, rows, whole, code, stream=stream)
        if options.image_size is None and (other := next((own for own in read.sizes if own != size), None)):
            raise UsageError(f"test images differ in size (one is {other[1]}x{other[0]}); set image_size")
        if stream:
            return StreamMasks(source, read.rows, read.pixels_RL, form, size, code)
        if form.span is None and read.pile.ranges:
            raise UsageError(
                f"{source.where(0)} and others have more than 8 bits, the training images have 8; set data.max"
            )
        check_alike([read.pile], form, "some test images", highest)
        return MaskSplit(stack(read.pile, form, source), _masks(read))

    return load
