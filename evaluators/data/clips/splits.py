"""Splits of videos, in memory or on the disk, and which frames of a video make a clip.

Legend: N videos, L frames of a video, T frames of a clip, C channels, H and W pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from evaluators.data.clips.videos import Video
from evaluators.data.splits import DataSet
from evaluators.data.summary import Summary


@dataclass(frozen=True)
class Clip:
    """``frames`` of a video, ``stride`` apart."""

    frames: int
    stride: int = 1

    @property
    def span(self) -> int:
        """How many frames a video needs for one clip."""
        return (self.frames - 1) * self.stride + 1

    def places(self, start: int) -> np.ndarray:
        """The places of the frames of a clip, (T,)."""
        return start + self.stride * np.arange(self.frames)

    def starts(self, length: int, count: int) -> np.ndarray:
        """Where ``count`` clips of a video begin: evenly spaced from its start to its end; one: centred."""
        last = length - self.span
        if count == 1:
            return np.array([last // 2])
        return np.round(np.linspace(0, last, count)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ArrayClips:
    """Videos of one length in memory, (N, C, L, H, W) uint8, and their labels (N,)."""

    videos_NCLHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, rows: np.ndarray) -> ArrayClips:
        """Some of the videos."""
        return ArrayClips(self.videos_NCLHW[rows], self.labels_N[rows])

    @cached_property
    def digest(self) -> str:
        """A hash of the content."""
        content = hashlib.blake2b(digest_size=8)
        content.update(repr(tuple(self.videos_NCLHW.shape)).encode())
        content.update(self.videos_NCLHW.contiguous().numpy().data)
        content.update(self.labels_N.numpy().data)
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class DiskClips:
    """Videos that are decoded by loader workers when they are needed, at (H, W) = ``size``; labels (N,)."""

    videos: tuple[Video, ...]
    labels_N: Tensor
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, rows: np.ndarray) -> DiskClips:
        """Some of the videos."""
        return DiskClips(tuple(self.videos[row] for row in rows), self.labels_N[rows], self.size)

    @cached_property
    def digest(self) -> str:
        """A hash of which videos there are, by the last two parts of their paths, their lengths and labels."""
        content = hashlib.blake2b(repr(self.size).encode(), digest_size=8)
        for video, label in zip(self.videos, self.labels_N.tolist(), strict=True):
            name = "/".join(video.where.replace("\\", "/").split("/")[-2:])
            content.update(f"{name} {video.length} {label}\n".encode())
        return content.hexdigest()


ClipSplit = ArrayClips | DiskClips


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipData(DataSet[ClipSplit, Summary]):
    """Videos with a label each.

    clip: what a network sees at once. clips: how many of each video are judged in the test, whose logits are averaged.
    """

    clip: Clip
    clips: int

    @cached_property
    def identity(self) -> str:
        """A stable text: the name, a hash of train and validation, and the clips of them."""
        return f"{self.name}#{self.train.digest}{self.val.digest} {self.clip.frames}x{self.clip.stride}"
