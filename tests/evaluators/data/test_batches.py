"""Batches: the whole split, shuffled without repetition, and changed in the way that was asked for."""

from pathlib import Path

import pytest
import torch

from evaluators.data import ArraySplit, Data, load_data
from evaluators.data.batches import Augment, ResidentBatches, make_batches, mix
from tests.evaluators.data.pictures import picture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits", image_size=12)


def test_batches_without_a_generator_are_the_normalised_split_in_order(data: Data) -> None:
    assert isinstance(data.val, ArraySplit)
    batches = ResidentBatches(data.val, data, 100, CPU)
    x = torch.cat([x for x, _ in batches])
    y = torch.cat([y for _, y in batches])
    expected = (data.val.images_NCHW / 255 - data.mean[0]) / data.std[0]
    assert torch.allclose(x, expected, atol=1e-5)
    assert torch.equal(y, data.val.labels_N)
    assert len(list(batches)) == len(batches)


def test_training_batches_are_a_shuffle_without_repetition(data: Data) -> None:
    images = torch.arange(25, dtype=torch.uint8)[:, None, None, None].expand(25, 1, 2, 2)
    split = ArraySplit(images, torch.arange(25))
    batches = ResidentBatches(split, data, 10, CPU, generator=torch.Generator().manual_seed(0))
    epochs = [torch.cat([y for _, y in batches]).tolist() for _ in range(2)]
    assert [len(set(epoch)) for epoch in epochs] == [20, 20], "full batches, no image twice"
    assert epochs[0] != epochs[1]
    for x, y in batches:
        assert torch.allclose(x[:, 0, 0, 0], (y / 255 - data.mean[0]) / data.std[0], atol=1e-5)


def crops_and_mirrors(image_HW: torch.Tensor, pad: int, fill: float) -> list[torch.Tensor]:
    height, width = image_HW.shape
    canvas = torch.full((height + 2 * pad, width + 2 * pad), fill)
    canvas[pad : pad + height, pad : pad + width] = image_HW
    cuts = [
        canvas[top : top + height, left : left + width] for top in range(2 * pad + 1) for left in range(2 * pad + 1)
    ]
    return cuts + [cut.flip(1) for cut in cuts]


def test_every_augmented_image_is_a_crop_of_its_own_image(data: Data) -> None:
    count = 40
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None] + torch.randint(100, 200, (count, 1, 6, 6))
    split = ArraySplit(images.to(torch.uint8), torch.arange(count))
    batches = ResidentBatches(
        split, data, 10, CPU, augment=Augment(flip=True, crop=2), generator=torch.Generator().manual_seed(1)
    )
    fill = round(data.mean[0] * 255)
    places = set()
    for x, y in batches:
        for image, label in zip(x, y, strict=True):
            possible = crops_and_mirrors(split.images_NCHW[label, 0].float(), 2, fill)
            normal = [(candidate / 255 - data.mean[0]) / data.std[0] for candidate in possible]
            matches = [
                index for index, candidate in enumerate(normal) if torch.allclose(candidate, image[0], atol=1e-4)
            ]
            assert matches
            places.add(matches[0])
    assert len(places) > 15, "images of one batch have places of their own"


@pytest.mark.parametrize("augment", [Augment(mixup=0.8), Augment(cutmix=1.0), Augment(mixup=0.4, cutmix=0.4)])
def test_mixed_labels_are_the_shares_of_the_pixels(augment: Augment) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(8)
    x = torch.eye(8)[:, :, None, None].expand(8, 8, 16, 16)  # image i is 1 in channel i: its mean is its label
    for _ in range(10):
        mixed, target = mix(x.clone(), y, 8, augment, generator)
        assert torch.allclose(mixed.mean((2, 3)), target, atol=1e-5)
        assert torch.allclose(target.sum(1), torch.ones(8), atol=1e-5)


def test_cutout_blanks_at_most_its_square() -> None:
    x, y = torch.ones(50, 1, 10, 10), torch.zeros(50, dtype=torch.long)
    cut, target = mix(x, y, 2, Augment(cutout=4), torch.Generator().manual_seed(0))
    blank = (cut == 0).sum((1, 2, 3))
    assert blank.max() == 16
    assert blank.min() >= 4
    assert torch.equal(target, y)


@pytest.mark.parametrize(("mode", "shape"), [("L", (20, 33)), ("RGB", (40, 21)), ("RGB", (16, 12))])
def test_images_from_disk_are_judged_whole_as_those_in_memory_are(
    tmp_path: Path, mode: str, shape: tuple[int, int]
) -> None:
    """The same pixels but for rounding: covering the size, its centre, and nothing cut off beyond that."""
    for label, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for index in range(4):
            picture(10 * label + index, shape, mode).save(tmp_path / name / f"{index}.png")
    options = {"image_size": [16, 12], "val_size": 4}
    held, streamed = (load_data(f"folder:{tmp_path}", stream=stream, **options) for stream in (False, True))
    for one, other in zip(
        make_batches(held.val, held, 2, CPU, workers=0),
        make_batches(streamed.val, held, 2, CPU, workers=0),
        strict=True,
    ):
        torch.testing.assert_close(one[0], other[0], rtol=0, atol=2.5 / 255 / min(held.std))
        assert torch.equal(one[1], other[1])
