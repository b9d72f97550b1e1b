"""*Moving digits*: a handwritten digit that moves over a canvas; the label is where it moves to. No download.

One frame cannot tell. The canvas is a torus (what leaves it on one side comes back on the other) and the first place of a
digit is uniform on it, so that its place in any one frame is uniform too, whichever way it moves. Digit, speed, brightness,
fragments and noise do not depend on the label either. The best classifier of single frames is therefore at chance level.
After Srivastava et al., Unsupervised Learning of Video Representations using LSTMs (2015), whose digits bounce.
Legend: N clips, L frames, S canvas pixels a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from evaluators.data.clips.splits import ArrayClips, Clip, ClipData
from evaluators.data.embedded import MOST_BYTES, enlarge, glyph_rows, glyphs
from evaluators.data.splits import moments
from evaluators.data.summary import Summary, count
from spaces.errors import UsageError

# Rows grow downwards.
DIRECTIONS = {
    "right": (0, 1),
    "down right": (1, 1),
    "down": (1, 0),
    "down left": (1, -1),
    "left": (0, -1),
    "up left": (-1, -1),
    "up": (-1, 0),
    "up right": (-1, 1),
}
CLASS_NAMES = tuple(DIRECTIONS)


@dataclass(frozen=True)
class Motion:
    """How hard it is.

    canvas: pixels a side. glyph: side of the digit. frames: of a clip. speeds: pixels a frame, smallest and largest. fragments:
    pieces of other digits that lie elsewhere in every frame. fragment: their side. contrast: smallest brightness of a digit.
    noise: standard deviation of the pixel noise.
    """

    canvas: int = 20
    glyph: int = 10
    frames: int = 6
    speeds: tuple[int, int] = (1, 2)
    fragments: int = 2
    fragment: int = 4
    contrast: float = 0.6
    noise: float = 0.05


def trajectory(start_N2: np.ndarray, velocity_N2: np.ndarray, frames: int, canvas: int) -> np.ndarray:
    """The place (row, column) of a digit in every frame, (N, L, 2), on a torus of ``canvas`` pixels a side."""
    time_L11 = np.arange(frames)[:, None]
    return (start_N2[:, None] + time_L11 * velocity_N2[:, None]) % canvas


def compose(glyphs_N88: np.ndarray, total: int, motion: Motion, seed: int) -> ArrayClips:
    """``total`` clips of these digits only; directions take turns, so that every one is equally frequent."""
    rng = np.random.default_rng(seed)
    side, canvas, frames = motion.glyph, motion.canvas, motion.frames
    labels = np.arange(total) % len(CLASS_NAMES)
    # Everything but the velocity's direction is drawn without a look at the label.
    chosen = rng.integers(0, len(glyphs_N88), total)
    light = rng.uniform(motion.contrast, 1, total).astype(np.float32)
    start_N2 = rng.integers(0, canvas, (total, 2))
    speed = rng.integers(motion.speeds[0], motion.speeds[1] + 1, total)
    velocity_N2 = np.array(list(DIRECTIONS.values()))[labels] * speed[:, None]
    place_NL2 = trajectory(start_N2, velocity_N2, frames, canvas)
    enlarged = enlarge(glyphs_N88, side)
    clips_NLSS = motion.noise * rng.standard_normal((total, frames, canvas, canvas), dtype=np.float32)
    pieces = rng.integers(0, len(glyphs_N88), (total, frames, motion.fragments))
    at = rng.integers(0, canvas, (total, frames, motion.fragments, 2))
    cut = rng.integers(0, side - motion.fragment + 1, (total, frames, motion.fragments, 2))
    clean_SS = np.empty((canvas, canvas), np.float32)
    for index in range(total):
        digit = enlarged[chosen[index]] * light[index]
        for frame in range(frames):
            clean_SS[:] = 0
            for piece in range(motion.fragments):
                top, left = cut[index, frame, piece]
                patch = enlarged[
                    pieces[index, frame, piece], top : top + motion.fragment, left : left + motion.fragment
                ]
                _lay(clean_SS, patch * light[index], at[index, frame, piece])
            _lay(clean_SS, digit, place_NL2[index, frame])
            clips_NLSS[index, frame] += clean_SS
    clips = (clips_NLSS.clip(0, 1) * 255).round().astype(np.uint8)[:, None]
    return ArrayClips(torch.from_numpy(clips), torch.from_numpy(labels))


def _lay(image_SS: np.ndarray, patch: np.ndarray, place: np.ndarray) -> None:
    """Lay a patch over a torus with its corner at ``place``; the brighter pixel wins."""
    rows = (place[0] + np.arange(patch.shape[0])) % len(image_SS)
    columns = (place[1] + np.arange(patch.shape[1])) % len(image_SS)
    window = np.ix_(rows, columns)
    image_SS[window] = np.maximum(image_SS[window], patch)


def moving_digits(
    seed: int,
    *,
    train_size: int = 960,
    val_size: int = 400,
    test_size: int = 400,
    motion: Motion | None = None,
) -> ClipData:
    """The embedded video task. Digits are split before anything is composed: none is in two splits, not even as a fragment."""
    motion = motion or Motion()
    if not motion.fragment <= motion.glyph <= motion.canvas:
        raise UsageError(
            f"data.image_size {motion.canvas}, data.glyph {motion.glyph}, data.fragment {motion.fragment}; valid: the fragment "
            "no larger than the glyph, the glyph no larger than the image"
        )
    if not 1 <= motion.speeds[0] <= motion.speeds[1] < motion.canvas / 2:
        raise UsageError(
            f"data.speeds {list(motion.speeds)}; valid: [smallest, largest] pixels a frame, from 1 and less than half of "
            f"{motion.canvas}, beyond which a digit seems to move backwards"
        )
    videos = max(train_size, val_size, test_size)
    if 4 * videos * motion.frames * motion.canvas**2 > MOST_BYTES:
        raise UsageError(
            f"{videos:,} clips of {motion.frames} x {motion.canvas} x {motion.canvas} do not fit into memory"
        )

    def build(split: str, total: int, stream: int) -> ArrayClips:
        return compose(glyphs()[0][glyph_rows(split, seed)], total, motion, seed=10 * seed + stream)

    train, val = build("train", train_size, 3), build("val", val_size, 4)
    mean, std = moments(train.videos_NCLHW)
    summary = Summary.of(
        "moving_digits",
        "made from scikit-learn's handwritten digits",
        CLASS_NAMES,
        count(train.labels_N, len(CLASS_NAMES)),
        count(val.labels_N, len(CLASS_NAMES)),
        channels=1,
        size=(motion.frames, motion.canvas, motion.canvas),
        test_images=test_size,
    )
    return ClipData(
        name="moving_digits",
        train=train,
        val=val,
        class_names=CLASS_NAMES,
        in_chans=1,
        clip=Clip(motion.frames),
        clips=1,
        size=(motion.canvas, motion.canvas),
        mean=mean,
        std=std,
        flip=False,
        load_test=lambda: build("test", test_size, 5),
        summary=summary,
    )
