"""Random changes of pictures together with their boxes, for a whole batch at once on the device.

The changes are those of torchvision's transforms v2 (RandomIoUCrop, RandomZoomOut, RandomHorizontalFlip,
RandomPhotometricDistort, SanitizeBoundingBoxes), which take one picture at a time. Crop, zoom, shift, scale and mirror
together are one window, that is cut out of the picture and brought to the size of the network by one interpolation.
Sources: Liu et al., SSD: Single Shot MultiBox Detector, 2016 (crops, zoom, colour).
Legend: B batch, C channels, H and W pixels, M objects at most, T tries. A window is (x1, y1, x2, y2) in pixels of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # at least so much of a box; 1: the whole picture
TRIES, ROUNDS = 40, 8  # windows tried for one overlap, and overlaps, before the whole picture is taken
SMALLEST = 1.0  # pixels of the network's input; boxes that a window leaves narrower are dropped


@dataclass(frozen=True)
class BoxAugment:
    """Which changes: flip mirrors half of the pictures; iou_crop cuts a window that has enough of some box; zoom_out lays half
    of the pictures on a mean-coloured canvas of up to ``zoom_out`` times the side (1: off); photometric changes brightness,
    contrast, saturation and hue; shift moves by up to so many pixels; scale resizes by up to this factor either way (1: off,
    multi-scale training is off by default).
    """

    flip: bool = False
    iou_crop: bool = False
    zoom_out: float = 1.0
    photometric: bool = False
    shift: int = 0
    scale: float = 1.0

    @property
    def moves(self) -> bool:
        """Whether pictures have to be interpolated anew; a mirror alone needs none."""
        return self.iou_crop or self.zoom_out > 1 or self.shift > 0 or self.scale > 1


def iou_window(boxes_M4: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(4,) as RandomIoUCrop draws it: .3 to 1 of each side, aspect .5 to 2, the centre of a box inside, and enough of it.

    ``boxes_M4`` of the picture; without any the whole picture is taken.
    """
    whole = np.array([0, 0, width, height], dtype=np.float64)
    if len(boxes_M4) == 0:
        return whole
    for _ in range(ROUNDS):
        least = OVERLAPS[rng.integers(len(OVERLAPS))]
        if least >= 1:
            return whole
        side_T2 = (rng.uniform(0.3, 1.0, (TRIES, 2)) * (width, height)).astype(int)
        corner_T2 = ((np.array([width, height]) - side_T2) * rng.random((TRIES, 2))).astype(int)
        window_T4 = np.concatenate([corner_T2, corner_T2 + side_T2], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            aspect_T = side_T2[:, 0] / side_T2[:, 1]
            fits_T = (side_T2 > 0).all(1) & (aspect_T >= 0.5) & (aspect_T <= 2)
        inside_TM = centred(boxes_M4, window_T4)
        overlap_TM = np.where(inside_TM, _iou(window_T4, boxes_M4), -1.0)
        good_T = fits_T & inside_TM.any(1) & (overlap_TM.max(1) >= least)
        if good_T.any():
            found: np.ndarray = window_T4[good_T.argmax()].astype(np.float64)
            return found
    return whole


def centred(boxes_M4: np.ndarray, window_T4: np.ndarray) -> np.ndarray:
    """(T, M): whether the centre of a box lies strictly inside of a window."""
    centre_M2 = (boxes_M4[:, :2] + boxes_M4[:, 2:]) / 2
    inside = (window_T4[:, None, :2] < centre_M2) & (centre_M2 < window_T4[:, None, 2:])
    both: np.ndarray = inside.all(2)
    return both


def _iou(window_T4: np.ndarray, boxes_M4: np.ndarray) -> np.ndarray:
    low, high = np.maximum(window_T4[:, None, :2], boxes_M4[:, :2]), np.minimum(window_T4[:, None, 2:], boxes_M4[:, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas_T, areas_M = (np.clip(one[:, 2:] - one[:, :2], 0, None).prod(1) for one in (window_T4, boxes_M4))
    return shared / np.maximum(areas_T[:, None] + areas_M - shared, 1e-9)


def windows(
    boxes: list[np.ndarray], height: int, width: int, augment: BoxAugment, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(windows (B, 4), mirrored (B,)) for pictures with these boxes (M, 4)."""
    B = len(boxes)
    window_B4 = np.tile(np.array([0, 0, width, height], dtype=np.float64), (B, 1))
    if augment.zoom_out > 1:
        for index in np.flatnonzero(rng.random(B) < 0.5).tolist():
            side = rng.uniform(1, augment.zoom_out) * np.array([width, height])
            corner = -rng.random(2) * (side - (width, height))
            window_B4[index] = np.concatenate([corner, corner + side])
    if augment.iou_crop:
        for index, boxes_M4 in enumerate(boxes):
            outer = window_B4[index]
            side = outer[2:] - outer[:2]
            inner = iou_window(boxes_M4 - np.tile(outer[:2], 2), int(side[1]), int(side[0]), rng)
            window_B4[index] = inner + np.tile(outer[:2], 2)
    if augment.scale > 1:
        factor_B1 = np.exp(rng.uniform(-1, 1, (B, 1)) * np.log(augment.scale))
        centre_B2, half_B2 = (window_B4[:, :2] + window_B4[:, 2:]) / 2, (window_B4[:, 2:] - window_B4[:, :2]) / 2
        window_B4 = np.concatenate([centre_B2 - half_B2 * factor_B1, centre_B2 + half_B2 * factor_B1], axis=1)
    if augment.shift:
        window_B4 += np.tile(rng.integers(-augment.shift, augment.shift + 1, (B, 2)), 2)
    mirrored_B = rng.random(B) < 0.5 if augment.flip else np.zeros(B, dtype=bool)
    return window_B4, mirrored_B


def move_boxes(
    boxes_BM4: Tensor, labels_BM: Tensor, window_B4: Tensor, mirrored_B: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Boxes as their windows show them, and their labels, -1 where a box is no longer there.

    A box stays where its centre is inside of the window and its rest is at least SMALLEST pixels wide and high.
    """
    centre_BM2 = (boxes_BM4[..., :2] + boxes_BM4[..., 2:]) / 2
    inside_BM = ((centre_BM2 > window_B4[:, None, :2]) & (centre_BM2 < window_B4[:, None, 2:])).all(-1)
    size = boxes_BM4.new_tensor([width, height])
    factor_B12 = (size / (window_B4[:, 2:] - window_B4[:, :2]))[:, None]
    corner_B12 = window_B4[:, None, :2]
    low_BM2 = ((boxes_BM4[..., :2] - corner_B12) * factor_B12).clamp_min(0).minimum(size)
    high_BM2 = ((boxes_BM4[..., 2:] - corner_B12) * factor_B12).clamp_min(0).minimum(size)
    moved_BM4 = torch.cat([low_BM2, high_BM2], dim=-1)
    mirror_BM4 = torch.stack(
        [width - moved_BM4[..., 2], moved_BM4[..., 1], width - moved_BM4[..., 0], moved_BM4[..., 3]], dim=-1
    )
    moved_BM4 = torch.where(mirrored_B[:, None, None], mirror_BM4, moved_BM4)
    kept_BM = inside_BM & ((moved_BM4[..., 2:] - moved_BM4[..., :2]) >= SMALLEST).all(-1)
    return moved_BM4, torch.where(kept_BM, labels_BM, -1)


def move_pictures(x_BCHW: Tensor, window_B4: Tensor, mirrored_B: Tensor) -> Tensor:
    """What the windows show, bilinear, at the size of the pictures; what lies outside of a picture is 0, the mean colour."""
    B, _, H, W = x_BCHW.shape
    device = x_BCHW.device
    across_BW = (torch.arange(W, device=device) + 0.5) / W
    across_BW = torch.where(mirrored_B[:, None], 1 - across_BW, across_BW)
    x_BW = window_B4[:, 0, None] + across_BW * (window_B4[:, 2] - window_B4[:, 0])[:, None]
    down_H = (torch.arange(H, device=device) + 0.5) / H
    y_BH = window_B4[:, 1, None] + down_H * (window_B4[:, 3] - window_B4[:, 1])[:, None]
    grid_BHW2 = torch.stack(
        [(2 * x_BW / W - 1)[:, None, :].expand(B, H, W), (2 * y_BH / H - 1)[:, :, None].expand(B, H, W)], dim=-1
    )
    return grid_sample(x_BCHW, grid_BHW2.to(x_BCHW.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)


def distort(x_BCHW: Tensor, rng: np.random.Generator) -> Tensor:
    """Brightness and contrast, and for three channels saturation and hue, each by chance, of pictures in [0, 1].

    Ranges of RandomPhotometricDistort: contrast and saturation .5 to 1.5, brightness .875 to 1.125, hue up to .05 of the
    circle either way (as a rotation of the colours about the grey axis). Contrast comes before or after colour by chance.
    """
    B, C = x_BCHW.shape[:2]

    def factors(low: float, high: float) -> Tensor:
        drawn = np.where(rng.random(B) < 0.5, rng.uniform(low, high, B), 1.0)
        return torch.from_numpy(drawn).to(x_BCHW)[:, None, None, None]

    bright_B111, contrast_B111 = factors(0.875, 1.125), factors(0.5, 1.5)
    early_B111 = torch.from_numpy(rng.random(B) < 0.5).to(x_BCHW.device)[:, None, None, None]
    x_BCHW = (x_BCHW * bright_B111).clamp(0, 1)
    x_BCHW = _contrast(x_BCHW, torch.where(early_B111, contrast_B111, 1.0))
    if C == 3:
        mixing_BCC = _colour_mixing(B, rng).to(x_BCHW)
        x_BCHW = torch.einsum("bij,bjhw->bihw", mixing_BCC, x_BCHW).clamp(0, 1)
    return _contrast(x_BCHW, torch.where(early_B111, 1.0, contrast_B111))


def _contrast(x_BCHW: Tensor, factor_B111: Tensor) -> Tensor:
    mean_B111 = x_BCHW.mean((1, 2, 3), keepdim=True)
    return (mean_B111 + (x_BCHW - mean_B111) * factor_B111).clamp(0, 1)


GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _colour_mixing(count: int, rng: np.random.Generator) -> Tensor:
    """(B, 3, 3) that change saturation, then hue."""
    saturation_B = np.where(rng.random(count) < 0.5, rng.uniform(0.5, 1.5, count), 1.0)[:, None, None]
    saturate_BCC = saturation_B * np.eye(3) + (1 - saturation_B) * np.tile(GREY, (3, 1))
    angle_B = np.where(rng.random(count) < 0.5, rng.uniform(-0.05, 0.05, count), 0.0) * 2 * np.pi
    cos, sin = np.cos(angle_B)[:, None, None], np.sin(angle_B)[:, None, None]
    axis = np.ones(3) / np.sqrt(3)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn_BCC = cos * np.eye(3) + sin * cross + (1 - cos) * np.outer(axis, axis)
    return torch.from_numpy(turn_BCC @ saturate_BCC)
