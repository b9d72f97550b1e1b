"""From the splits of a source and the user's options to a data set: classes, cut, channels, scale, in memory or on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from evaluators.data.decoding import Pile, check_alike, describe_span, pile, readable, settle, stack, top
from evaluators.data.labels import Classes, check_classes, find_classes
from evaluators.data.options import RealOptions
from evaluators.data.source import Opened, Source
from evaluators.data.splits import (
    RESIDENT_BYTES,
    ArraySplit,
    Data,
    Form,
    Split,
    StreamSplit,
    cut,
    number,
    subset,
)
from evaluators.data.summary import CORRUPT, Summary, count
from evaluators.outcomes import MissingSplit
from spaces.errors import UsageError

SAMPLE = 2000  # images of a stream from which channels, scale, mean and deviation are estimated
FIRST = 16  # images that tell how much memory a set takes


def prepare(spec: str, opened: Opened, options: RealOptions, *, seed: int, flip: bool) -> Data:
    """The data set; UsageError in one line for whatever cannot be read without guessing."""
    source = opened.train
    if len(source.labels) == 0:
        raise UsageError(f"{spec} has no training images")
    classes, labels = _classes(spec, opened)
    if opened.val is None:
        wanted = number(options.val_size, len(labels))
        val_size = _default_validation(labels) if wanted is None else wanted
        train_rows, val_rows = cut(labels, val_size, seed)
        if len(val_rows) == 0:
            raise UsageError(
                f"{spec}: each of {len(labels)} classes has one training image, so that validation cannot be cut from train; "
                "valid: two images of one class, or splits train, val and test"
            )
        val_source, val_labels = source, labels
    else:
        val_source, val_labels = opened.val, _encoded(classes, opened.val, "validation")
        train_rows, val_rows = np.arange(len(labels)), np.arange(len(val_labels))
        val_rows = subset(val_labels, val_rows, number(options.val_size, len(val_labels)), seed, "val_size")
    room = {"train_size": len(train_rows), "val_size": len(val_labels)}
    train_rows = subset(labels, train_rows, number(options.train_size, len(train_rows)), seed, "train_size")
    parts = [(source, train_rows, labels), (val_source, val_rows, val_labels)]
    corrupt: list[str] = []

    stream = options.stream
    if stream is None:
        stream = _decoded_bytes(source, train_rows, options) * (len(train_rows) + len(val_rows)) > RESIDENT_BYTES
    if stream:
        if options.image_size is None:
            raise UsageError(f"{spec} is read from disk while training and needs image_size, for example 224")
        if options.skip_corrupt:
            checked = [readable(of, rows) for of, rows, _ in parts]
            parts = [(of, rows, named) for (of, _, named), (rows, _) in zip(parts, checked, strict=True)]
            corrupt += [place for _, places in checked for place in places]
        sample = subset(labels, parts[0][1], min(SAMPLE, len(parts[0][1])), seed)
        piles = [_pile(source, sample, options, skip=options.skip_corrupt)]
    else:
        piles = [_pile(of, rows, options, skip=options.skip_corrupt) for of, rows, _ in parts]
        corrupt += [place for found in piles for place in found.corrupt]
    form = settle(piles, options.channels, options.max, options.image_size)
    highest = top(piles)
    check_alike(piles[:1], form, "some training images", highest)
    check_alike(piles[1:], form, "some validation images", highest)
    size = options.image_size or _common_size(piles, parts)
    turned = any(found.turned for found in piles)
    kept = [rows for _, rows, _ in parts] if stream else [found.rows for found in piles]
    images_NCHW = stack(piles[0], form, source)
    mean, std = options.moments(images_NCHW)

    splits: list[Split]
    if stream:
        splits = [StreamSplit(of, rows, named, form, size, turned) for of, rows, named in parts]
    else:
        stacked = [images_NCHW, stack(piles[1], form, val_source)]
        splits = [
            ArraySplit(images, torch.from_numpy(named[rows].astype(np.int64)))
            for images, rows, (_, _, named) in zip(stacked, kept, parts, strict=True)
        ]
    counts = [count(named[rows], len(classes.names)) for rows, (_, _, named) in zip(kept, parts, strict=True)]
    summary = Summary.of(
        spec,
        opened.found.taken,
        classes.names,
        counts[0],
        counts[1],
        channels=form.channels,
        size=size,
        test_images=opened.test_images,
        own_validation=opened.val is not None,
        skipped={**opened.found.skipped, CORRUPT: len(corrupt)},
        label=opened.found.label,
        image=opened.found.image,
        assumed=[
            *opened.found.assumed,
            *classes.assumed,
            *_short(options, room),
            *assumed_of(piles, form, options, images_NCHW, sampled=stream),
        ],
    )
    return Data(
        name=spec,
        train=splits[0],
        val=splits[1],
        class_names=classes.names,
        in_chans=form.channels,
        size=size,
        mean=mean,
        std=std,
        chosen=options.mean is not None,
        flip=flip if options.flip is None else options.flip,
        load_test=_test_loader(spec, opened, classes, form, size, stream=stream, turned=turned, highest=highest),
        summary=summary,
        span=form.span,
    )


def _default_validation(labels: np.ndarray) -> int:
    """A tenth of the images, and at least one of each class that has two."""
    return max(1, len(labels) // 10, int((np.bincount(labels) > 1).sum()))


def _classes(spec: str, opened: Opened) -> tuple[Classes, np.ndarray]:
    """The classes, and the training labels as such."""
    source = opened.train
    classes = find_classes(source.labels, source.class_names, source.where, spec)
    labels = classes.encode(source.labels, source.where)
    check_classes(labels, classes.names, spec)
    return classes, labels


def _encoded(classes: Classes, source: Source, split: str) -> np.ndarray:
    """The labels of another split as classes of train. UsageError where it gives other names to the numbers."""
    if source.class_names is not None and tuple(source.class_names) != classes.names and len(source.labels):
        pairs = zip_longest(source.class_names, classes.names)
        number, (own, known) = next((index, pair) for index, pair in enumerate(pairs) if pair[0] != pair[1])
        raise UsageError(
            f"the class names of {split} are not those of train: class {number} is {own!r} there and {known!r} in train"
        )
    return classes.encode(source.labels, source.where)


def _short(options: RealOptions, room: Mapping[str, int]) -> list[str]:
    """The sentences that say that there are fewer images than were asked for."""
    wanted = {"train_size": options.train_size, "val_size": options.val_size}
    return [
        f"{name}: {size} is more than there are, all {room[name]} images are taken"
        for name, size in wanted.items()
        if isinstance(size, int) and size > room[name]
    ]


def _pile(source: Source, rows: np.ndarray, options: RealOptions, *, skip: bool) -> Pile:
    return pile(
        source,
        rows,
        channels=options.channels,
        size=options.image_size,
        forced=options.channels is not None,
        skip_corrupt=skip,
    )


def _decoded_bytes(source: Source, rows: np.ndarray, options: RealOptions) -> int:
    """What one image takes in memory, from some that lie far apart."""
    few = rows[np.unique(np.linspace(0, len(rows) - 1, FIRST).astype(int))]
    few = few if not options.skip_corrupt else readable(source, few)[0]
    if len(few) == 0:
        return 0
    # One at a time: images of different sizes are refused when all are read.
    found = [_pile(source, few[index : index + 1], options, skip=False) for index in range(len(few))]
    form = settle(found, options.channels, options.max, options.image_size)
    height, width = found[0].images[0].shape[:2]
    return form.channels * height * width * (1 if form.span is None else 2)


def _common_size(piles: Sequence[Pile], parts: Sequence[tuple[Source, np.ndarray, np.ndarray]]) -> tuple[int, int]:
    sizes = [found.images[0].shape[:2] for found in piles]
    for found, size, (source, _, _) in zip(piles, sizes, parts, strict=False):
        if size != sizes[0]:
            place = source.where(int(found.rows[0]))
            raise UsageError(f"images differ in size ({place} is {size[1]}x{size[0]}); set image_size")
    return int(sizes[0][0]), int(sizes[0][1])


def assumed_of(
    piles: Sequence[Pile], form: Form, options: RealOptions, images_NCHW: Tensor, *, sampled: bool
) -> list[str]:
    """The sentences that say what was taken for granted of the pixels."""
    said = []
    own = {image.shape[2] for found in piles for image in found.images}
    if len(own) > 1:
        said.append(f"{form.channels} channels, since some images have them; grey ones are repeated")
    if form.span is not None:
        reached = float(images_NCHW.max()) * (form.span[1] - form.span[0]) + form.span[0]
        said.append(describe_span(form.span, reached, given=options.max is not None))
    turned, alpha = sum(found.turned for found in piles), sum(found.alpha for found in piles)
    if turned:
        said.append(f"{turned} images are turned as their EXIF orientation says")
    if alpha:
        keeps = 2 if form.channels == 1 and not form.forced else 4
        said.append(f"the transparency of {alpha} images is ignored (data.channels: {keeps} keeps it)")
    if sampled:
        read = sum(len(found.images) for found in piles)
        said.append(f"channels, scale, mean and deviation are those of {read} training images")
    return said


def _test_loader(
    spec: str,
    opened: Opened,
    classes: Classes,
    form: Form,
    size: tuple[int, int],
    *,
    stream: bool,
    turned: bool,
    highest: float,
) -> Callable[[], Split]:
    """Reads the test split; every image of it is decoded once, so that a corrupt one is known before anything is tested."""

    def load() -> Split:
        source = opened.test()
        if source is None:
            raise MissingSplit(f"{spec} has no test split")
        labels = _encoded(classes, source, "test")
        rows = np.arange(len(labels))
        if len(rows) == 0:
            raise UsageError(f"{spec} has an empty test split")
        if stream:
            problems = readable(source, rows)[1]
            if problems:
                raise UsageError(problems[0])
            return StreamSplit(source, rows, labels, form, size, turned)
        found = pile(source, rows, channels=form.channels, size=form.size, forced=form.forced)
        if found.images[0].shape[:2] != size:
            height, width = found.images[0].shape[:2]
            raise UsageError(f"images differ in size ({source.where(0)} is {width}x{height}); set image_size")
        if form.span is None and found.ranges:
            raise UsageError(
                f"{source.where(0)} and others have more than 8 bits, the training images have 8; set data.max"
            )
        check_alike([found], form, "some test images", highest)
        return ArraySplit(stack(found, form, source), torch.from_numpy(labels))

    return load
