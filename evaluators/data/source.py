"""What a reader of data offers: the images and labels of each split, and what it took and left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from evaluators.data.pixels import Picture


class Pictures(Protocol):
    """Where pictures come from, before anything is decoded."""

    def image(self, index: int) -> Picture:
        """The decoded image; UsageError naming `where(index)` when it is corrupt."""
        ...

    def where(self, index: int) -> str:
        """The file, and the row in it, for error messages."""
        ...


class Counted(Pictures, Protocol):
    """Pictures whose number is known."""

    def __len__(self) -> int: ...


class Source(Pictures, Protocol):
    """The images of one split, each with one label."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names that labels 0, 1 ... stand for, where the source knows them."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """One label an image as it is stored: a number, a string or a boolean."""
        ...


@dataclass(frozen=True)
class Found:
    """What a reader took, for the summary of a data set.

    taken: the folders or files, for people. label, image: the columns. skipped: files by the reason why they were left out.
    assumed: one sentence for each thing that the data do not say themselves.
    """

    taken: str
    label: str | None = None
    image: str | None = None
    skipped: Mapping[str, int] = field(default_factory=Counter)
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Opened:
    """The splits of a data set. val is the set's own validation split, where it is to be used as one.

    test is opened only when it is asked for; test_images: their number where it is known without that.
    """

    train: Source
    found: Found
    val: Source | None = None
    test: Callable[[], Source | None] = lambda: None
    test_images: int | None = None
