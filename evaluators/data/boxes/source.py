"""What a reader of pictures with boxes offers, and how pictures in files are offered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image

from evaluators.data.boxes.objects import Marks
from evaluators.data.pixels import MAX_PIXELS, CorruptImage, Picture, open_image
from evaluators.data.source import Counted

ORIENTATION, SIDEWAYS = 274, range(5, 9)  # the EXIF tag, and its values that swap height and width


class BoxSource(Counted, Protocol):
    """The pictures of one split and what is marked in them, before anything is decoded."""

    def marks(self, index: int) -> Marks:
        """What the files say of a picture."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of a picture as ``image`` gives it, from its header alone; raises CorruptImage naming it."""
        ...


@dataclass(frozen=True, eq=False)
class FileBoxes:
    """Pictures in files of their own."""

    files: tuple[Path, ...]
    found: tuple[Marks, ...]
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.files)

    def marks(self, index: int) -> Marks:
        return self.found[index]

    def size(self, index: int) -> tuple[int, int]:
        return header_size(self.files[index], self.where(index))

    def image(self, index: int) -> Picture:
        return open_image(self.files[index], self.where(index), self.max_pixels)

    def where(self, index: int) -> str:
        return str(self.files[index])


@dataclass(frozen=True)
class BoxesFound:
    """The splits of a set. val is its own validation split; test is opened only when it is asked for.

    taken: the folders or files, for people. skipped: what was left out, by the reason. assumed: one sentence for each thing
    that the data do not say themselves. test_images: their number, where it is known without opening them.
    """

    train: BoxSource
    class_names: tuple[str, ...]
    taken: str
    val: BoxSource | None = None
    test: Callable[[], BoxSource | None] = lambda: None
    test_images: int | None = None
    skipped: Mapping[str, int] = field(default_factory=Counter)
    assumed: tuple[str, ...] = ()


def header_size(content: Path | object, where: str) -> tuple[int, int]:
    """(H, W) of a picture in a file, or of a binary file object, the way up that its EXIF orientation says."""
    try:
        with Image.open(content) as image:  # type: ignore[arg-type]  # a path or a file object
            width, height = image.size
            sideways = image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in SIDEWAYS
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptImage(
            f"corrupt image {where}: {str(error).splitlines()[0] if str(error) else 'unreadable'}"
        ) from error
    return (width, height) if sideways else (height, width)
