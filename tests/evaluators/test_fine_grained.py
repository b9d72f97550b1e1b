"""The losses of fine-grained recognition against slow forms of their formulas, in trainings, and where they are refused."""

import copy

import numpy as np
import pytest
import torch

from evaluators.fine_grained import channel_correlation, channels_of, mutual_channel
from evaluators.memory import training_memory
from evaluators.recipe import Recipe
from evaluators.supernet.training import train_supernet
from evaluators.tasks.classification import ClassificationConfig
from evaluators.training.evaluator import TrainingEvaluator
from spaces import Architecture, SearchSpace
from spaces.errors import UsageError

CPU = torch.device("cpu")
ARCH = Architecture.parse("attune_tiny:se-r4,none,cbam-r4-k3@block")


def task_of(**loss):
    return ClassificationConfig.model_validate({"name": "classification", **loss}).build(
        {"name": "cluttered_digits", "train_size": 64, "val_size": 32, "test_size": 10}, seed=0
    )


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_channels_are_shared_out_as_evenly_as_can_be() -> None:
    assert channels_of(3, 6) == [[0, 1], [2, 3], [4, 5]]
    assert channels_of(3, 8) == [[0, 1, 2], [3, 4, 5], [6, 7, -1]]
    sizes = [sum(one >= 0 for one in row) for row in channels_of(200, 2048)]
    assert (sizes.count(11), sizes.count(10)) == (
        48,
        152,
    )  # as the published code shares ResNet-50's among CUB's classes


@pytest.mark.parametrize("channels", [9, 11])
def test_mutual_channel_is_the_formula(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(4, channels, 3, 2, generator=generator)
    labels = torch.tensor([0, 2, 1, 2])
    torch.manual_seed(5)
    found = mutual_channel(features, labels, 3)
    torch.manual_seed(5)
    order = torch.rand(3, -(-channels // 3)).numpy()
    x = features.double().flatten(2).numpy()
    spread = softmax(x, 2)
    scores, diversity = np.zeros((4, 3)), []
    for k, row in enumerate(channels_of(3, channels)):
        own = [one for one in row if one >= 0]
        by_chance = np.argsort(order[k, : len(own)])
        kept = np.ones(len(own))
        kept[by_chance[: len(own) // 2]] = 0
        scores[:, k] = (x[:, own] * kept[None, :, None]).max(1).mean(1)
        diversity.append(spread[:, own].max(1).sum(1).mean() / len(own))
    wanted = -np.log(softmax(scores, 1)[np.arange(4), labels.numpy()]).mean()
    assert float(found[0]) == pytest.approx(wanted, rel=1e-5)
    assert float(found[1]) == pytest.approx(np.mean(diversity), rel=1e-5)


def test_diversity_is_greatest_where_channels_look_at_different_places() -> None:
    apart = torch.zeros(1, 4, 1, 4)
    apart[0, range(4), 0, range(4)] = 50
    alike = apart[:, :1].repeat(1, 4, 1, 1)
    labels = torch.tensor([0])
    assert float(mutual_channel(apart, labels, 2)[1]) == pytest.approx(1.0)
    assert float(mutual_channel(alike, labels, 2)[1]) == pytest.approx(0.5)


def test_channel_correlation_is_the_formula() -> None:
    features = torch.randn(5, 6, 2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 1, 0, 1, 2])
    found = channel_correlation(features, labels)
    v = 1 / (1 + np.exp(-features.detach().double().numpy().mean((2, 3))))
    same, apart = [], []
    for i in range(5):
        for j in range(5):
            if i != j:
                (same if labels[i] == labels[j] else apart).append(np.linalg.norm(v[i] - v[j]) / 6**0.5)
    assert float(found.detach()) == pytest.approx(np.mean(same) - np.mean(apart), rel=1e-5)
    found.backward()
    assert features.grad.isfinite().all()
    assert float(channel_correlation(features, torch.arange(5))) <= 0  # no two of one class


def test_a_watched_network_puts_out_its_map_in_training_alone_and_survives_copies() -> None:
    task = task_of(loss="mutual_channel")
    model = task.network.build(ARCH)
    keys = set(model.state_dict())
    task.watch(model, ARCH)
    assert set(model.state_dict()) == keys
    twin = copy.deepcopy(model)
    for one in (model, twin):
        found = one.train()(torch.randn(2, 1, 32, 32))
        assert found["logits"].shape == (2, 10)
        assert found["features"].shape == (2, 64, 4, 4)
        assert one.eval()(torch.randn(2, 1, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("loss", ["mutual_channel", "channel_correlation"])
def test_candidates_are_trained_with_it(loss: str) -> None:
    task = task_of(loss=loss, weight=0.5)
    assert task.identity != task_of().identity
    assert task.identity != task_of(loss=loss, weight=0.6).identity
    found = TrainingEvaluator(task, Recipe(preset="embedded"), device=CPU).evaluate(ARCH, fidelity=1, seed=0)
    plain = TrainingEvaluator(task_of(), Recipe(preset="embedded"), device=CPU).evaluate(ARCH, fidelity=1, seed=0)
    assert found["train_loss"] != plain["train_loss"]
    assert training_memory(ARCH, task=task, network=task.network, batch=8) > 0


def test_what_cannot_be_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="64 channels for 40 classes"):
        mutual_channel(torch.zeros(1, 64, 2, 2), torch.tensor([0]), 40)
    task = task_of(loss="channel_correlation")
    mixing = TrainingEvaluator(task, Recipe(preset="embedded", mixup=0.5), device=CPU)
    with pytest.raises(UsageError, match="valid with mixup 0 and cutmix 0"):
        mixing.evaluate(ARCH, fidelity=1, seed=0)
    space = SearchSpace.build("attune_tiny", ["none", "se"])
    with pytest.raises(UsageError, match="needs the map before the classifier, which the evaluator does not keep"):
        train_supernet(space, task, task.network, Recipe(preset="embedded"), epochs=1, seed=0, device=CPU)
