"""Images that are arrays already: .npz files in the ways of Keras and MedMNIST."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from PIL import Image

from evaluators.data.pixels import Picture, check_finite
from evaluators.data.source import Found, Opened
from evaluators.data.spelling import SPLITS, roles, split_of
from spaces.errors import UsageError

IMAGES, LABELS = ("x", "image", "images"), ("y", "label", "labels")


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images that are already arrays, as an .npz file holds them: (N, H, W) or (N, H, W, C)."""

    images_NHWC: np.ndarray
    labels: np.ndarray
    name: str
    class_names: tuple[str, ...] | None = None

    def image(self, index: int) -> Picture:
        return as_picture(self.images_NHWC[index], self.where(index))

    def where(self, index: int) -> str:
        return f"row {index} of {self.name}"


def as_picture(pixels: np.ndarray, where: str) -> Picture:
    """An array (H, W) or (H, W, C) of any number type as a picture. UsageError for other shapes, and for (C, H, W)."""
    check_shape(pixels.shape, where)
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype.kind not in "iuf":
        raise UsageError(f"{where}: pixels are {pixels.dtype}; valid: whole numbers, floats or booleans")
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype == np.uint8 and channels in (1, 3):
        return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.ndim == 3 and channels == 1 else pixels))
    check_finite(pixels, where)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """UsageError unless it is (H, W) or (H, W, C): channels come last, and there are not more of them than pixels a side."""
    if len(shape) not in (2, 3) or 0 in shape:
        raise UsageError(f"{where} has the shape {shape}; valid: (H, W) or (H, W, C)")
    if len(shape) == 3 and shape[2] not in (1, 3) and shape[2] > min(shape[:2]):
        raise UsageError(f"{where} has the shape {shape}, which looks like (C, H, W); valid: (H, W) or (H, W, C)")


def open_npz(file: Path) -> Opened:
    """`x_train`, `y_train`, `x_test`, `y_test` (Keras), or `train_images`, `train_labels` ... (MedMNIST); val where there is.

    Raises UsageError for a file that is missing or broken, and for arrays that are no images or no labels.
    """
    pairs, arrays, unread = _read(file)
    sources = {split: _source(file, arrays, *pair) for split, pair in pairs.items()}
    val, test, assumed = roles({split: split for split in pairs})
    if unread:
        assumed += (f"arrays that are not read: {', '.join(unread[:5])}",)
    image, label = pairs["train"]
    found = Found(f"{', '.join(pair[0] for pair in pairs.values())} of {file}", label, image, assumed=assumed)
    return Opened(
        sources["train"],
        found,
        sources[val] if val else None,
        lambda: sources[test] if test else None,
        len(sources[test].labels) if test else None,
    )


def read_pairs(
    file: Path,
) -> tuple[dict[str, tuple[str, str]], dict[str, np.ndarray], tuple[str, ...] | None]:
    """The keys of images and labels by split, the arrays by key, and the names of classes where the file has them.

    Raises UsageError for a file that is missing or broken, or has no images and labels of train.
    """
    pairs, arrays, _ = _read(file)
    names = arrays.get("class_names")
    return pairs, arrays, None if names is None else tuple(map(str, names.reshape(-1)))


def _read(file: Path) -> tuple[dict[str, tuple[str, str]], dict[str, np.ndarray], list[str]]:
    """Pairs and arrays as in `read_pairs`, and the keys that are not read."""
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    with _opened(file) as archive:
        keys = archive.files
        pairs = _pairs(keys, file)
        if "train" not in pairs:
            raise UsageError(
                f"{file} has no x_train and y_train (or train_images, train_labels); it has: {', '.join(keys)}"
            )
        wanted = [key for pair in pairs.values() for key in pair] + ["class_names"] * ("class_names" in keys)
        arrays = {key: _array(archive, key, file) for key in wanted}
    return pairs, arrays, [key for key in keys if key not in wanted]


def _pairs(keys: Collection[str], file: Path) -> dict[str, tuple[str, str]]:
    """The keys of images and labels by split, as `x_train` or `train_images`; UsageError where two keys are for one thing."""
    found: dict[tuple[str, bool], str] = {}
    for key in keys:
        first, _, last = key.lower().partition("_")
        for split, what in ((split_of(last), first), (split_of(first), last)):
            if split is None or what not in (*IMAGES, *LABELS):
                continue
            place = (split, what in IMAGES)
            if place in found:
                raise UsageError(f"{file} has both {found[place]} and {key}; leave one of them")
            found[place] = key
    splits = [split for split in SPLITS if (split, True) in found and (split, False) in found]
    return {split: (found[split, True], found[split, False]) for split in splits}


def _opened(file: Path) -> NpzFile:
    try:
        opened = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = "" if "pickle" in str(error) else f" ({str(error).splitlines()[0]})"
        raise UsageError(f"cannot read {file}: it is no whole .npz file{reason}") from error
    if isinstance(opened, np.ndarray):
        raise UsageError(f"{file} holds one array; valid: an .npz file with x_train and y_train")
    return opened


def _array(archive: NpzFile, key: str, file: Path) -> np.ndarray:
    try:
        return archive[key]
    # what NumPy and zipfile raise for damage; NotImplementedError is zipfile's for a compression that it does not know
    except (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        if "allow_pickle" in str(error):
            raise UsageError(
                f"{file}: {key} is an array of Python objects, which are not read; save it as numbers or strings"
            ) from error
        raise UsageError(f"cannot read {key} of {file}: {str(error).splitlines()[0]}") from error


def _source(file: Path, arrays: Mapping[str, np.ndarray], image: str, label: str) -> ArraySource:
    images, labels = arrays[image], arrays[label]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UsageError(f"{file}: {label} is {labels.dtype} {labels.shape}; valid: one label an image, (N,) or (N, 1)")
    if images.dtype.kind not in "iufb" or images.ndim not in (3, 4) or len(images) != len(labels):
        raise UsageError(
            f"{file}: {image} is {images.dtype} {images.shape} with {len(labels)} labels; "
            "valid: numbers (N, H, W) or (N, H, W, C) with N labels"
        )
    check_shape(images.shape[1:], f"{file}: an image of {image}")
    names = arrays.get("class_names")
    return ArraySource(images, labels, f"{file} {image}", None if names is None else tuple(map(str, names.reshape(-1))))
