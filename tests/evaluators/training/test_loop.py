"""The training loop: it learns, repeats itself, reports, and fails in a word."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from evaluators.data import ArraySplit, load_data
from evaluators.outcomes import EvaluationError
from evaluators.recipe import Recipe
from evaluators.tasks.classification import Classification
from evaluators.training.loop import backward, train_model
from evaluators.training.optimizer import FineTuning
from spaces.errors import UsageError
from tests.evaluators.training.networks import small

CPU = torch.device("cpu")


def test_it_learns_and_reports_every_epoch(task: Classification) -> None:
    seen: list[tuple[int, float]] = []

    def report(epoch: int, metrics: dict[str, float]) -> bool:
        seen.append((epoch, metrics["accuracy"]))
        return True

    trained = train_model(small, task, Recipe(batch_size=32, crop=1), epochs=4, seed=0, device=CPU, report=report)
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert trained.metrics["accuracy"] == seen[-1][1] > 0.8
    assert trained.metrics["seconds"] > 0
    assert not trained.model.training


def test_the_seed_decides_everything(task: Classification) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = train_model(small, task, Recipe(), epochs=1, seed=seed, device=CPU).model
        return torch.cat([value.flatten() for value in model.state_dict().values()])

    before = torch.random.get_rng_state()
    first = weights(5)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers are untouched"
    torch.rand(3)
    assert torch.equal(first, weights(5))
    assert not torch.equal(first, weights(6))


def test_report_can_stop_it(task: Classification) -> None:
    trained = train_model(small, task, Recipe(), epochs=5, seed=0, device=CPU, report=lambda epoch, _: epoch < 2)
    assert trained.metrics["epochs"] == 2


def test_a_loss_that_is_not_finite_is_an_evaluation_error(task: Classification) -> None:
    def exploding() -> nn.Module:
        model = small()
        nn.init.constant_(model[0].weight, float("nan"))
        return model

    with pytest.raises(EvaluationError, match="training loss became nan in epoch 1"):
        train_model(exploding, task, Recipe(), epochs=1, seed=0, device=CPU)


def linear_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 10))


@pytest.mark.parametrize("pieces", [1, 3, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(task: Classification, pieces: int) -> None:
    x, y = torch.randn(8, 1, 12, 12), torch.randint(10, (8,))
    whole, split = linear_model(), linear_model()
    split.load_state_dict(whole.state_dict())
    recipe = Recipe(amp="off")
    expected, _ = backward(whole, x, y, task, recipe, 8)
    loss, kept = backward(split, x, y, task, recipe, pieces)
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


def test_out_of_memory_halves_the_micro_batch_and_says_so(
    task: Classification, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = torch.randn(16, 1, 12, 12), torch.randint(10, (16,))
    model = Hungry(5)
    _, kept = backward(model, x, y, task, Recipe(amp="off"), 16)
    assert kept == 4
    assert "micro-batches of 4 images" in caplog.text
    reference = linear_model()
    reference.load_state_dict(model.inner.state_dict())
    backward(reference, x, y, task, Recipe(amp="off"), 16)
    assert torch.allclose(model.inner[1].weight.grad, reference[1].weight.grad, atol=1e-6)
    with pytest.raises(EvaluationError, match="out of memory with one image at a time"):
        backward(Hungry(0), x, y, task, Recipe(), 16)


def test_frozen_parameters_and_statistics_stay(task: Classification) -> None:
    tuning = FineTuning(backbone=lambda name: name.split(".")[0] in ("0", "1"))
    torch.manual_seed(0)
    start = small()
    model = train_model(
        lambda: small_from(start), task, Recipe(freeze=1, weight_decay=0.1), epochs=1, seed=0, device=CPU, tuning=tuning
    ).model
    for name, value in model.state_dict().items():
        kept = torch.equal(value, start.state_dict()[name])
        assert kept == (name.split(".")[0] in ("0", "1")), name
    thawed = train_model(
        lambda: small_from(start), task, Recipe(freeze=1), epochs=2, seed=0, device=CPU, tuning=tuning
    ).model
    assert not torch.equal(thawed[0].weight, start[0].weight)


def small_from(other: nn.Module) -> nn.Module:
    model = small()
    model.load_state_dict(other.state_dict())
    return model


def test_streamed_data_trains(tmp_path: Path) -> None:
    digits = load_data("digits", image_size=12)
    assert isinstance(digits.train, ArraySplit)
    for index in range(120):
        image, label = digits.train.images_NCHW[index, 0].numpy(), int(digits.train.labels_N[index])
        (tmp_path / "train" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "train" / str(label) / f"{index}.png")
    task = Classification(load_data(f"folder:{tmp_path}", image_size=12, val_size=20, stream=True))
    recipe = Recipe(batch_size=20, workers=0)
    first = train_model(small, task, recipe, epochs=1, seed=0, device=CPU)
    assert 0 <= first.metrics["accuracy"] <= 1
    assert first.metrics["train_loss"] < 3
    broken = next((tmp_path / "train").glob("*/*.png"))
    broken.write_bytes(b"no image")
    with pytest.raises(UsageError, match=rf"^corrupt image {broken}"):
        train_model(small, task, Recipe(batch_size=20, workers=1), epochs=1, seed=0, device=CPU)
