"""The embedded tasks, made in seconds from scikit-learn's handwritten digits: no download.

`cluttered_digits` is the "cluttered translated digits" task of Mnih et al., Recurrent Models of Visual Attention (2014)
and Jaderberg et al., Spatial Transformer Networks (2015): one whole glyph at a random place on a canvas among fragments
of other glyphs and noise. Legend: N images, S canvas pixels a side, G glyph pixels a side.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import interpolate

from evaluators.data.splits import ArraySplit, Data, cut, moments
from evaluators.data.summary import Summary, count
from spaces.errors import UsageError

CLASS_NAMES = tuple("0123456789")
TEST_GLYPHS = 360  # the same for every seed: test stays test
TEST_CUT_SEED = 20140624
TRAIN_SIZE = 2800  # canvases of cluttered digits


@dataclass(frozen=True)
class Clutter:
    """How hard the cluttered canvas is.

    canvas: pixels a side. glyph: smallest and largest side of the enlarged glyph. fragments: how many pieces of other glyphs.
    fragment: their side in pixels. contrast: smallest brightness of a glyph or a fragment, the largest is 1.
    noise: standard deviation of the pixel noise.
    """

    canvas: int = 32
    glyph: tuple[int, int] = (24, 28)
    fragments: int = 4
    fragment: int = 6
    contrast: float = 0.6
    noise: float = 0.05


MOST_BYTES = 2**31  # of one split, which lies in memory


@lru_cache(maxsize=1)
def glyphs() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits: (N, 8, 8) float32 in [0, 1] and their labels.

    The file is read where the package keeps it: importing sklearn.datasets takes five seconds in every worker.
    """
    package = find_spec("sklearn")
    folder = package and package.submodule_search_locations and Path(package.submodule_search_locations[0])
    file = folder / "datasets" / "data" / "digits.csv.gz" if folder else None
    if file and file.is_file():
        with gzip.open(file, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
        pixels, labels = table[:, :64], table[:, 64]
    else:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
    return (pixels.reshape(-1, 8, 8) / 16).astype(np.float32), labels.astype(np.int64)


def glyph_rows(split: str, seed: int) -> np.ndarray:
    """Rows of `glyphs()` of one split. Test is fixed; the rest is cut into train and val (5 to 1) by the seed."""
    labels = glyphs()[1]
    rest, test = cut(labels, TEST_GLYPHS, TEST_CUT_SEED)
    if split == "test":
        return test
    train, val = cut(labels[rest], len(rest) // 6, seed)
    return rest[train if split == "train" else val]


def enlarge(glyphs_N88: np.ndarray, size: int) -> np.ndarray:
    """(N, size, size) in [0, 1], bicubic."""
    images = interpolate(torch.from_numpy(glyphs_N88)[:, None], size=(size, size), mode="bicubic", align_corners=False)
    return images[:, 0].clamp_(0, 1).numpy()


def compose(glyphs_N88: np.ndarray, labels: np.ndarray, count: int, clutter: Clutter, seed: int) -> ArraySplit:
    """`count` canvases from these glyphs only; classes take turns, so that every class is equally frequent."""
    rng = np.random.default_rng(seed)
    canvas, side, pieces = clutter.canvas, clutter.fragment, clutter.fragments
    low, high = clutter.glyph
    enlarged = {size: enlarge(glyphs_N88, size) for size in range(low, high + 1)}
    targets = np.arange(count) % len(CLASS_NAMES)
    by_class = [np.flatnonzero(labels == label) for label in range(len(CLASS_NAMES))]
    # All random numbers are drawn at once: one draw after the other took most of the time.
    sizes = rng.integers(low, high + 1, size=(count, pieces + 1))
    glyph = rng.integers(0, len(labels), size=(count, pieces + 1))
    corner = rng.random((count, pieces, 2))
    place = rng.random((count, pieces + 1, 2))
    light = rng.uniform(clutter.contrast, 1, size=(count, pieces + 1)).astype(np.float32)
    images_NSS = clutter.noise * rng.standard_normal((count, canvas, canvas), dtype=np.float32)
    clean_SS = np.empty((canvas, canvas), dtype=np.float32)
    for index, target in enumerate(targets):
        clean_SS[:] = 0
        for part in range(pieces):
            size = sizes[index, part]
            top, left = (corner[index, part] * (size - side + 1)).astype(int)
            fragment = enlarged[size][glyph[index, part], top : top + side, left : left + side]
            paste(clean_SS, fragment * light[index, part], place[index, part])
        same = by_class[target]
        whole = enlarged[sizes[index, -1]][same[glyph[index, -1] % len(same)]]
        paste(clean_SS, whole * light[index, -1], place[index, -1])
        images_NSS[index] += clean_SS
    images_N1SS = torch.from_numpy((images_NSS.clip(0, 1) * 255).round().astype(np.uint8)[:, None])
    return ArraySplit(images_N1SS, torch.from_numpy(targets))


def paste(image_SS: np.ndarray, patch: np.ndarray, place: np.ndarray) -> None:
    """Lay a square patch over the image at `place` (top and left as shares of the room there is); the brighter pixel wins."""
    side = len(patch)
    top, left = (place * (len(image_SS) - side + 1)).astype(int)
    window = image_SS[top : top + side, left : left + side]
    np.maximum(window, patch, out=window)


def _summary(name: str, train: ArraySplit, val: ArraySplit, test_images: int) -> Summary:
    return Summary.of(
        name,
        "made from scikit-learn's handwritten digits",
        CLASS_NAMES,
        count(train.labels_N, len(CLASS_NAMES)),
        count(val.labels_N, len(CLASS_NAMES)),
        channels=1,
        size=(train.images_NCHW.shape[2], train.images_NCHW.shape[3]),
        test_images=test_images,
    )


def cluttered_digits(
    seed: int,
    *,
    train_size: int = TRAIN_SIZE,
    val_size: int = 2000,
    test_size: int = 2000,
    clutter: Clutter | None = None,
) -> Data:
    """The default task. Glyphs are split before anything is composed: no glyph is in two splits, not even as a fragment."""
    clutter = clutter or Clutter()
    if clutter.canvas < clutter.glyph[1]:
        raise UsageError(f"image_size {clutter.canvas} is too small for the glyphs; valid: {clutter.glyph[1]} or more")
    if clutter.glyph[0] > clutter.glyph[1] or (clutter.fragments and clutter.fragment > clutter.glyph[0]):
        raise UsageError(
            f"data.glyph {list(clutter.glyph)}, data.fragment {clutter.fragment}; valid: glyph is [smallest, largest] side,"
            " and fragment no larger than the smallest"
        )
    images = max(train_size, val_size, test_size)
    if images * clutter.canvas**2 > MOST_BYTES:
        raise UsageError(
            f"{images:,} images of {clutter.canvas} pixels a side do not fit; valid: {MOST_BYTES >> 30} GiB a split"
        )

    def build(split: str, count: int, stream: int) -> ArraySplit:
        images, labels = glyphs()
        rows = glyph_rows(split, seed)
        return compose(images[rows], labels[rows], count, clutter, seed=10 * seed + stream)

    train, val = build("train", train_size, 0), build("val", val_size, 1)
    mean, std = moments(train.images_NCHW)
    return Data(
        name="cluttered_digits",
        train=train,
        val=val,
        class_names=CLASS_NAMES,
        in_chans=1,
        size=(clutter.canvas, clutter.canvas),
        mean=mean,
        std=std,
        flip=False,
        load_test=lambda: build("test", test_size, 2),
        summary=_summary("cluttered_digits", train, val, test_size),
    )


def digits(seed: int, *, image_size: Annotated[int, Field(ge=1, le=512)] = 16) -> Data:
    """The plain digits, each alone and enlarged to image_size: an easy task for tests and examples."""
    images, labels = glyphs()

    def build(split: str) -> ArraySplit:
        rows = glyph_rows(split, seed)
        pixels = (enlarge(images[rows], image_size) * 255).round().astype(np.uint8)[:, None]
        return ArraySplit(torch.from_numpy(pixels), torch.from_numpy(labels[rows]))

    train, val = build("train"), build("val")
    mean, std = moments(train.images_NCHW)
    return Data(
        name="digits",
        train=train,
        val=val,
        class_names=CLASS_NAMES,
        in_chans=1,
        size=(image_size, image_size),
        mean=mean,
        std=std,
        flip=False,
        load_test=lambda: build("test"),
        summary=_summary("digits", train, val, TEST_GLYPHS),
    )
