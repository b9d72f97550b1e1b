"""Zero-cost proxies: their formulas, and that they see attention."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from evaluators.proxies import PROXIES, ProxyEvaluator, naswot, snip, synflow
from evaluators.tasks.classification import Classification
from spaces.errors import UsageError
from tests.evaluators.architectures import PLAIN, RICH

CPU = torch.device("cpu")


def relu_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def test_proxies_follow_their_formulas() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(6, 1, 8, 8), torch.randint(10, (6,))
    model = relu_net()
    loss = cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    pairs = list(zip(model.parameters(), gradients, strict=True))
    assert snip(model, x, y, cross_entropy) == pytest.approx(
        sum(float((w * g).detach().abs().sum()) for w, g in pairs), rel=1e-5
    )

    on = (model[1](model[0](x)).flatten(1) > 0).numpy()
    kernel = np.array([[(a == b).sum() for b in on] for a in on], dtype=float)
    assert naswot(model, x, y, cross_entropy) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)

    before = [weight.detach().clone() for weight in model.parameters()]
    value = synflow(model, x, y, cross_entropy)
    assert all(torch.allclose(a, b) for a, b in zip(before, model.parameters(), strict=True)), "weights come back"
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    assert synflow(linear, x, y, cross_entropy) == pytest.approx(
        math.log(float(linear[1].weight.abs().sum())), rel=1e-6
    )
    assert math.isfinite(value)


@pytest.mark.parametrize("proxy", sorted(PROXIES))
def test_every_proxy_scores_an_attention_architecture(clutter: Classification, proxy: str) -> None:
    evaluator = ProxyEvaluator(clutter, proxy, batch_size=16, device=CPU)
    first = evaluator.evaluate(RICH, fidelity=2, seed=0)
    assert math.isfinite(first["score"])
    assert evaluator.evaluate(RICH, fidelity=2, seed=0)["score"] == first["score"]
    plain = evaluator.evaluate(PLAIN, fidelity=2, seed=0)["score"]
    # Absolute weights drive every sigmoid to 1: synflow does not see gates at all (docs/evaluators.md).
    assert (plain == pytest.approx(first["score"], rel=1e-9)) == (proxy == "synflow")


def test_unknown_proxy(clutter: Classification) -> None:
    with pytest.raises(UsageError, match=r"unknown proxy 'snipp'.*did you mean 'snip'"):
        ProxyEvaluator(clutter, "snipp")
