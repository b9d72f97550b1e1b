"""Sets of videos by name, embedded and real, cut into train, validation and test."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from evaluators.data.arrays import read_pairs
from evaluators.data.clips.folders import open_video_folder
from evaluators.data.clips.found import Listed, VideosFound
from evaluators.data.clips.lists import is_kinetics, is_ucf, open_kinetics, open_ucf
from evaluators.data.clips.moving import Motion, moving_digits
from evaluators.data.clips.splits import ArrayClips, Clip, ClipData, ClipSplit, DiskClips
from evaluators.data.clips.videos import CorruptVideo, Video
from evaluators.data.labels import check_classes, find_classes
from evaluators.data.options import Count, Images, Made, Options, Pair, Pixels, Side, name_and_options, read_options
from evaluators.data.spelling import roles
from evaluators.data.splits import cut, moments, number, subset
from evaluators.data.summary import Summary, count
from evaluators.outcomes import MissingSplit
from spaces.errors import UsageError, unknown

BROKEN, SHORT = "corrupt videos", "videos shorter than a clip"
SAMPLE = 64  # training videos whose first and middle frames tell mean and deviation


class MotionOptions(Options):
    """How moving digits are composed; see ``moving.Motion``."""

    train_size: Made = Field(default=960, description="training clips")
    val_size: Made = Field(default=400, description="validation clips")
    test_size: Made = Field(default=400, description="test clips")
    image_size: Side = Field(default=Motion.canvas, description="side in pixels")
    glyph: Side = Field(default=Motion.glyph, description="side of the digit")
    frames: Annotated[int, Field(ge=2, le=1000)] = Field(default=Motion.frames, description="of a clip")
    speeds: Pair = Field(default=Motion.speeds, description="least and greatest speed, in pixels a frame")
    fragments: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=Motion.fragments, description="pieces of other digits"
    )
    fragment: Side = Field(default=Motion.fragment, description="side of a piece in pixels")
    contrast: Annotated[float, Field(ge=0, le=1)] = Field(
        default=Motion.contrast, description="contrast of the pieces, that of the digit being 1"
    )
    noise: Annotated[float, Field(ge=0, le=100)] = Field(default=Motion.noise, description="deviation of the noise")


class ClipOptions(Options):
    """What every set of videos can be told."""

    frames: Count = Field(default=16, description="of a clip")
    stride: Count = Field(default=1, description="the step from one frame of a clip to the next")
    clips: Count = Field(
        default=1, description="how many of each video are judged in the test, whose logits are averaged"
    )
    train_size: Images | None = Field(default=None, description="training videos, or a share of them; None: all")
    val_size: Images | None = Field(default=None, description="validation videos, or a share of them")
    flip: bool | None = Field(
        default=None, description="whether videos may be mirrored while training; None: as the set allows"
    )
    skip_short: bool = Field(default=False, description="leave out, and count, what has too few frames")


class FileClipOptions(ClipOptions):
    """Videos on the disk."""

    stride: Count = Field(default=2, description="the step from one frame of a clip to the next")
    clips: Count = Field(
        default=10, description="how many of each video are judged in the test, whose logits are averaged"
    )
    image_size: Pixels | None = Field(default=None, description="a side or [H, W] in pixels, which has to be given")
    skip_corrupt: bool = Field(default=False, description="leave out, and count, what cannot be decoded")
    fold: Annotated[int, Field(ge=1, le=3)] = Field(default=1, description="which of UCF-101's three splits")


def list_clip_datasets() -> list[str]:
    """Every form that the data of a video task can take."""
    return ["moving_digits", "folder:PATH", "ucf101:PATH", "kinetics:PATH", "npz:FILE"]


def load_clips(spec: str | Mapping[str, Any], *, seed: int = 0, **options: Any) -> ClipData:
    """The set of videos named by ``spec`` (list_clip_datasets); where it has no validation split, ``seed`` cuts one from train.

    A mapping holds the name and options: ``{name: "folder:PATH", frames: 16, image_size: 112}``. docs/video.md says which there
    are. Raises UsageError with one line that names the file or the option.
    """
    name, given = name_and_options(spec, options, list_clip_datasets())
    if name == "moving_digits":
        chosen = read_options(MotionOptions, name, given).model_dump()
        sizes = {size: chosen.pop(size) for size in ("train_size", "val_size", "test_size")}
        return moving_digits(seed, **sizes, motion=Motion(canvas=chosen.pop("image_size"), **chosen))
    kind, _, rest = name.partition(":")
    path = Path(rest).expanduser()
    if kind == "npz" and rest:
        return _of_arrays(name, path, read_options(ClipOptions, name, given), seed)
    if kind in ("folder", "ucf101", "kinetics") and rest:
        files = read_options(FileClipOptions, name, given)
        if kind == "ucf101" or (kind == "folder" and is_ucf(path)):
            return _of_files(name, open_ucf(path, files.fold), files, seed)
        if kind == "kinetics" or (kind == "folder" and is_kinetics(path)):
            return _of_files(name, open_kinetics(path), files, seed)
        return _of_files(name, open_video_folder(path), files, seed)
    raise unknown("data of a video task", name, list_clip_datasets())


# --- videos on the disk -----------------------------------------------------------------------------------------------


def _of_files(spec: str, found: VideosFound, options: FileClipOptions, seed: int) -> ClipData:
    if options.image_size is None:
        raise UsageError(f"{spec} is read from disk while training and needs image_size, for example 112")
    size, clip = options.image_size, Clip(options.frames, options.stride)
    skipped = Counter(found.skipped)
    labels = found.train.labels
    held_out = number(options.val_size, len(labels) if found.val is None else len(found.val))
    if found.val is None:
        train_rows, val_rows = _cut(found.train, held_out, seed)
        val_list = found.train
    else:
        val_list = found.val
        train_rows, val_rows = np.arange(len(labels)), np.arange(len(val_list))
        val_rows = subset(val_list.labels, val_rows, held_out, seed, "val_size")
    train_rows = subset(labels, train_rows, number(options.train_size, len(train_rows)), seed, "train_size")
    splits = [
        _opened(listed, rows, clip, size, options, skipped)
        for listed, rows in ((found.train, train_rows), (val_list, val_rows))
    ]
    for split, name in zip(splits, ("training", "validation"), strict=True):
        if not len(split):
            raise UsageError(f"{spec} has no {name} videos left: {dict(skipped)}")
    sample = splits[0].take(np.unique(np.linspace(0, len(splits[0]) - 1, SAMPLE).astype(int)))
    read_NHWC = np.concatenate([video.read([0, video.length // 2], size) for video in sample.videos])
    if np.ptp(read_NHWC.reshape(-1, 3), axis=0).max() == 0:
        raise UsageError(f"{spec}: {len(read_NHWC)} training frames that were looked at are one even colour")
    mean, std = moments(torch.from_numpy(read_NHWC.transpose(0, 3, 1, 2).copy()))
    counts = [count(split.labels_N, len(found.class_names)) for split in splits]
    flip = found.flip if options.flip is None else options.flip
    assumed = (
        *found.assumed,
        f"videos are {'' if flip else 'not '}mirrored while training (data.flip)",
        f"mean and deviation are those of {len(read_NHWC)} training frames",
    )
    summary = Summary.of(
        spec,
        found.taken,
        found.class_names,
        counts[0],
        counts[1],
        channels=3,
        size=(clip.frames, *size),
        test_images=len(found.test) if found.test else None,
        own_validation=found.val is not None,
        skipped=skipped,
        assumed=assumed,
    )

    def load_test() -> ClipSplit:
        if found.test is None:
            raise MissingSplit(f"{spec} has no test split")
        return _opened(found.test, np.arange(len(found.test)), clip, size, options, Counter())

    return ClipData(
        name=spec,
        train=splits[0],
        val=splits[1],
        class_names=found.class_names,
        in_chans=3,
        clip=clip,
        clips=options.clips,
        size=size,
        mean=mean,
        std=std,
        flip=flip,
        load_test=load_test,
        summary=summary,
    )


def _cut(train: Listed, val_size: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, validation rows); where videos have groups, whole groups of them."""
    wanted = max(1, len(train) // 10) if val_size is None else val_size
    if train.groups is None:
        least = int((np.bincount(train.labels) > 1).sum())
        return cut(train.labels, max(wanted, least) if val_size is None else wanted, seed)
    if not 0 < wanted < len(train):
        raise UsageError(f"val_size {wanted} leaves no video for validation or train; valid: 1 to {len(train) - 1}")
    names = sorted(set(train.groups))
    if len(names) < 2:
        raise UsageError("all training videos are of one group, so that validation cannot be cut from train")
    taken = np.random.default_rng(seed).permutation(names)[
        : max(1, min(len(names) - 1, round(len(names) * wanted / len(train))))
    ]
    inside = np.isin(np.array(train.groups), taken)
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def _opened(
    listed: Listed, rows: np.ndarray, clip: Clip, size: tuple[int, int], options: FileClipOptions, skipped: Counter[str]
) -> DiskClips:
    """The videos of some rows; what is broken or too short is refused, or left out and counted."""

    def attempt(row: int) -> Video | UsageError:
        try:
            video = listed.openers[row]()
            if video.length >= clip.span and options.skip_corrupt:
                for start in clip.starts(video.length, options.clips).tolist():
                    video.read(clip.places(start).tolist(), size)
            return video
        except CorruptVideo as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        attempts = list(pool.map(attempt, rows.tolist()))
    videos, kept = [], []
    for row, video in zip(rows.tolist(), attempts, strict=True):
        if isinstance(video, UsageError):
            if not options.skip_corrupt:
                raise UsageError(f"{video}; data.skip_corrupt leaves such videos out")
            skipped[BROKEN] += 1
        elif video.length < clip.span:
            if not options.skip_short:
                raise UsageError(_too_short(video.where, video.length, clip))
            skipped[SHORT] += 1
        else:
            videos.append(video)
            kept.append(row)
    return DiskClips(tuple(videos), torch.from_numpy(listed.labels[kept].astype(np.int64)), size)


def _too_short(where: str, length: int, clip: Clip) -> str:
    return (
        f"{where} has {length} frames, and a clip of {clip.frames} with stride {clip.stride} takes {clip.span}; set "
        "data.frames or data.stride, or data.skip_short to leave such videos out"
    )


# --- arrays -----------------------------------------------------------------------------------------------------------


def _of_arrays(spec: str, file: Path, options: ClipOptions, seed: int) -> ClipData:
    """``x_train`` (N, L, H, W) or (N, L, H, W, C) of 8 bits, ``y_train`` (N,), and so on, as of images."""
    pairs, arrays, names = read_pairs(file)
    val, test, assumed = roles({split: split for split in pairs})
    videos = {split: _videos(file, *pairs[split], arrays) for split in pairs}
    clip = Clip(options.frames, options.stride)

    def where(index: int) -> str:
        return f"row {index} of {file}"

    classes = find_classes(videos["train"][1], names, where, spec)
    labels = {split: classes.encode(found[1], where) for split, found in videos.items()}
    check_classes(labels["train"], classes.names, spec)
    shape = videos["train"][0].shape
    for split, (found, _) in videos.items():
        if found.shape[1:] != shape[1:]:
            raise UsageError(
                f"{file}: {pairs[split][0]} holds videos of {found.shape[1:]}, {pairs['train'][0]} of {shape[1:]}"
            )
    if shape[2] < clip.span:
        raise UsageError(_too_short(str(file), shape[2], clip))

    def split_of(name: str) -> ArrayClips:
        return ArrayClips(torch.from_numpy(videos[name][0]), torch.from_numpy(labels[name].astype(np.int64)))

    whole = split_of("train")
    if val is None:
        wanted = number(options.val_size, len(whole))
        least = max(len(whole) // 10, int((np.bincount(labels["train"]) > 1).sum()))
        train_rows, val_rows = cut(labels["train"], max(1, least) if wanted is None else wanted, seed)
        val_split = whole.take(val_rows)
    else:
        train_rows, val_split = np.arange(len(whole)), split_of(val)
        rows = np.arange(len(val_split))
        val_split = val_split.take(subset(labels[val], rows, number(options.val_size, len(rows)), seed, "val_size"))
    train_rows = subset(labels["train"], train_rows, number(options.train_size, len(train_rows)), seed, "train_size")
    train = whole.take(train_rows)
    mean, std = moments(train.videos_NCLHW)
    size = (int(shape[3]), int(shape[4]))
    flip = bool(options.flip)
    summary = Summary.of(
        spec,
        f"{', '.join(pair[0] for pair in pairs.values())} of {file}",
        classes.names,
        count(train.labels_N, len(classes.names)),
        count(val_split.labels_N, len(classes.names)),
        channels=int(shape[1]),
        size=(clip.frames, *size),
        test_images=len(labels[test]) if test else None,
        own_validation=val is not None,
        label=pairs["train"][1],
        image=pairs["train"][0],
        assumed=(*assumed, *classes.assumed, f"videos are {'' if flip else 'not '}mirrored while training (data.flip)"),
    )

    def load_test() -> ClipSplit:
        if test is None:
            raise MissingSplit(f"{spec} has no test split")
        return split_of(test)

    return ClipData(
        name=spec,
        train=train,
        val=val_split,
        class_names=classes.names,
        in_chans=int(shape[1]),
        clip=clip,
        clips=options.clips,
        size=size,
        mean=mean,
        std=std,
        flip=flip,
        load_test=load_test,
        summary=summary,
    )


def _videos(file: Path, image: str, label: str, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """((N, C, L, H, W) uint8, labels (N,)); UsageError for other shapes and types."""
    videos, labels = arrays[image], arrays[label]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    channels_last = videos.ndim == 5 and videos.shape[4] <= 4
    if videos.dtype != np.uint8 or not (videos.ndim == 4 or channels_last) or 0 in videos.shape:
        raise UsageError(
            f"{file}: {image} is {videos.dtype} {videos.shape}; valid: uint8 videos (N, L, H, W) or (N, L, H, W, C) with C last"
        )
    if labels.ndim != 1 or len(labels) != len(videos):
        raise UsageError(
            f"{file}: {label} is {labels.dtype} {labels.shape}; valid: one label a video, ({len(videos)},)"
        )
    videos = videos[..., None] if videos.ndim == 4 else videos
    return np.ascontiguousarray(videos.transpose(0, 4, 1, 2, 3)), labels
