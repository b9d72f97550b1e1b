"""Small pictures for a page, as data URIs: photographs, maps of attention over them, and heat maps of what gates weigh.

Legend: C channels, H and W pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Array = NDArray[np.float64]

OVER = 0.65  # how much of a picture the strongest place of a map covers
UNKNOWN = (150, 150, 150)  # where there is no value
COLOURS = 64  # of a heat map: more are not told apart
PLACES = (("upper left", "top", "upper right"), ("left", "middle", "right"), ("lower left", "bottom", "lower right"))


def picture_of(x_CHW: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Array:
    """The picture (H, W, 3) in [0, 1] behind a normalised input; without ``mean`` and ``std`` scaled to its own range.

    Of one or two channels the first is shown as grey, of more the first three as red, green and blue.
    """
    x_CHW = x_CHW.detach().double().cpu()
    if mean is not None and std is not None:
        x_CHW = x_CHW * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    else:
        low, high = x_CHW.min(), x_CHW.max()
        x_CHW = (x_CHW - low) / (high - low).clamp(min=1e-12)
    chosen_3HW = x_CHW[:3] if len(x_CHW) > 2 else x_CHW[:1].expand(3, -1, -1)
    return np.asarray(chosen_3HW.clamp(0, 1).permute(1, 2, 0).numpy(), dtype=np.float64)


def photograph(picture_HW3: Array, side: int, quality: int, map_HW: Array | None = None) -> str:
    """A JPEG of a picture, its longer side ``side`` pixels; with a map in [0, 1] in colours over it, where that is not 0."""
    height, width = picture_HW3.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS  # small pictures show their pixels
    image = Image.fromarray(np.uint8(255 * picture_HW3 + 0.5)).resize(size, way)
    if map_HW is not None:
        wide = Image.fromarray(np.float32(map_HW)).resize(size, Image.Resampling.BILINEAR)
        strength_HW1 = np.clip(np.asarray(wide, dtype=np.float64), 0, 1)[..., None]
        colour_HW3 = 255 * colormaps["turbo"](strength_HW1[..., 0])[..., :3]
        share_HW1 = OVER * np.sqrt(strength_HW1)
        image = Image.fromarray(np.uint8(np.asarray(image) * (1 - share_HW1) + colour_HW3 * share_HW1 + 0.5))
    return _uri(image, "JPEG", quality=quality)


def heat_map(values_HW: Array, low: float, high: float) -> str:
    """A PNG of values from ``low``, dark, to ``high``, bright, a pixel each; grey where one is not known."""
    scaled_HW = (values_HW - low) / max(high - low, 1e-12)
    known_HW = np.isfinite(scaled_HW)
    colour_HW3 = 255 * colormaps["viridis"](np.where(known_HW, scaled_HW, 0))[..., :3]
    colour_HW3[~known_HW] = UNKNOWN
    return _uri(Image.fromarray(np.uint8(colour_HW3 + 0.5)).quantize(COLOURS), "PNG", optimize=True)


def reduced(values_HW: Array, height: int, width: int) -> Array:
    """The means of blocks of a map, so that it has at most so many rows and columns; NaN only where a block knows nothing."""
    rows = np.array_split(np.arange(values_HW.shape[0]), min(height, values_HW.shape[0]))
    columns = np.array_split(np.arange(values_HW.shape[1]), min(width, values_HW.shape[1]))
    known_HW = np.isfinite(values_HW)
    sums = [[np.where(known_HW, values_HW, 0)[np.ix_(r, c)].sum() for c in columns] for r in rows]
    counts = np.array([[known_HW[np.ix_(r, c)].sum() for c in columns] for r in rows])
    return np.where(counts > 0, np.array(sums) / np.maximum(counts, 1), np.nan)


def strongest_place(map_HW: Array) -> str:
    """Which ninth of a picture a map is strongest in on average, in words; "nowhere" for a map of zeros."""
    if not map_HW.any():
        return "nowhere"
    ninths = reduced(map_HW, 3, 3)
    row, column = np.unravel_index(int(ninths.argmax()), ninths.shape)
    return PLACES[int(row)][int(column)]


def _uri(image: Image.Image, form: str, **options: object) -> str:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
