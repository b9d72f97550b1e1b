"""Training passes that are replayed: the same training, and none where a recording would lose something."""

import logging

import pytest
import torch
from torch import Tensor, nn

from evaluators.recipe import Recipe
from evaluators.tasks.classification import Classification
from evaluators.training import graphs, loop
from evaluators.training.graphs import Replayed, replayed
from evaluators.training.loop import train_model
from spaces import Architecture
from tests.evaluators.training.networks import small

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")
GPU = torch.device("cuda")
RECIPE = Recipe(batch_size=32, amp="off", ema=0.9)


class LooksAtValues(nn.Module):
    """What a graph cannot hold: the device is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = small()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.inside(x_BCHW) if float(x_BCHW.detach().sum()) > -1e9 else self.inside(-x_BCHW)


class Counts(nn.Module):
    """What a graph would lose without an error: every pass is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.passes = small(), 0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.passes += 1
        logits_BK: Tensor = self.inside(x_BCHW) * self.passes
        return logits_BK


def attending(task: Classification) -> nn.Module:
    return task.network.build(Architecture.parse("attune_tiny:se-r4,cbam@block,eca@stage"))


@gpu
def test_a_replayed_training_is_the_training(task: Classification, monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> tuple[Tensor, float]:
        trained = train_model(lambda: attending(task), task, RECIPE, epochs=2, seed=0, device=GPU)
        state = trained.model.state_dict().values()
        return torch.cat([value.float().flatten() for value in state]), trained.metrics["train_loss"]

    torch.backends.cudnn.deterministic = True
    weights, loss = train()
    made: list[object] = []
    monkeypatch.setattr(loop, "replayed", lambda model, *_: made.append(model) or model)
    plain, plain_loss = train()
    torch.backends.cudnn.deterministic = False
    assert len(made) == 1
    assert loss == pytest.approx(plain_loss, rel=1e-2)
    assert float((weights - plain).norm() / plain.norm()) < 0.02


@gpu
def test_nothing_is_left_behind_and_odd_batches_go_through_the_network(task: Classification) -> None:
    torch.manual_seed(0)
    model = attending(task).to(GPU)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.cuda.get_rng_state()
    found = replayed(model, task, RECIPE, 32, GPU)
    assert isinstance(found, Replayed)
    assert torch.equal(torch.cuda.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    for count in (32, 7):
        assert found(torch.randn(count, 1, 12, 12, device=GPU)).shape == (count, 10)
    model.eval()
    with torch.inference_mode():
        x_BCHW = torch.randn(32, 1, 12, 12, device=GPU)
        assert torch.equal(found(x_BCHW), model(x_BCHW))


@gpu
@pytest.mark.parametrize("network", [LooksAtValues, Counts])
def test_what_a_graph_would_lose_is_trained_as_it_is(
    network: type[nn.Module], task: Classification, caplog: pytest.LogCaptureFixture
) -> None:
    model = network().to(GPU)
    with caplog.at_level(logging.INFO, logger=graphs.__name__):
        assert replayed(model, task, RECIPE, 32, GPU) is model
    assert "trained without CUDA graphs: " in caplog.text
    model(torch.randn(4, 1, 12, 12, device=GPU)).sum().backward()  # the device is still of use


def test_vectors_that_differ_are_told_apart() -> None:
    one = torch.tensor([1.0, 2.0, 2.0])
    assert graphs._difference(one, one) == 0
    assert graphs._difference(one, one + torch.tensor([0.3, 0.0, 0.0])) == pytest.approx(0.1)
    assert graphs._difference(one, one[:2]) == float("inf")
    assert graphs._difference(one, one * float("nan")) == float("inf")
