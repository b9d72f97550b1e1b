"""Cluttered digits in scenes, for detection and segmentation: no download.

As in `embedded`, scikit-learn's real handwritten digits lie on canvases of clutter; here there are several at several scales,
none covers another, and each picture comes with its digits' boxes and with the class of every pixel. The clutter is waves and
uneven light behind the digits, and pieces of other digits as bright as they are.
Legend: N pictures, M digits of all pictures together, S canvas pixels a side, P places tried for one digit, V digits at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from evaluators.data.embedded import CLASS_NAMES, MOST_BYTES, enlarge, glyph_rows, glyphs
from spaces.errors import UsageError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
BACKGROUND = "background"
MASK_NAMES = (BACKGROUND, *CLASS_NAMES)  # class 0 of a mask is no digit, class d + 1 the digit d
TRIES = (
    12  # places drawn for a digit, of which the first that touches no other digit is taken; without one it is left out
)
INK = 0.4  # of a glyph's brightness: from here on a pixel belongs to the digit


@dataclass(frozen=True)
class Scene:
    """How a picture is composed; raises UsageError for what cannot be.

    canvas: pixels a side. digits: fewest and most in a picture. sizes: sides in pixels of the enlarged glyphs.
    fragments: how many pieces of other glyphs. fragment: their side in pixels. contrast: smallest brightness of a digit or a
    fragment, the largest is 1. texture: largest brightness of the waves behind them. noise: standard deviation of the pixel
    noise.
    """

    canvas: int = 64
    digits: tuple[int, int] = (1, 4)
    sizes: tuple[int, ...] = (16, 22, 30)
    fragments: int = 6
    fragment: int = 6
    contrast: float = 0.6
    texture: float = 0.4
    noise: float = 0.05

    def __post_init__(self) -> None:
        fewest, most = self.digits
        if not 0 <= fewest <= most or most < 1:
            raise UsageError(f"digits {list(self.digits)}; valid: [fewest, most], from 0, and at least one at most")
        if not self.sizes or min(self.sizes) < 8:
            raise UsageError(f"sizes {list(self.sizes)}; valid: one or more, each 8 pixels or more")
        if max(self.sizes) > self.canvas:
            raise UsageError(f"sizes {list(self.sizes)} do not fit on {self.canvas} pixels; valid: up to that")
        if self.fragments and not 1 <= self.fragment <= min(self.sizes):
            raise UsageError(f"fragment {self.fragment}; valid: 1 to {min(self.sizes)} pixels, the smallest of sizes")


@dataclass(frozen=True, eq=False)
class Scenes:
    """Pictures, masks and boxes that belong together.

    images_N1SS, masks_NSS: uint8. boxes_M4: float32, xyxy in pixels, the right and lower edges not inside; labels_M: int64,
    the digits; picture_M: int64, which picture each lies in, ascending.
    """

    images_N1SS: Tensor
    masks_NSS: Tensor
    boxes_M4: Tensor
    labels_M: Tensor
    picture_M: Tensor

    def __len__(self) -> int:
        return len(self.images_N1SS)


def cluttered_masks(split: Split, seed: int, count: int, scene: Scene | None = None) -> tuple[Tensor, Tensor]:
    """Pictures (N, 1, S, S) and the class of every pixel (N, S, S), both uint8; the classes are MASK_NAMES."""
    scenes = cluttered_scenes(split, seed, count, scene)
    return scenes.images_N1SS, scenes.masks_NSS


def cluttered_boxes(
    split: Split, seed: int, count: int, scene: Scene | None = None
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Pictures (N, 1, S, S) uint8 and, for each, ``boxes`` (V, 4), xyxy in pixels, and ``labels`` (V,) of CLASS_NAMES."""
    scenes = cluttered_scenes(split, seed, count, scene)
    numbers = torch.bincount(scenes.picture_M, minlength=count).tolist()
    pairs = zip(scenes.boxes_M4.split(numbers), scenes.labels_M.split(numbers), strict=True)
    return scenes.images_N1SS, [{"boxes": boxes_V4, "labels": labels_V} for boxes_V4, labels_V in pairs]


