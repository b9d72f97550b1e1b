"""The training loop: it learns, repeats itself, reports, and fails in a word."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from evaluators.base import EvaluationError
from evaluators.data import ArraySplit, Data, load_data
from evaluators.data.batches import Augment, ResidentBatches, mix
from evaluators.training import (
    FineTuning,
    Recipe,
    TrainingEvaluator,
    backward,
    load_backbone,
    save_weights,
    train_model,
)
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


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in model.state_dict().values()])


class Killed(Exception):
    pass


def kill_after(epoch: int) -> Callable[[int, dict[str, float]], bool]:
    def report(at: int, _: dict[str, float]) -> bool:
        if at == epoch:
            raise Killed
        return True

    return report


@pytest.mark.parametrize("extra", [{}, {"ema": 0.9}, {"mixup": 0.4}])
def test_a_killed_training_goes_on_to_the_same_weights(data: Data, tmp_path: Path, extra: dict[str, float]) -> None:
    recipe = Recipe.model_validate(extra)
    file = tmp_path / "checkpoint.pt"
    whole = train_model(small, data, recipe, epochs=3, seed=0, device=CPU)
    with pytest.raises(Killed):
        train_model(small, data, recipe, epochs=3, seed=0, device=CPU, checkpoint=file, report=kill_after(2))
    seen: list[int] = []
    resumed = train_model(
        small, data, recipe, epochs=3, seed=0, device=CPU, checkpoint=file, report=lambda e, _: seen.append(e) or True
    )
    assert seen == [3]
    assert torch.equal(flat(resumed.model), flat(whole.model))


@pytest.mark.parametrize(
    ("values", "continued"), [({"horizon": 5}, True), ({"schedule": "constant"}, True), ({}, False)]
)
def test_a_longer_fidelity_continues_a_shorter_one_where_the_schedule_allows(
    data: Data, tmp_path: Path, values: dict[str, object], continued: bool
) -> None:
    recipe = Recipe.model_validate(values)
    file = tmp_path / "checkpoint.pt"
    train_model(small, data, recipe, epochs=1, seed=0, device=CPU, checkpoint=file)
    seen: list[int] = []
    longer = train_model(
        small, data, recipe, epochs=2, seed=0, device=CPU, checkpoint=file, report=lambda e, _: seen.append(e) or True
    )
    assert seen == ([2] if continued else [1, 2])
    assert torch.equal(flat(longer.model), flat(train_model(small, data, recipe, epochs=2, seed=0, device=CPU).model))


def test_another_seed_does_not_continue_the_checkpoint(data: Data, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    train_model(small, data, Recipe(), epochs=1, seed=0, device=CPU, checkpoint=file)
    seed1 = train_model(small, data, Recipe(), epochs=1, seed=1, device=CPU, checkpoint=file).model
    assert torch.equal(flat(seed1), flat(train_model(small, data, Recipe(), epochs=1, seed=1, device=CPU).model))


def linear_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 10))


@pytest.mark.parametrize("pieces", [1, 3, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(pieces: int) -> None:
    x, y = torch.randn(8, 1, 12, 12), torch.randint(10, (8,))
    whole, split = linear_model(), linear_model()
    split.load_state_dict(whole.state_dict())
    recipe = Recipe(amp="off")
    expected, _ = backward(whole, x, y, recipe, 8)
    loss, kept = backward(split, x, y, recipe, pieces)
    assert kept == pieces
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(whole.parameters(), split.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)


class Hungry(nn.Module):
    """A network for which more than `limit` images are too many."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.inner = linear_model()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(x)


def test_out_of_memory_halves_the_micro_batch_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    x, y = torch.randn(16, 1, 12, 12), torch.randint(10, (16,))
    model = Hungry(5)
    _, kept = backward(model, x, y, Recipe(amp="off"), 16)
    assert kept == 4
    assert "micro-batches of 4 images" in caplog.text
    reference = linear_model()
    reference.load_state_dict(model.inner.state_dict())
    backward(reference, x, y, Recipe(amp="off"), 16)
    assert torch.allclose(model.inner[1].weight.grad, reference[1].weight.grad, atol=1e-6)
    with pytest.raises(EvaluationError, match="out of memory with one image at a time"):
        backward(Hungry(0), x, y, Recipe(), 16)


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


