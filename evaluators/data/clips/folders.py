"""Folders of videos: SPLIT/CLASS/VIDEO and CLASS/VIDEO, where a video is a file, or a folder of frames."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from evaluators.data.clips.found import Listed, Opener, VideosFound
from evaluators.data.clips.videos import VIDEO_SUFFIXES, FrameFolder, VideoFile, has_frames
from evaluators.data.spelling import is_left_behind, name_splits, roles
from spaces.errors import UsageError

LEFT_BEHIND, NO_VIDEO = "hidden or system files", "files that are no videos"
EXPECTED = (
    "expected CLASS/VIDEO.mp4, or CLASS/VIDEO/*.jpg with a frame a file, below the folder or below train, val, test"
)


def open_video_folder(folder: Path) -> VideosFound:
    """The videos of class folders, with the splits in any usual spelling or without.

    Raises UsageError where there are none, and where images lie in a class folder themselves.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}")
    skipped: Counter[str] = Counter()
    splits = name_splits((entry.name for entry in folders(folder) if folders(entry) or files(entry)), str(folder))
    splits = {split: name for split, name in splits.items() if folders(folder / name)}
    if not splits:
        names = tuple(entry.name for entry in folders(folder))
        train = _read(folder, names, skipped)
        _check(train, names, folder)
        return VideosFound(f"class folders of {folder}", names, train, skipped=skipped)
    if "train" not in splits:
        raise UsageError(f"{folder} has {', '.join(sorted(splits.values()))}, but no train; {EXPECTED}")
    val, test, assumed = roles(splits)
    used = [name for name in (splits["train"], val, test) if name is not None]
    names = tuple(sorted({entry.name for name in used for entry in folders(folder / name)}))
    read = {name: _read(folder / name, names, skipped) for name in used}
    _check(read[splits["train"]], names, folder / splits["train"])
    for name in used:
        if not len(read[name]):
            raise UsageError(f"no videos in class folders below {folder / name}; {EXPECTED}")
    return VideosFound(
        f"folders {', '.join(used)} of {folder}",
        names,
        read[splits["train"]],
        read[val] if val else None,
        read[test] if test else None,
        skipped=skipped,
        assumed=assumed,
    )


def folders(root: Path) -> list[Path]:
    """Sub-folders by name, without those that systems leave behind."""
    return (
        sorted(entry for entry in root.iterdir() if entry.is_dir() and not is_left_behind(entry.name))
        if root.is_dir()
        else []
    )


def files(root: Path) -> list[Path]:
    """Video files in a folder, by name."""
    return sorted(entry for entry in root.iterdir() if is_video(entry)) if root.is_dir() else []


def is_video(path: Path) -> bool:
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not is_left_behind(path.name) and path.is_file()


def opener(path: Path) -> Opener:
    """How a file, or a folder of frames, is opened."""
    return partial(FrameFolder.open if path.is_dir() else VideoFile.open, path)


def _read(root: Path, names: tuple[str, ...], skipped: Counter[str]) -> Listed:
    found: list[tuple[Path, int]] = []
    for label, name in enumerate(names):
        home = root / name
        if not home.is_dir():
            continue
        if has_frames(home):
            raise UsageError(f"images lie in {home} itself, so that nothing tells which are of one video; {EXPECTED}")
        for entry in sorted(home.iterdir()):
            if is_left_behind(entry.name):
                skipped[LEFT_BEHIND] += 1
            elif is_video(entry) or (entry.is_dir() and has_frames(entry)):
                found.append((entry, label))
            else:
                skipped[NO_VIDEO] += 1
    return Listed(
        tuple(opener(path) for path, _ in found),
        np.array([label for _, label in found], dtype=np.int64),
        tuple(str(path) for path, _ in found),
    )


def _check(train: Listed, names: tuple[str, ...], root: Path) -> None:
    """Raise UsageError where there are no two classes with videos."""
    if not len(train):
        raise UsageError(f"no videos in class folders below {root}; {EXPECTED}")
    if len(names) < 2:
        raise UsageError(f"{root} has one class, {names[0]}; valid: two class folders or more")
