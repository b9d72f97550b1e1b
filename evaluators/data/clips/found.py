"""What a reader of videos offers for each split: the videos, their labels, and what it left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from evaluators.data.clips.videos import Video

Opener = Callable[[], Video]  # opens one video; raises CorruptVideo


@dataclass(frozen=True, eq=False)
class Listed:
    """The videos of one split before any is opened: how to open each, its label, and where it is.

    groups: of each video, what it was cut from; videos of one group are never in train and validation both.
    """

    openers: tuple[Opener, ...]
    labels: np.ndarray
    places: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class VideosFound:
    """The splits of a set of videos.

    class_names: what labels 0, 1 ... stand for. flip: whether its published recipes mirror videos. skipped: files by the reason
    why they were left out. assumed: one sentence for each thing that the data do not say themselves.
    """

    taken: str
    class_names: tuple[str, ...]
    train: Listed
    val: Listed | None = None
    test: Listed | None = None
    flip: bool = False
    skipped: Mapping[str, int] = field(default_factory=Counter)
    assumed: tuple[str, ...] = ()