def cluttered_scenes(split: Split, seed: int, count: int, scene: Scene | None = None) -> Scenes:
    """``count`` pictures of a split, a pure function of the arguments; no glyph is in two splits, not even as a fragment.

    Raises UsageError for more pictures than fit into memory.
    """
    scene = scene or Scene()
    if count * scene.canvas**2 > MOST_BYTES:
        raise UsageError(
            f"{count:,} images of {scene.canvas} pixels a side do not fit; valid: {MOST_BYTES >> 30} GiB a split"
        )
    images_G88, labels_G = glyphs()
    rows = glyph_rows(split, seed)
    return _compose(images_G88[rows], labels_G[rows], count, scene, np.random.default_rng([seed, SPLITS.index(split)]))


def _compose(
    glyphs_G88: np.ndarray, labels_G: np.ndarray, count: int, scene: Scene, rng: np.random.Generator
) -> Scenes:
    S, (fewest, most) = scene.canvas, scene.digits
    image_NSS = _texture(count, scene, rng)
    enlarged = {size: enlarge(glyphs_G88, size) for size in scene.sizes}
    if scene.fragments:
        _scatter(image_NSS, enlarged[min(scene.sizes)], scene, rng)
    size_NV = np.sort(rng.choice(np.array(scene.sizes), (count, most)), axis=1)[:, ::-1]  # large ones find room first
    wanted_N1 = rng.integers(fewest, most + 1, (count, 1))
    corner_NV2, fits_NV = _places(size_NV, np.arange(most) < wanted_N1, S, rng)
    glyph_NV = rng.integers(len(labels_G), size=(count, most))
    light_NV = rng.uniform(scene.contrast, 1, (count, most)).astype(np.float32)
    mask_NSS = np.zeros((count, S, S), np.uint8)
    boxes_NV4 = np.zeros((count, most, 4), np.float32)
    for size in scene.sizes:
        ink_Gss = enlarged[size]
        n_K, v_K = np.nonzero(fits_NV & (size_NV == size))
        glyph_K = glyph_NV[n_K, v_K]
        at_Kss = _window(n_K, corner_NV2[n_K, v_K], size)
        ink_Kss = ink_Gss[glyph_K]
        under_Kss = image_NSS[at_Kss]
        image_NSS[at_Kss] = under_Kss + ink_Kss * (light_NV[n_K, v_K, None, None] - under_Kss)
        mask_NSS[at_Kss] = np.where(ink_Kss >= INK, labels_G[glyph_K, None, None] + 1, 0)
        boxes_NV4[n_K, v_K] = _tight(ink_Gss >= INK)[glyph_K] + np.tile(corner_NV2[n_K, v_K, ::-1], 2)
    image_NSS += scene.noise * rng.standard_normal(image_NSS.shape, dtype=np.float32)
    pixels_N1SS = (image_NSS.clip(0, 1) * 255).round().astype(np.uint8)[:, None]
    n_M, v_M = np.nonzero(fits_NV)
    return Scenes(
        torch.from_numpy(pixels_N1SS),
        torch.from_numpy(mask_NSS),
        torch.from_numpy(boxes_NV4[n_M, v_M]),
        torch.from_numpy(labels_G[glyph_NV[n_M, v_M]]),
        torch.from_numpy(n_M),
    )