def test_frozen_parameters_and_statistics_stay(data: Data) -> None:
    tuning = FineTuning(backbone=lambda name: name.split(".")[0] in ("0", "1"))
    torch.manual_seed(0)
    start = small()
    model = train_model(
        lambda: small_from(start), data, Recipe(freeze=1, weight_decay=0.1), epochs=1, seed=0, device=CPU, tuning=tuning
    ).model
    for name, value in model.state_dict().items():
        kept = torch.equal(value, start.state_dict()[name])
        assert kept == (name.split(".")[0] in ("0", "1")), name
    thawed = train_model(
        lambda: small_from(start), data, Recipe(freeze=1), epochs=2, seed=0, device=CPU, tuning=tuning
    ).model
    assert not torch.equal(thawed[0].weight, start[0].weight)


def small_from(other: nn.Module) -> nn.Module:
    model = small()
    model.load_state_dict(other.state_dict())
    return model


def test_checkpoint_of_the_plain_backbone_starts_an_identity_architecture_at_its_accuracy(tmp_path: Path) -> None:
    from evaluators.training import fine_tuning, make_optimizer
    from spaces import Architecture

    data = load_data("digits", image_size=16)
    evaluator = TrainingEvaluator(data, Recipe(epochs=2, batch_size=32, crop=1), device=CPU)
    plain = Architecture.parse("attune_tiny:none,none,none")
    file = tmp_path / "plain.safetensors"
    floor = evaluator.evaluate(plain, fidelity=2, seed=0, keep=file)["accuracy"]

    arch = Architecture.parse("attune_tiny:se-r4,cbam-r4,coordinate-r4")
    tuner = TrainingEvaluator(data, Recipe(weights=str(file), layer_decay=0.5), device=CPU)
    from evaluators.data.batches import ResidentBatches
    from evaluators.training import validate

    model = tuner.build(arch)
    assert isinstance(data.val, ArraySplit)
    assert validate(model, ResidentBatches(data.val, data, 100, CPU), CPU, "auto")["accuracy"] == floor

    groups = make_optimizer(model, tuner.recipe, fine_tuning("attune_tiny")).param_groups
    scale = {id(weight): group["lr_scale"] for group in groups for weight in group["params"]}
    weights = dict(model.named_parameters())
    assert scale[id(weights["conv1.weight"])] == 0.5**4
    assert scale[id(weights["layer1.0.conv1.weight"])] == 0.5**3
    assert scale[id(weights["layer3.0.conv1.weight"])] == 0.5
    assert scale[id(weights["fc.weight"])] == 1
    attention = [name for name in weights if ".attune." in name]
    assert attention
    assert all(scale[id(weights[name])] == 1 for name in attention)

    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "bad.pt")
    with pytest.raises(UsageError, match=r"bad.pt does not fit the backbone: conv1.weight"):
        load_backbone(model, tmp_path / "bad.pt")
    with pytest.raises(UsageError, match="no such checkpoint"):
        load_backbone(model, tmp_path / "missing.pt")


def test_streamed_data_trains(tmp_path: Path) -> None:
    from PIL import Image

    digits = load_data("digits", image_size=12)
    assert isinstance(digits.train, ArraySplit)
    for index in range(120):
        image, label = digits.train.images_NCHW[index, 0].numpy(), int(digits.train.labels_N[index])
        (tmp_path / "train" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "train" / str(label) / f"{index}.png")
    data = load_data(f"folder:{tmp_path}", image_size=12, val_size=20, stream=True)
    recipe = Recipe(batch_size=20, workers=0)
    first = train_model(small, data, recipe, epochs=1, seed=0, device=CPU)
    assert 0 <= first.metrics["accuracy"] <= 1
    assert first.metrics["train_loss"] < 3
    broken = next((tmp_path / "train").glob("*/*.png"))
    broken.write_bytes(b"no image")
    with pytest.raises(UsageError, match=rf"^corrupt image {broken}"):
        train_model(small, data, Recipe(batch_size=20, workers=1), epochs=1, seed=0, device=CPU)
