"""The training loop: it learns, repeats itself, reports, and fails in a word."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from evaluators.base import EvaluationError
from evaluators.data import ArraySplit, Data, load_data
from evaluators.data.batches import Augment, ResidentBatches
from evaluators.training import Recipe, save_weights, train_model
from spaces.errors import UsageError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits", image_size=12)


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def test_it_learns_and_reports_every_epoch(data: Data) -> None:
    seen: list[tuple[int, float]] = []

    def report(epoch: int, metrics: dict[str, float]) -> bool:
        seen.append((epoch, metrics["accuracy"]))
        return True

    trained = train_model(small, data, Recipe(batch_size=32, crop=1), epochs=4, seed=0, device=CPU, report=report)
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert trained.metrics["accuracy"] == seen[-1][1] > 0.8
    assert trained.metrics["seconds"] > 0
    assert not trained.model.training


def test_the_seed_decides_everything(data: Data) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = train_model(small, data, Recipe(), epochs=1, seed=seed, device=CPU).model
        return torch.cat([value.flatten() for value in model.state_dict().values()])

    before = torch.random.get_rng_state()
    first = weights(5)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers are untouched"
    torch.rand(3)
    assert torch.equal(first, weights(5))
    assert not torch.equal(first, weights(6))


def test_report_can_stop_it(data: Data) -> None:
    trained = train_model(small, data, Recipe(), epochs=5, seed=0, device=CPU, report=lambda epoch, _: epoch < 2)
    assert trained.metrics["epochs"] == 2


def test_a_loss_that_is_not_finite_is_an_evaluation_error(data: Data) -> None:
    def exploding() -> nn.Module:
        model = small()
        nn.init.constant_(model[0].weight, float("nan"))
        return model

    with pytest.raises(EvaluationError, match="training loss became nan in epoch 1"):
        train_model(exploding, data, Recipe(), epochs=1, seed=0, device=CPU)


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


@pytest.mark.parametrize(
    ("values", "message"),
    [({"preset": "shrot"}, "unknown preset 'shrot'.*short"), ({"lr": -1}, "lr"), ({"epoch": 3}, "epoch")],
)
def test_wrong_recipes(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate(values)


def test_presets_fill_what_is_not_set() -> None:
    recipe = Recipe.model_validate({"preset": "coordinate_attention", "lr": 0.2})
    assert (recipe.lr, recipe.batch_size, recipe.weight_decay, recipe.epochs) == (0.2, 256, 4e-5, 200)
    assert recipe.digest != Recipe().digest
    assert Recipe(epochs=3).digest == Recipe(epochs=4).digest


def test_unknown_optimizer_names_the_valid_ones(data: Data) -> None:
    with pytest.raises(UsageError, match=r"unknown optimizer 'sdg'.*sgd"):
        train_model(small, data, Recipe(optimizer="sdg"), epochs=1, seed=0, device=CPU)


def test_weights_are_saved_whole(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model: Callable[[torch.Tensor], torch.Tensor] = small().to(memory_format=torch.channels_last)
    save_weights(model.state_dict(), tmp_path / "a" / "weights.safetensors")
    loaded = load_file(tmp_path / "a" / "weights.safetensors")
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["weights.safetensors"]
