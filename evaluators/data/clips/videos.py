"""Videos on the disk, as one file or as a folder of frames: how many frames they have, and reading some of them.

Files are decoded by PyAV, whose wheels bring FFmpeg along on Linux, macOS and Windows. Legend: L frames of a video, T frames
of a clip, H and W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from PIL import Image

from evaluators.data.folders import IMAGE_SUFFIXES
from evaluators.data.pixels import CorruptImage, open_image, shaped
from evaluators.data.spelling import is_left_behind
from spaces.errors import UsageError
from spaces.extras import need

VIDEO_SUFFIXES = (
    ".mp4",
    ".avi",
    ".mkv",
    ".webm",
    ".mov",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".3gp",
    ".ts",
    ".gif",
)
Size = tuple[int, int]


class CorruptVideo(UsageError):
    """A video that cannot be decoded; `data.skip_corrupt` leaves it out."""


class Video(Protocol):
    """One video: its number of frames, and some of them."""

    @property
    def length(self) -> int:
        """The number of frames; CorruptVideo where it cannot be told."""
        ...

    @property
    def where(self) -> str:
        """The file, for error messages."""
        ...

    def read(self, places: Sequence[int], size: Size | None) -> np.ndarray:
        """The frames at these ascending places, (T, H, W, C) uint8, resized to cover ``size`` and cropped to the centre."""
        ...


@dataclass(frozen=True)
class VideoFile:
    """A file, and the time stamp of each of its frames in the order they are shown.

    ``times`` is empty where the format has none: frames are then counted from the first.
    """

    path: Path
    times: tuple[int, ...]
    count: int

    @property
    def length(self) -> int:
        return self.count

    @property
    def where(self) -> str:
        return str(self.path)

    @classmethod
    def open(cls, path: Path) -> VideoFile:
        """Read how many frames there are, without decoding them. Raises CorruptVideo naming the file."""
        av = decoder()
        try:
            with av.open(str(path)) as container:
                if not container.streams.video:
                    raise CorruptVideo(f"{path} has no video in it")
                packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        except (av.FFmpegError, OSError, ValueError) as error:
            raise CorruptVideo(f"corrupt video {path}: {_reason(error)}") from error
        if not packets:
            raise CorruptVideo(f"corrupt video {path}: it has no frames")
        times = [packet.pts for packet in packets]
        stamped = None not in times and len(set(times)) == len(times)
        return cls(path, tuple(sorted(times)) if stamped else (), len(packets))

    def read(self, places: Sequence[int], size: Size | None) -> np.ndarray:
        """As `Video.read`; raises CorruptVideo where a frame is not there."""
        av = decoder()
        wanted = [self.times[place] for place in places] if self.times else list(places)
        found: dict[int, np.ndarray] = {}
        try:
            with av.open(str(self.path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                if self.times and places[0] > 0:
                    container.seek(wanted[0], stream=stream)  # the key frame at or before it
                for number, frame in enumerate(container.decode(stream)):
                    time = frame.pts if self.times else number
                    if time in wanted:
                        found[time] = _fitted(frame.to_image(), size)
                    if time is not None and time >= wanted[-1]:
                        break
        except (av.FFmpegError, OSError, ValueError) as error:
            raise CorruptVideo(f"corrupt video {self.path}: {_reason(error)}") from error
        missing = [place for place, time in zip(places, wanted, strict=True) if time not in found]
        if missing:
            raise CorruptVideo(f"corrupt video {self.path}: frame {missing[0]} of {self.length} cannot be decoded")
        return np.stack([found[time] for time in wanted])


@dataclass(frozen=True)
class FrameFolder:
    """A folder of image files, one a frame, in the order of the numbers in their names."""

    path: Path
    frames: tuple[str, ...]

    @property
    def length(self) -> int:
        return len(self.frames)

    @property
    def where(self) -> str:
        return str(self.path)

    @classmethod
    def open(cls, path: Path) -> FrameFolder:
        """The frames of a folder, by name; there may be none."""
        return cls(path, tuple(sorted(_frames(path), key=_by_number)))

    def read(self, places: Sequence[int], size: Size | None) -> np.ndarray:
        """As `Video.read`; raises CorruptVideo naming the frame."""
        read: list[np.ndarray] = []
        for place in places:
            file = self.path / self.frames[place]
            try:
                picture = open_image(file, str(file))
            except CorruptImage as error:
                raise CorruptVideo(str(error)) from error
            frame_HWC = shaped(picture, 3, size, str(file))
            if frame_HWC.dtype != np.uint8:
                raise UsageError(f"{file} has more than 8 bits a channel; valid: frames of 8 bits")
            if read and frame_HWC.shape != read[0].shape:
                raise UsageError(f"the frames of {self.path} differ in size; set data.image_size")
            read.append(frame_HWC)
        return np.stack(read)


def has_frames(folder: Path) -> bool:
    """Whether image files lie in a folder itself."""
    return bool(_frames(folder))


def _frames(folder: Path) -> list[str]:
    return [
        entry.name
        for entry in folder.iterdir()
        if entry.suffix.lower() in IMAGE_SUFFIXES and not is_left_behind(entry.name) and entry.is_file()
    ]


def _by_number(name: str) -> tuple[tuple[int, int, str], ...]:
    """img_2 before img_10: digits compare as numbers."""
    words = re.findall(r"\d+|\D+", name)
    return tuple((0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words)


def _fitted(image: Image.Image, size: Size | None) -> np.ndarray:
    return shaped(image, 3, size, "")


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].replace("[Errno ", "").partition("; ")[0]


def decoder() -> ModuleType:
    """PyAV; raises UsageError where it is not installed."""
    need("video", "a video file")
    import av

    module: ModuleType = av
    av.logging.set_level(av.logging.PANIC)  # what is wrong with a file is in the exception
    return module
