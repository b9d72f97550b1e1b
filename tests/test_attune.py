"""`attune.search`: over objects that exist in this file alone, inside of a running event loop; what workers get of them."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attune
from attune.keeping import keep_data, keep_function, keep_network
from evaluators.tasks import TASKS
from spaces.errors import UsageError
from spaces.plugins import bring


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def net() -> Net:
    torch.manual_seed(0)
    return Net()


class Pictures:
    """Rows of (2, 8, 6) with values on both sides of 0, as a transform leaves them."""

    classes = ("left", "middle", "right")

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(index)) * 2 + 1, index % 3


HERE = os.getpid()


def train(model: nn.Module, *, epochs: int, seed: int) -> dict[str, float]:
    """Tells by its score what it was given, and where."""
    state, plain = model.state_dict(), net().state_dict()
    kept = sum(torch.equal(state[key], value) for key, value in plain.items()) / len(plain)
    with torch.no_grad():
        model.head.bias += 1  # type: ignore[operator]
    return {"score": kept + epochs / 10 + len(state) / 1000 - (os.getpid() == HERE)}


@pytest.mark.slow
def test_a_network_and_its_training_that_only_this_process_knows_are_searched(tmp_path: Path, ray_here: None) -> None:
    folder = tmp_path / "run"

    def search(trials: int) -> attune.Run:
        return attune.search(
            net(),
            train=train,
            metric="score",
            budget="2x",
            trials=trials,
            epochs=3,
            attentions=["none", "se", "eca", "cbam"],
            input_size=(2, 8, 6),
            run=folder,
            settings={"search.sampler": "random", "resources": {"concurrency": 1}},
        )

    async def cell() -> attune.Run:  # as in Jupyter, whose cells run inside of an event loop
        return search(3)

    run = asyncio.run(cell())
    assert len(run.searched) == 3
    assert run.metric.name == "score"
    told = {str(one.architecture): one.score for one in run.searched.itertuples()}
    assert min(told.values()) == pytest.approx(1 + 0.3 + 0.012), (
        "the plain one, with its own weights, in another process"
    )
    assert max(told.values()) > 1.312, "attention beside them"
    best = run.best()
    assert type(best.model).__name__ == "Net"
    assert torch.equal(best.model.head.bias, net().head.bias + 1), "as the training left it"
    assert len(best.model.state_dict()) > len(net().state_dict())
    shown = run._repr_html_()
    assert shown.count("<tr>") == 1 + len(run.front)
    assert "<svg" in shown
    assert len(search(4).searched) == 4, "a folder that holds the same run goes on"
    with torch.no_grad():
        other = net()
        other.head.weight += 1
    with pytest.raises(UsageError, match=r"cannot go on, since .*space"):
        attune.search(other, train=train, metric="score", run=folder, input_size=(2, 8, 6), epochs=3, budget="2x")


def test_what_a_network_sees_is_what_the_data_give(tmp_path: Path) -> None:
    section, shape = keep_data(Pictures(), tmp_path)
    assert shape == (2, 8, 6)
    task = TASKS["classification"].model_validate({"name": "classification"}).build(section, seed=0)
    given = torch.stack([Pictures()[index][0] for index in range(30)])
    seen = torch.cat([x for x, _ in task.batches("train", batch_size=8, device=torch.device("cpu"))])
    nearest = (seen[:, None] - given[None]).abs().flatten(2).amax(2).amin(1)
    assert nearest.max() < 5e-3, "but for 16 bits"
    assert task.describe()["class_names"] == ["left", "middle", "right"]


def test_data_are_arrays_too_and_several_splits(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 8, 6), dtype=np.uint8)
    labels = np.arange(12) % 3
    other = (torch.from_numpy(images), torch.from_numpy(labels))
    section, shape = keep_data([(images, labels), other, other], tmp_path)
    assert shape == (1, 8, 6)
    assert set(section) == {"name"}, "whole numbers are normalised as those of any picture"
    task = TASKS["classification"].model_validate({"name": "classification"}).build(section, seed=0)
    assert (task.count("train"), task.count("val"), task.count("test")) == (12, 12, 12)
    for wrong, words in (
        (5, "data 5 is a int; valid"),
        ([(images[0], 0), (images[0, :4], 1)] * 2, "row 1 of the data is 4x6"),
        ([(images[0], 0, 1)] * 3, r"row 0 of the data .* valid: \(picture, class\)"),
    ):
        with pytest.raises(UsageError, match=words):
            keep_data(wrong, tmp_path)


def test_a_name_is_of_one_object_alone(tmp_path: Path) -> None:
    name, shape, outputs = keep_network(net(), tmp_path, (2, 8, 6))
    assert (shape, outputs) == ((2, 8, 6), 3)
    assert keep_network(net(), tmp_path, (2, 8, 6))[0] == name
    with torch.no_grad():
        other = net()
        other.head.bias += 1
    assert keep_network(other, tmp_path, (2, 8, 6))[0] != name
    made = bring(name, "backbone")
    assert torch.equal(made(num_classes=3, in_chans=2).head.weight, net().head.weight)
    assert made(num_classes=5, in_chans=2).head.out_features == 5
    with pytest.raises(ValueError, match="takes 2 channels, the data have 3"):
        made(num_classes=3, in_chans=3)

    def score_of(number: float) -> Callable[..., Any]:
        return lambda model: {"accuracy": number}

    assert keep_function(score_of(0.5), tmp_path)[1] == keep_function(score_of(0.5), tmp_path)[1]
    assert keep_function(score_of(0.5), tmp_path)[1] != keep_function(score_of(0.6), tmp_path)[1]
    with pytest.raises(UsageError, match="cannot be sent to the processes that evaluate"):
        keep_function(score_of(Lock()), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("nothing tells what to train on", {"model": "attune_tiny"}),
        ("valid: the name of a backbone, or a network", {"model": 5, "data": "digits"}),
        ("valid: input_size= and classes=", {"model": "attune_tiny", "train": train}),
        ("without it the task has its own", {"model": "attune_tiny", "data": "digits", "metric": "loss"}),
        ("train 5 is a int", {"model": net(), "train": 5, "input_size": (2, 8, 6)}),
        ("unknown key 'search.trails'", {"model": "attune_tiny", "data": "digits", "settings": {"search.trails": 4}}),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_run(
    words: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        attune.search(**arguments, run=tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
