"""What a training writes: checkpoints that a killed one goes on from, and weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from evaluators.recipe import Recipe
from evaluators.tasks.classification import Classification
from evaluators.training.checkpoint import save_weights
from evaluators.training.loop import train_model
from tests.evaluators.training.networks import small

CPU = torch.device("cpu")


def test_weights_are_saved_whole(tmp_path: Path) -> None:
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
def test_a_killed_training_goes_on_to_the_same_weights(
    task: Classification, tmp_path: Path, extra: dict[str, float]
) -> None:
    recipe = Recipe.model_validate(extra)
    file = tmp_path / "checkpoint.pt"
    whole = train_model(small, task, recipe, epochs=3, seed=0, device=CPU)
    with pytest.raises(Killed):
        train_model(small, task, recipe, epochs=3, seed=0, device=CPU, checkpoint=file, report=kill_after(2))
    seen: list[int] = []
    resumed = train_model(
        small, task, recipe, epochs=3, seed=0, device=CPU, checkpoint=file, report=lambda e, _: seen.append(e) or True
    )
    assert seen == [3]
    assert torch.equal(flat(resumed.model), flat(whole.model))


@pytest.mark.parametrize(
    ("values", "continued"), [({"horizon": 5}, True), ({"schedule": "constant"}, True), ({}, False)]
)
def test_a_longer_fidelity_continues_a_shorter_one_where_the_schedule_allows(
    task: Classification, tmp_path: Path, values: dict[str, object], continued: bool
) -> None:
    recipe = Recipe.model_validate(values)
    file = tmp_path / "checkpoint.pt"
    train_model(small, task, recipe, epochs=1, seed=0, device=CPU, checkpoint=file)
    seen: list[int] = []
    longer = train_model(
        small, task, recipe, epochs=2, seed=0, device=CPU, checkpoint=file, report=lambda e, _: seen.append(e) or True
    )
    assert seen == ([2] if continued else [1, 2])
    assert torch.equal(flat(longer.model), flat(train_model(small, task, recipe, epochs=2, seed=0, device=CPU).model))


def test_another_seed_does_not_continue_the_checkpoint(task: Classification, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    train_model(small, task, Recipe(), epochs=1, seed=0, device=CPU, checkpoint=file)
    seed1 = train_model(small, task, Recipe(), epochs=1, seed=1, device=CPU, checkpoint=file).model
    assert torch.equal(flat(seed1), flat(train_model(small, task, Recipe(), epochs=1, seed=1, device=CPU).model))


def flipped(content: bytes, at: float) -> bytes:
    """The same with a hundred bytes inverted at that part of it."""
    start = int(at * len(content))
    return content[:start] + bytes(255 - one for one in content[start : start + 100]) + content[start + 100 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"no checkpoint at all",
        *(lambda content, at=at: flipped(content, at) for at in (0.05, 0.3, 0.5, 0.8)),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_training_begins_anew(
    task: Classification, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / "checkpoint.pt"
    whole = train_model(small, task, Recipe(), epochs=2, seed=0, device=CPU).model
    with pytest.raises(Killed):
        train_model(small, task, Recipe(), epochs=2, seed=0, device=CPU, checkpoint=file, report=kill_after(1))
    file.write_bytes(damage(file.read_bytes()))
    again = train_model(small, task, Recipe(), epochs=2, seed=0, device=CPU, checkpoint=file).model
    assert torch.equal(flat(again), flat(whole))
    (said,) = [record.getMessage() for record in caplog.records]
    assert str(file) in said
    assert "begins anew" in said


@pytest.mark.parametrize("content", [{}, [1, 2], {"model": {}}, torch.zeros(3)])
def test_a_file_that_is_no_checkpoint_of_the_network_is_not_taken(
    task: Classification, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: object
) -> None:
    file = tmp_path / "checkpoint.pt"
    torch.save(content, file)
    train_model(small, task, Recipe(), epochs=1, seed=0, device=CPU, checkpoint=file)
    assert "no checkpoint of this network" in caplog.text
