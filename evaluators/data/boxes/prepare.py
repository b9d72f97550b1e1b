"""From the splits that a reader found and the user's options to a data set for detection, in memory or on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from evaluators.data.boxes.objects import Objects, tidy
from evaluators.data.boxes.source import BoxesFound, BoxSource
from evaluators.data.boxes.splits import BoxData, BoxSplit, stretched
from evaluators.data.boxes.summary import objects_by_class, summarise
from evaluators.data.decoding import Pile, check_alike, describe_span, settle, stack, top
from evaluators.data.options import RealOptions
from evaluators.data.pixels import CorruptImage, is_deep
from evaluators.data.splits import RESIDENT_BYTES, Form, cut_unlabelled
from evaluators.data.summary import CORRUPT
from evaluators.outcomes import MissingSplit
from spaces.errors import UsageError

SAMPLE = 500  # pictures of a set on disk from which channels, scale, mean and deviation are estimated


def prepare_boxes(spec: str, found: BoxesFound, options: RealOptions, *, seed: int, flip: bool) -> BoxData:
    """The data set; UsageError in one line for whatever cannot be read without guessing."""
    counts: Counter[str] = Counter(found.skipped)
    own = found.val
    train_rows, val_rows = cut_unlabelled(
        spec, found.train, own, train_size=options.train_size, val_size=options.val_size, seed=seed
    )
    parts: list[tuple[BoxSource, np.ndarray]] = [(found.train, train_rows), (own or found.train, val_rows)]
    read = [_objects(source, rows, options.skip_corrupt, counts) for source, rows in parts]
    parts = [(source, rows) for (source, _), (rows, _, _) in zip(parts, read, strict=True)]
    (_, train_sizes_N2, train), (_, val_sizes_N2, val) = read
    _check_objects(spec, train, val, len(found.class_names))
    size = options.image_size or _common_size(parts, [train_sizes_N2, val_sizes_N2])
    pictures = sum(len(rows) for _, rows in parts)
    stream = options.stream
    if stream is None:
        stream = pictures * size[0] * size[1] * (options.channels or 3) > RESIDENT_BYTES
    sampled = [(source, rows[_spread(len(rows))]) for source, rows in parts[:1]] if stream else parts
    piles = [_pile(source, rows, size, options) for source, rows in sampled]
    form = settle(piles, options.channels, options.max, size)
    highest = top(piles)
    check_alike(piles[:1], form, "some training pictures", highest)
    check_alike(piles[1:], form, "some validation pictures", highest)
    stacked = [stack(pile, form, source) for pile, (source, _) in zip(piles, sampled, strict=True)]
    mean, std = options.moments(stacked[0])
    assumed = [*found.assumed, *_assumed(form, options, float(stacked[0].max()), size, train_sizes_N2)]
    if stream:
        assumed.append(f"channels, scale, mean and deviation are those of {len(stacked[0])} training pictures")
        splits = [
            BoxSplit(objects, sizes_N2, source=source, rows=rows, form=form)
            for (source, rows), (_, sizes_N2, objects) in zip(parts, read, strict=True)
        ]
    else:
        splits = [
            BoxSplit(objects, sizes_N2, images_NCHW)
            for images_NCHW, (_, sizes_N2, objects) in zip(stacked, read, strict=True)
        ]
    summary = summarise(
        spec,
        found.taken,
        found.class_names,
        train,
        val,
        channels=form.channels,
        size=size,
        own_validation=own is not None,
        test_images=found.test_images,
        skipped=counts,
        assumed=assumed,
    )
    return BoxData(
        name=spec,
        train=splits[0],
        val=splits[1],
        class_names=found.class_names,
        in_chans=form.channels,
        size=size,
        mean=mean,
        std=std,
        chosen=options.mean is not None,
        flip=flip if options.flip is None else options.flip,
        load_test=_test_loader(spec, found, form, size, options, stream=stream),
        summary=summary,
        span=form.span,
    )


def _objects(
    source: BoxSource, rows: np.ndarray, skip_corrupt: bool, counts: Counter[str]
) -> tuple[np.ndarray, np.ndarray, tuple[Objects, ...]]:
    """(rows whose pictures can be opened, their sizes (N, 2), their objects)."""
    kept, sizes, objects = [], [], []
    for row in map(int, rows):
        try:
            size = source.size(row)
            if skip_corrupt:
                source.image(row)  # a header may be whole where the rest is not
        except CorruptImage:
            if not skip_corrupt:
                raise
            counts[CORRUPT] += 1
            continue
        objects.append(tidy(source.marks(row), size, counts))
        kept.append(row)
        sizes.append(size)
    if not kept:
        raise UsageError("no picture can be read")
    return np.array(kept), np.array(sizes, dtype=np.int64), tuple(objects)


def _check_objects(spec: str, train: Sequence[Objects], val: Sequence[Objects], classes: int) -> None:
    """UsageError where nothing can be learned, or nothing judged: a mean average precision without objects is none."""
    for objects, split in ((train, "training"), (val, "validation")):
        if objects_by_class(objects, classes).sum() == 0:
            raise UsageError(f"{spec}: no object is marked in any of the {len(objects)} {split} pictures")


def _common_size(parts: Sequence[tuple[BoxSource, np.ndarray]], sizes: Sequence[np.ndarray]) -> tuple[int, int]:
    first = sizes[0][0]
    for (source, rows), sizes_N2 in zip(parts, sizes, strict=True):
        other = np.flatnonzero((sizes_N2 != first).any(1))
        if len(other):
            height, width = sizes_N2[other[0]]
            raise UsageError(
                f"pictures differ in size ({source.where(int(rows[other[0]]))} is {width}x{height}); set data.image_size"
            )
    return int(first[0]), int(first[1])


def _spread(count: int) -> np.ndarray:
    """Some of so many places, that lie far apart."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(int))


