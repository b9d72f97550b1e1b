"""Random changes of pictures with their masks, against torchvision's transforms v2 on one picture at a time."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from evaluators.data.masks.codes import IGNORED
from evaluators.data.masks.joint import Drawn, Joint, change, draw

H, W = 12, 16


def pair(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(batch, 3, H, W, generator=generator)
    return x_BCHW, torch.randint(0, 5, (batch, H, W), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("joint", [Joint(True, 3), Joint(True, 0, (0.5, 2.0)), Joint(False, 2, (1.0, 1.5))])
def test_each_picture_is_resized_cut_and_mirrored_as_torchvision_does_it(joint: Joint) -> None:
    x_BCHW, mask_BHW = pair(24)
    drawn = draw(24, (H, W), joint, torch.Generator().manual_seed(1))
    changed_BCHW, changed_BHW = change(x_BCHW, mask_BHW, joint, drawn)
    assert changed_BCHW.shape == x_BCHW.shape
    assert changed_BHW.dtype == torch.uint8
    for index in range(24):
        numbers = [getattr(drawn, name)[index].item() for name in Drawn.__dataclass_fields__]
        height, width, top, left, mirrored = (int(number) for number in numbers)
        picture = F.resize(x_BCHW[index], [height, width], InterpolationMode.BILINEAR, antialias=False)
        mask = F.resize(mask_BHW[index][None], [height, width], InterpolationMode.NEAREST_EXACT)
        frame = [H + W] * 4
        picture = F.crop(F.pad(picture, frame, fill=0), top + H + W, left + H + W, H, W)
        mask = F.crop(F.pad(mask, frame, fill=IGNORED), top + H + W, left + H + W, H, W)[0]
        if mirrored:
            picture, mask = F.horizontal_flip(picture), F.horizontal_flip(mask)
        assert torch.allclose(changed_BCHW[index], picture, atol=2e-5)
        assert torch.equal(changed_BHW[index], mask)


def test_pictures_that_keep_their_size_keep_their_values_to_the_bit() -> None:
    x_BCHW, mask_BHW = pair(8)
    joint = Joint(flip=True)
    drawn = draw(8, (H, W), joint, torch.Generator().manual_seed(3))
    changed_BCHW, changed_BHW = change(x_BCHW, mask_BHW, joint, drawn)
    assert 0 < drawn.mirrored_B.sum() < 8
    for index, mirrored in enumerate(drawn.mirrored_B.tolist()):
        assert torch.equal(changed_BCHW[index], x_BCHW[index].flip(2) if mirrored else x_BCHW[index])
        assert torch.equal(changed_BHW[index], mask_BHW[index].flip(1) if mirrored else mask_BHW[index])


def test_cuts_reach_every_place_and_are_the_same_for_one_seed() -> None:
    drawn = [draw(4000, (H, W), Joint(crop=2, scale=(0.5, 2.0)), torch.Generator().manual_seed(5)) for _ in range(2)]
    assert all(torch.equal(getattr(drawn[0], name), getattr(drawn[1], name)) for name in Drawn.__dataclass_fields__)
    same = drawn[0].height_B == H
    assert set(drawn[0].top_B[same].tolist()) == {-2, -1, 0, 1, 2}
    small, large = drawn[0].height_B < H, drawn[0].height_B > H
    assert (drawn[0].top_B[small] >= drawn[0].height_B[small] - H - 2).all()
    assert (drawn[0].top_B[small] <= 2).all()
    assert (drawn[0].top_B[large] <= drawn[0].height_B[large] - H + 2).all()
    assert not drawn[0].mirrored_B.any()
