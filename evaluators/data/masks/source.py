"""What a reader of masks offers: a picture and its mask for every row of a split, and what it knows of the masks.

Legend: H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from evaluators.data.masks.codes import Declared, MaskCode
from evaluators.data.pixels import MAX_PIXELS, Picture, open_image, size_of
from evaluators.data.source import Counted, Found
from spaces.errors import UsageError

JPEG = b"\xff\xd8\xff"


class MaskSource(Counted, Protocol):
    """The pictures of one split, each with its mask."""

    def mask(self, index: int) -> Picture:
        """The decoded mask as it is stored; UsageError naming ``mask_where(index)`` when it is corrupt or a JPEG."""
        ...

    def mask_where(self, index: int) -> str:
        """The mask's file, and the row in it, for error messages."""
        ...


@dataclass(frozen=True, eq=False)
class MasksFound:
    """The splits of a data set with masks, and what its layout says of them.

    val is the set's own validation split, where it is to be used as one. test is opened only when it is asked for;
    test_images: their number where it is known without that.
    """

    train: MaskSource
    found: Found
    val: MaskSource | None = None
    test: Callable[[], MaskSource | None] = lambda: None
    test_images: int | None = None
    declared: Declared = field(default_factory=Declared)


@dataclass(frozen=True, eq=False)
class FilePairs:
    """Image files and mask files, one for one."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Picture:
        return open_image(self.images[index], self.where(index), self.max_pixels)

    def where(self, index: int) -> str:
        return str(self.images[index])

    def mask(self, index: int) -> Picture:
        return open_mask(self.masks[index], self.mask_where(index), self.max_pixels)

    def mask_where(self, index: int) -> str:
        return str(self.masks[index])


def open_mask(content: Path | bytes, where: str, max_pixels: int) -> Picture:
    """A decoded mask; UsageError for a JPEG, whose pixels are not those that were saved."""
    start = content[:3] if isinstance(content, bytes) else _start(content)
    if start == JPEG:
        raise UsageError(f"mask {where} is a JPEG, which changes pixel values; save masks as PNG")
    return open_image(content, where, max_pixels)


def _start(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(3)
    except OSError:
        return b""  # whatever opens it next says why it cannot


class Pairs:
    """A source whose pictures and masks are read together, so that they are of one size; sizes: (H, W) of what was read."""

    def __init__(self, source: MaskSource) -> None:
        self.source = source
        self.sizes: dict[int, tuple[int, int]] = {}

    def image(self, index: int) -> Picture:
        """The picture, whose size is kept in mind for its mask."""
        picture = self.source.image(index)
        self.sizes[index] = size_of(picture)
        return picture

    def where(self, index: int) -> str:
        return self.source.where(index)

    def classes(self, index: int, code: MaskCode, size: tuple[int, int] | None) -> np.ndarray:
        """The mask of a picture as classes (H, W) uint8, brought to ``size`` as the picture is.

        Raises UsageError where the picture was read before and is of another size.
        """
        mask, where = self.source.mask(index), self.source.mask_where(index)
        height, width = size_of(mask)
        own = self.sizes.get(index, (height, width))
        if (height, width) != own:
            raise UsageError(
                f"mask {where} is {width}x{height}, its image {self.where(index)} is {own[1]}x{own[0]}; valid: one size"
            )
        return fitted(code.encode(mask, where), size)


def fitted(mask_HW: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """A mask brought to (H, W) as ``pixels.shaped`` brings its picture there: covering it, the centre cut out; nearest."""
    if size is None or mask_HW.shape == size:
        return mask_HW
    (height, width), (own_height, own_width) = size, mask_HW.shape
    scale = max(width / own_width, height / own_height)
    covering = max(width, round(own_width * scale)), max(height, round(own_height * scale))
    left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
    resized = Image.fromarray(mask_HW).resize(covering, Image.Resampling.NEAREST)
    return np.asarray(resized)[top : top + height, left : left + width]


def lost(own: tuple[int, int], size: tuple[int, int]) -> float:
    """The share of a picture's pixels that is cut off when it is brought to ``size``."""
    (height, width), (own_height, own_width) = size, own
    scale = max(width / own_width, height / own_height)
    return 1 - height * width / (max(height, round(own_height * scale)) * max(width, round(own_width * scale)))
