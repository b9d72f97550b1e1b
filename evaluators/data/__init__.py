"""Data sets by name, embedded and real, cut into train, validation and test."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from evaluators.data import embedded, sources
from evaluators.data.splits import (
    RESIDENT_BYTES,
    ArraySplit,
    Data,
    Source,
    Split,
    StreamSplit,
    check_classes,
    check_labels,
    cut,
    decode,
    moments,
    subset,
)
from evaluators.sections import check_types
from spaces.errors import UsageError, unknown
from spaces.network import pixels

__all__ = ["ArraySplit", "Data", "Split", "StreamSplit", "list_datasets", "load_data"]

# Sets whose classes change when the image is mirrored: digits and letters read differently, asymmetric garments do not.
NO_FLIP = ("svhn",)
MOMENT_IMAGES = 2000  # a stream's mean and deviation are estimated from this many of its images


def list_datasets() -> list[str]:
    """Every form that the `spec` of load_data can take."""
    return ["cluttered_digits", "digits", *sources.TORCHVISION, "hf:FOLDER", "hf:OWNER/NAME", "folder:PATH", "npz:FILE"]


def load_data(spec: str | Mapping[str, Any], *, seed: int = 0, **options: Any) -> Data:
    """The data set named by `spec` (list_datasets), with its validation split cut from train by `seed`.

    A mapping holds the name and options: `{name: "hf:FOLDER", train_size: 10000}`.

    Everything returned is a pure function of the data and the seed; the test split is not read before `.test` is.
    Options of real sets: image_size (resize: a side, or [H, W]), train_size and val_size (images; default all, and a tenth
    of train), flip,
    root (where downloads go), stream (None: whatever exceeds 2 GiB decoded).
    Options of cluttered_digits: train_size, val_size, test_size, image_size, fragments, fragment, contrast, noise, glyph.
    Raises UsageError with one line that names the file or the option.
    """
    if isinstance(spec, Mapping):
        if "name" not in spec:
            raise UsageError(f"data needs the key 'name'; valid names: {', '.join(list_datasets())}")
        return load_data(str(spec["name"]), seed=seed, **{key: spec[key] for key in spec if key != "name"}, **options)
    if spec == "cluttered_digits":
        return _call(spec, _cluttered, {"seed": seed, **options})
    if spec == "digits":
        return _call(spec, embedded.digits, {"seed": seed, **options})
    return _call(spec, _real, {"spec": spec, "seed": seed, **options})


def _call(spec: str, build: Callable[..., Data], options: dict[str, Any]) -> Data:
    """build(**options), where an option that `build` does not have is the user's mistake."""
    valid = list(inspect.signature(build).parameters)
    for option in options:
        if option not in valid:
            raise unknown(f"option of data {spec!r}", option, [name for name in valid if name not in ("spec", "seed")])
    check_types(build, options, "data")
    return build(**options)


_Count = Annotated[int, Field(ge=1, le=10**7)]
_Pixels = Annotated[int, Field(ge=1, le=4096)]


def _cluttered(
    seed: int,
    train_size: _Count = embedded.TRAIN_SIZE,
    val_size: _Count = 2000,
    test_size: _Count = 2000,
    image_size: _Pixels = embedded.Clutter.canvas,
    glyph: tuple[_Pixels, _Pixels] = embedded.Clutter.glyph,
    fragments: Annotated[int, Field(ge=0, le=1000)] = embedded.Clutter.fragments,
    fragment: _Pixels = embedded.Clutter.fragment,
    contrast: Annotated[float, Field(ge=0, le=1)] = embedded.Clutter.contrast,
    noise: Annotated[float, Field(ge=0, le=100)] = embedded.Clutter.noise,
) -> Data:
    clutter = embedded.Clutter(image_size, (glyph[0], glyph[1]), fragments, fragment, contrast, noise)
    return embedded.cluttered_digits(
        seed, train_size=train_size, val_size=val_size, test_size=test_size, clutter=clutter
    )


def _opener(spec: str, root: Path) -> Callable[[str], Source | None]:
    """open(split) for a spec; split is "train" or "test"."""
    source, _, rest = spec.partition(":")
    path = Path(rest).expanduser()
    if source == "hf" and rest:
        looks_like_path = rest.startswith((".", "/", "~")) or rest.count("/") > 1
        if path.is_dir():
            return partial(sources.open_parquet, path)
        if looks_like_path:
            raise UsageError(f"no such folder: {path}")
        return partial(sources.open_hub, rest)
    if source == "folder" and rest:
        return partial(sources.open_folder, path)
    if source == "npz" and rest:
        return partial(sources.open_npz, path)
    if spec in sources.TORCHVISION:
        return lambda split: sources.open_torchvision(spec, split, root)
    raise unknown("data", spec, list_datasets())


def _real(
    spec: str,
    seed: int,
    image_size: int | Sequence[int] | None = None,
    train_size: int | None = None,
    val_size: int | None = None,
    flip: bool | None = None,
    root: str = "~/.cache/attune/data",
    stream: bool | None = None,
) -> Data:
    open_split = _opener(spec, Path(root).expanduser())
    source = open_split("train")
    if source is None or len(source.labels) == 0:
        raise UsageError(f"{spec} has no training images")
    labels = source.labels
    class_names = source.class_names or tuple(str(index) for index in range(max(1, int(labels.max()) + 1)))
    check_labels(labels, len(class_names), source.where)
    check_classes(labels, class_names, spec)
    train_rows, val_rows = cut(labels, val_size if val_size is not None else max(1, len(labels) // 10), seed)
    train_rows = subset(labels, train_rows, train_size, seed)

    first = source.image(int(train_rows[0]))
    in_chans = 1 if first.mode in ("L", "1", "I", "I;16", "F") else 3
    wanted = None if image_size is None else pixels(image_size)
    size = wanted or (first.height, first.width)
    if stream is None:
        stream = (len(train_rows) + len(val_rows)) * in_chans * size[0] * size[1] > RESIDENT_BYTES
    if stream and wanted is None:
        raise UsageError(f"{spec} is read from disk while training and needs image_size, for example 224")

    def build(source: Source, rows: np.ndarray) -> Split:
        if stream:
            return StreamSplit(source, rows, in_chans, size)
        return decode(source, rows, in_chans, wanted)

    def load_test() -> Split:
        test = open_split("test")
        if test is None:
            raise UsageError(f"{spec} has no test split")
        check_labels(test.labels, len(class_names), test.where)
        return build(test, np.arange(len(test.labels)))

    train = build(source, train_rows)
    if isinstance(train, ArraySplit):
        mean, std = moments(train.images_NCHW)
    else:
        sample = subset(labels, train_rows, min(MOMENT_IMAGES, len(train_rows)), seed)
        mean, std = moments(decode(source, sample, in_chans, wanted).images_NCHW)
    return Data(
        name=spec,
        train=train,
        val=build(source, val_rows),
        class_names=class_names,
        in_chans=in_chans,
        size=size,
        mean=mean,
        std=std,
        flip=flip if flip is not None else spec not in NO_FLIP,
        load_test=load_test,
    )
