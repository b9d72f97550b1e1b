"""Random changes of a whole batch of pictures together with their masks, on the device that they lie on.

With the meaning of torchvision's transforms v2 (`Resize`, `RandomCrop`, `RandomHorizontalFlip`): a picture is resized
bilinearly and its mask to the nearest pixel, both are cut out at one random place and mirrored together; what lies outside of
the picture has the mean colour and no label. Pictures that shrink are not smoothed first.
Legend: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from evaluators.data.masks.codes import IGNORED


@dataclass(frozen=True)
class Joint:
    """flip: mirror half of the pictures. crop: pixels that the cut may reach beyond a picture. scale: least and largest factor
    of the size, uniform between them; None: 1, to the bit."""

    flip: bool = False
    crop: int = 0
    scale: tuple[float, float] | None = None

    @property
    def changes(self) -> bool:
        """Whether anything is changed."""
        return self.flip or self.crop > 0 or self.scale is not None


@dataclass(frozen=True)
class Drawn:
    """What was drawn for each picture: its new size, where in it the cut begins (negative: outside), whether it is mirrored."""

    height_B: Tensor
    width_B: Tensor
    top_B: Tensor
    left_B: Tensor
    mirrored_B: Tensor

    def to(self, device: torch.device) -> Drawn:
        return Drawn(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def draw(batch: int, size: tuple[int, int], joint: Joint, generator: torch.Generator) -> Drawn:
    """Random changes of so many pictures of (H, W), on the CPU, so that every device sees the same."""
    height, width = size
    low, high = joint.scale or (1.0, 1.0)
    factor_B = low + (high - low) * torch.rand(batch, generator=generator)
    place_2B = torch.rand(2, batch, generator=generator)
    mirrored_B = (torch.rand(batch, generator=generator) < 0.5) & joint.flip
    height_B, width_B = ((side * factor_B).round().clamp(min=1).long() for side in (height, width))
    return Drawn(
        height_B,
        width_B,
        _begin(height_B, height, joint.crop, place_2B[0]),
        _begin(width_B, width, joint.crop, place_2B[1]),
        mirrored_B,
    )


def _begin(side_B: Tensor, cut: int, beyond: int, place_B: Tensor) -> Tensor:
    """Where a cut of ``cut`` pixels begins, uniform over all places inside, or around where the picture is smaller."""
    low_B = (side_B - cut).clamp(max=0) - beyond
    high_B = (side_B - cut).clamp(min=0) + beyond
    return low_B + (place_B * (high_B - low_B + 1)).long()


def change(x_BCHW: Tensor, mask_BHW: Tensor, joint: Joint, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """Pictures (B, C, H, W), normalised so that 0 is the mean colour, and masks (B, H, W) uint8, each changed in its way."""
    H, W = mask_BHW.shape[1:]
    drawn = drawn.to(mask_BHW.device)
    y_BH = _source(H, drawn.height_B, drawn.top_B, None)
    x_BW = _source(W, drawn.width_B, drawn.left_B, drawn.mirrored_B)
    inside_BHW = _within(y_BH, H)[:, :, None] & _within(x_BW, W)[:, None, :]
    rows_BH1 = y_BH.floor().long().clamp(0, H - 1)[:, :, None]
    columns_B1W = x_BW.floor().long().clamp(0, W - 1)[:, None, :]
    picture_B11 = torch.arange(len(mask_BHW), device=mask_BHW.device)[:, None, None]
    mask_BHW = mask_BHW[picture_B11, rows_BH1, columns_B1W].masked_fill(~inside_BHW, IGNORED)
    if joint.scale is None:
        # (B, H, W, C): indexing apart from the channels puts them last
        x_BCHW = x_BCHW[picture_B11, :, rows_BH1, columns_B1W].permute(0, 3, 1, 2)
    else:
        grid_BHW2 = torch.stack(
            torch.broadcast_tensors(2 * x_BW[:, None, :] / W - 1, 2 * y_BH[:, :, None] / H - 1), dim=3
        )
        x_BCHW = grid_sample(x_BCHW.contiguous(), grid_BHW2, "bilinear", "border", align_corners=False)
    return x_BCHW.mul(inside_BHW[:, None]).contiguous(memory_format=torch.channels_last), mask_BHW


def _source(side: int, new_B: Tensor, begin_B: Tensor, mirrored_B: Tensor | None) -> Tensor:
    """(B, side): where in the picture of ``side`` pixels the centres of the cut's pixels lie, as a length from its edge."""
    at_BS = torch.arange(side, device=new_B.device)[None] + 0.5
    if mirrored_B is not None:
        at_BS = torch.where(mirrored_B[:, None], side - at_BS, at_BS)
    return (at_BS + begin_B[:, None]) * (side / new_B[:, None])


def _within(at_BS: Tensor, side: int) -> Tensor:
    return (at_BS > 0) & (at_BS < side)