def _texture(count: int, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """(N, S, S) float32: two waves of random direction, length and phase, and light that changes slowly."""
    S = scene.canvas
    at_S = np.arange(S, dtype=np.float32)
    angle_N2 = rng.uniform(0, np.pi, (count, 2))
    step_N2 = 2 * np.pi / rng.uniform(4, 16, (count, 2))  # wavelengths in pixels
    phase_N2 = rng.uniform(0, 2 * np.pi, (count, 2))
    coarse_N144 = torch.from_numpy(rng.random((count, 1, 4, 4), dtype=np.float32))
    texture_NSS: np.ndarray = interpolate(coarse_N144, size=(S, S), mode="bilinear", align_corners=True)[:, 0].numpy()
    for wave in range(2):
        down_NS = (np.sin(angle_N2[:, wave]) * step_N2[:, wave])[:, None] * at_S + phase_N2[:, wave, None]
        across_NS = (np.cos(angle_N2[:, wave]) * step_N2[:, wave])[:, None] * at_S
        # cos(a + b) from the cosines and sines of the two axes: S numbers a picture instead of S x S
        cos_NSS = (
            np.cos(down_NS)[:, :, None] * np.cos(across_NS)[:, None]
            - np.sin(down_NS)[:, :, None] * np.sin(across_NS)[:, None]
        )
        texture_NSS += (0.25 * (1 + cos_NSS)).astype(np.float32)
    texture_NSS *= scene.texture / 2
    return texture_NSS


def _scatter(image_NSS: np.ndarray, glyphs_Gss: np.ndarray, scene: Scene, rng: np.random.Generator) -> None:
    """Lay pieces of glyphs over the pictures, in place; the brighter pixel wins."""
    N, S, side = len(image_NSS), scene.canvas, scene.fragment
    all_N = np.arange(N)
    for _ in range(scene.fragments):
        glyph_N = rng.integers(len(glyphs_Gss), size=N)
        piece_Nff = glyphs_Gss[_window(glyph_N, rng.integers(glyphs_Gss.shape[1] - side + 1, size=(N, 2)), side)]
        at_Nff = _window(all_N, rng.integers(S - side + 1, size=(N, 2)), side)
        light_N11 = rng.uniform(scene.contrast, 1, (N, 1, 1)).astype(np.float32)
        image_NSS[at_Nff] = np.maximum(image_NSS[at_Nff], piece_Nff * light_N11)


def _window(n_K: np.ndarray, corner_K2: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The index of K squares, each in its picture, by their upper left corners (row, column)."""
    rows_Ks = corner_K2[:, :1] + np.arange(side)
    columns_Ks = corner_K2[:, 1:] + np.arange(side)
    return n_K[:, None, None], rows_Ks[:, :, None], columns_Ks[:, None, :]


def _places(
    size_NV: np.ndarray, wanted_NV: np.ndarray, S: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(corners (N, V, 2) as row and column, whether the digit is there): no two squares of a picture overlap."""
    N, V = size_NV.shape
    tried_NVP2 = (rng.random((N, V, TRIES, 2)) * (S - size_NV + 1)[:, :, None, None]).astype(np.int64)
    corner_NV2 = np.zeros((N, V, 2), np.int64)
    fits_NV = np.zeros((N, V), bool)
    for v in range(V):
        free_NP = np.repeat(wanted_NV[:, v, None], TRIES, axis=1)
        for other in range(v):
            apart_NP = (tried_NVP2[:, v] + size_NV[:, v, None, None] <= corner_NV2[:, other, None]).any(2)
            apart_NP |= (corner_NV2[:, other, None] + size_NV[:, other, None, None] <= tried_NVP2[:, v]).any(2)
            free_NP &= apart_NP | ~fits_NV[:, other, None]
        first_N = free_NP.argmax(1)
        corner_NV2[:, v] = tried_NVP2[np.arange(N), v, first_N]
        fits_NV[:, v] = free_NP.any(1)
    return corner_NV2, fits_NV


def _tight(inked_Gss: np.ndarray) -> np.ndarray:
    """(G, 4) float32: xyxy around the ink of every glyph."""
    side = inked_Gss.shape[1]
    ends = []
    for axis in (1, 2):  # which pixels of x, then of y, have ink
        inked_Gs: np.ndarray = np.any(inked_Gss, axis=axis)
        ends.append((inked_Gs.argmax(1), side - inked_Gs[:, ::-1].argmax(1)))
    (left_G, right_G), (top_G, bottom_G) = ends
    return np.stack([left_G, top_G, right_G, bottom_G], axis=1).astype(np.float32)
