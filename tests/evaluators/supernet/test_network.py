"""The network of all choices: each path is its architecture, and attention is made when a path needs it."""

from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import nn

from evaluators.supernet.network import Supernet
from evaluators.supernet.training import fair_paths
from spaces import Architecture, NetworkSpec, SearchSpace
from spaces.attention import list_attentions
from tests.evaluators.architectures import PLAIN, RICH

NETWORK = NetworkSpec.classifier(32, num_classes=10, in_chans=1)


def test_a_path_of_the_supernet_is_the_architecture() -> None:
    """Its weights under the architecture's own names give the same network, whatever else the supernet holds."""
    torch.manual_seed(0)
    net = Supernet("attune_tiny", NETWORK)
    x = torch.randn(4, 1, 32, 32)
    for arch in (RICH, PLAIN, Architecture.parse("attune_tiny:eca@block,none,se-r4")):
        net.eval()
        net.select(arch)
        model = NETWORK.build(arch).eval()
        weights = net.weights(arch)
        assert set(weights) == set(model.state_dict())
        model.load_state_dict(weights)
        assert torch.allclose(model(x), net(x), atol=1e-6)


def test_attention_weights_are_made_when_needed_and_shared() -> None:
    net = Supernet("attune_tiny", replace(NETWORK, identity_start=True))
    assert not [name for name, _ in net.named_parameters() if ".choices." in name]
    made = net.select(RICH)
    assert made
    assert net.select(PLAIN) == []
    assert net.select(RICH) == [], "the second time the same weights serve"


def test_a_space_of_a_billion_makes_only_what_its_paths_need() -> None:
    genes = {"reductions": (4, 8, 16), "kernels": (3, 5, 7), "groups": (1, 2, 4), "sites": ("slot", "stage")}
    space = SearchSpace.build("resnet18", tuple(list_attentions()), **genes)
    assert space.size > 10**9
    net = Supernet("resnet18", NetworkSpec.classifier(16, num_classes=10, identity_start=True)).eval()
    paths = list(islice(fair_paths(space, np.random.default_rng(0)), 3))
    for path in paths:
        net.select(path)
        assert torch.isfinite(net(torch.randn(2, 3, 16, 16))).all()
    placed = [pair for path in paths for pair in zip(net.stages, path.placements, strict=True)]
    sites = sum(len(places[placement.site]) for places, placement in placed if placement.site)
    assert 0 < sum(len(switch.choices) for switch in net.switches) <= sites


def test_a_step_is_the_mean_over_the_paths_that_a_weight_was_on() -> None:
    torch.manual_seed(0)
    net = Supernet("attune_tiny", NETWORK).eval()
    x, y = torch.randn(4, 1, 32, 32), torch.arange(4)
    stem, head = (next(weight for name, weight in net.named_parameters() if end in name) for end in ("conv1", "fc"))

    def gradients(*paths: Architecture) -> list[torch.Tensor]:
        net.zero_grad(set_to_none=True)
        for path in paths:
            net.select(path)
            nn.functional.cross_entropy(net(x), y).backward()
        net.average_gradients(len(paths))
        squeeze = next(iter(net.stages[0]["slot"][0].choices["se-r2@slot"].parameters()))
        return [weight.grad.clone() for weight in (stem, head, squeeze) if weight.grad is not None]

    other = Architecture.parse("attune_tiny:se-r2,none,none")
    of_rich, of_other = gradients(RICH), gradients(other)
    for both, a, b in zip(gradients(RICH, other), of_rich, of_other, strict=True):
        torch.testing.assert_close(both, (a + b) / 2)
    stem_grad, _, squeeze_grad = gradients(RICH, PLAIN)
    torch.testing.assert_close(squeeze_grad, of_rich[2])
    torch.testing.assert_close(stem_grad, (of_rich[0] + gradients(PLAIN)[0]) / 2)
