"""Cluttered scenes: pictures, boxes and masks that say the same, and splits that share no glyph."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from evaluators.data.cluttered import (
    MASK_NAMES,
    SPLITS,
    Scene,
    cluttered_boxes,
    cluttered_masks,
    cluttered_scenes,
)
from evaluators.data.embedded import glyph_rows
from spaces.errors import UsageError


@pytest.fixture(scope="module")
def targets() -> list[dict[str, torch.Tensor]]:
    return cluttered_boxes("val", 0, 200)[1]


def test_equal_arguments_give_equal_scenes_and_others_do_not() -> None:
    first, again, other = (cluttered_scenes("train", seed, 20) for seed in (1, 1, 2))
    assert torch.equal(first.images_N1SS, again.images_N1SS)
    assert torch.equal(first.masks_NSS, again.masks_NSS)
    assert not torch.equal(first.images_N1SS, other.images_N1SS)
    assert not torch.equal(first.images_N1SS, cluttered_scenes("val", 1, 20).images_N1SS)


def test_splits_share_no_glyph_and_test_is_fixed() -> None:
    rows = [set(glyph_rows(split, 3).tolist()) for split in SPLITS]
    assert not (rows[0] & rows[1])
    assert not (rows[0] & rows[2])
    assert not (rows[1] & rows[2])


def test_boxes_are_tight_around_the_pixels_of_their_digit(targets: list[dict[str, torch.Tensor]]) -> None:
    images_N1SS, masks_NSS = cluttered_masks("val", 0, 200)
    assert images_N1SS.dtype == masks_NSS.dtype == torch.uint8
    assert images_N1SS.shape == (200, 1, 64, 64)
    scales = set()
    for mask_SS, target in zip(masks_NSS, targets, strict=True):
        covered_SS = torch.zeros_like(mask_SS)
        for box, label in zip(target["boxes"].int().tolist(), target["labels"].tolist(), strict=True):
            left, top, right, bottom = box
            inside = mask_SS[top:bottom, left:right]
            inked = inside == label + 1
            assert inked.any(0)[[0, -1]].all()
            assert inked.any(1)[[0, -1]].all()
            assert set(inside.unique().tolist()) <= {0, label + 1}  # no digit reaches into the box of another
            covered_SS[top:bottom, left:right] += 1
            scales.add(bottom - top)
        assert covered_SS.max() <= 1
        assert not mask_SS[covered_SS == 0].any()
    assert max(scales) > 1.5 * min(scales)


def test_digits_are_brighter_than_what_is_around_them() -> None:
    images_N1SS, masks_NSS = cluttered_masks("train", 0, 100)
    pixels_NSS = images_N1SS[:, 0].float()
    assert pixels_NSS[masks_NSS > 0].mean() > 2 * pixels_NSS[masks_NSS == 0].mean()
    assert set(masks_NSS.unique().tolist()) == set(range(len(MASK_NAMES)))


def test_a_picture_may_be_without_digits() -> None:
    _, targets = cluttered_boxes("train", 0, 60, Scene(digits=(0, 2)))
    numbers = {len(target["boxes"]) for target in targets}
    assert numbers == {0, 1, 2}
    assert all(target["boxes"].shape[1:] == (4,) and target["boxes"].dtype == torch.float32 for target in targets)


def test_a_thousand_pictures_take_well_under_three_seconds() -> None:
    cluttered_scenes("train", 0, 2)
    began = time.process_time()
    cluttered_scenes("train", 0, 1000)
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"digits": (3, 2)}, r"digits \[3, 2\]"),
        ({"digits": (0, 0)}, r"digits \[0, 0\]"),
        ({"sizes": (4,)}, "8 pixels or more"),
        ({"sizes": (70,)}, "do not fit on 64"),
        ({"fragment": 17}, "1 to 16 pixels"),
    ],
)
def test_scenes_that_cannot_be_are_refused(given: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Scene(**given)  # type: ignore[arg-type]


def test_a_split_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="do not fit; valid: 2 GiB a split"):
        cluttered_scenes("train", 0, 10**9)


def test_masks_and_boxes_are_those_of_the_same_pictures() -> None:
    scenes = cluttered_scenes("test", 0, 30)
    images_N1SS, targets = cluttered_boxes("test", 0, 30)
    assert torch.equal(images_N1SS, scenes.images_N1SS)
    assert np.array_equal([len(one["labels"]) for one in targets], torch.bincount(scenes.picture_M, minlength=30))