def _pile(source: BoxSource, rows: np.ndarray, size: tuple[int, int], options: RealOptions) -> Pile:
    """The pictures of these rows, decoded and stretched."""
    images: list[np.ndarray] = []
    ranges: dict[bool, tuple[float, float]] = {}
    for row in map(int, rows):
        picture = stretched(source, row, options.channels, size, forced=options.channels is not None)
        if is_deep(picture):
            low, high = ranges.get(False, (np.inf, -np.inf))
            ranges[False] = min(low, float(picture.min())), max(high, float(picture.max()))
        images.append(picture)
    if False in ranges and ranges[False][1] > 1:
        ranges[True] = ranges.pop(False)  # whole numbers, which are stretched as fractions
    return Pile(images, rows, (), ranges, 0, 0)


def _assumed(
    form: Form, options: RealOptions, highest: float, size: tuple[int, int], sizes_N2: np.ndarray
) -> list[str]:
    said = []
    if form.span is not None:
        reached = highest * (form.span[1] - form.span[0]) + form.span[0]
        said.append(describe_span(form.span, reached, given=options.max is not None))
    if (sizes_N2 != size).any():
        said.append(f"pictures are stretched to {size[0]}x{size[1]} (HxW), as SSD does; boxes with them")
    return said


def _test_loader(
    spec: str, found: BoxesFound, form: Form, size: tuple[int, int], options: RealOptions, *, stream: bool
) -> Callable[[], BoxSplit]:
    def load() -> BoxSplit:
        source = found.test()
        if source is None:
            raise MissingSplit(f"{spec} has no test split")
        rows, sizes_N2, objects = _objects(source, np.arange(len(source)), False, Counter())
        if objects_by_class(objects, len(found.class_names)).sum() == 0:
            raise UsageError(f"{spec}: no object is marked in any of the {len(rows)} test pictures")
        if stream:
            return BoxSplit(objects, sizes_N2, source=source, rows=rows, form=form)
        pile = _pile(source, rows, size, options)
        return BoxSplit(objects, sizes_N2, stack(pile, form, source))

    return load
