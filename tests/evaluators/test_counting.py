"""Counting: one convention in whatever way a module is written, and nothing that is left out unseen."""

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from timm.layers import SEModule
from torch import nn

from benchmarks.plain_attention import Times
from evaluators.counting import METRICS, count_module
from spaces.attention import attention_type, create_attention, list_attentions
from spaces.network import build_model
from spaces.placement import Architecture


@pytest.mark.parametrize("name", list_attentions())
def test_every_operator_of_every_attention_is_counted(name):
    """Fails when a module emits an operator that is in no list; meta tensors count as real ones do."""
    arrangements = ("series", "parallel") if "arrangement" in attention_type(name).genes else (None,)
    for arrangement in arrangements:
        module = create_attention(name, 64, arrangement=arrangement)
        real = count_module(module, torch.zeros(1, 64, 14, 10))
        assert real.uncounted == ()
        assert real.total[0] == attention_type(name).params(64, arrangement=arrangement)
        with torch.device("meta"):
            meta = count_module(create_attention(name, 64, arrangement=arrangement), torch.empty(1, 64, 14, 10))
        assert meta.total.tolist() == real.total.tolist()


def test_squeeze_excite_costs_the_same_in_whatever_way_it_is_written():
    """Means and linear layers, timm's means and 1x1 convolutions, or a pooling layer."""
    pooled = Times(nn.AdaptiveAvgPool2d(1), nn.Conv2d(64, 4, 1), nn.ReLU(), nn.Conv2d(4, 64, 1), nn.Sigmoid())
    forms = create_attention("se", 64), SEModule(64, rd_channels=4), pooled
    first, *others = (count_module(form, torch.zeros(1, 64, 14, 10)).total.tolist() for form in forms)
    assert others == [first, first]


@pytest.mark.parametrize(("height", "width"), [(14, 14), (3, 5)])
def test_double_attention_costs_what_the_paper_multiplies(height, width):
    """Four 1x1 convolutions, G = A B^T and Z = G V, whether the map has more positions than channels or fewer."""
    channels, hidden, positions = 64, 32, height * width
    macs = positions * (4 * channels * hidden + 2 * hidden * hidden)
    counted = count_module(create_attention("double_attention", channels), torch.zeros(1, channels, height, width))
    assert counted.total[METRICS.index("macs")] == macs


def test_ema_costs_both_products_of_every_group():
    """Per group of q channels: the 1x1 convolution on H + W positions, the 3x3 one, and two products of q on each position."""
    channels, groups, height, width = 64, 32, 6, 5
    q, positions = channels // groups, height * width
    macs = groups * (q * q * (height + width) + 9 * q * q * positions + 2 * q * positions)
    counted = count_module(create_attention("ema", channels, groups=groups), torch.zeros(1, channels, height, width))
    assert counted.total[METRICS.index("macs")] == macs


def test_srm_costs_one_mean_and_one_deviation():
    """As in published code: two reductions of the map, and no product."""
    counted = count_module(create_attention("srm", 16), torch.zeros(1, 16, 6, 5)).total
    assert counted[METRICS.index("macs")] == 0
    assert 2 * 16 * 30 <= counted[METRICS.index("flops")] <= 2 * 16 * 30 + 4 * 16


def test_an_operator_that_nobody_counts_is_reported():
    class Strange(nn.Module):
        def forward(self, x_BCHW):
            return torch.linalg.svdvals(x_BCHW)

    assert count_module(Strange(), torch.zeros(1, 2, 4, 4)).uncounted == ("aten::linalg_svdvals",)


class Written(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x_BCHW):
        return self.function(x_BCHW)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: nn.functional.adaptive_avg_pool2d(x, 1),
        lambda x: nn.functional.adaptive_max_pool2d(x, 1),
        lambda x: nn.functional.avg_pool2d(x, 8),
        lambda x: nn.functional.max_pool2d(x, 8),
        lambda x: x.mean((2, 3)),
        lambda x: x.amax((2, 3)),
        lambda x: x.amax(1),
        lambda x: x.max(1)[0],
        lambda x: x.flatten(2).max(2).values,
        lambda x: x.sum(1) / 4,
    ],
)
def test_pooling_costs_one_flop_per_element_in_whatever_way_it_is_written(pool):
    assert count_module(Written(pool), torch.zeros(1, 4, 8, 8)).total.tolist() == [0, 0, 256, 0]


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: torch.einsum("bci,bcj->bij", x, x),
        lambda x: x.transpose(1, 2) @ x,
        lambda x: torch.bmm(x.transpose(1, 2), x),
        lambda x: torch.baddbmm(torch.zeros(1, 6, 6), x.transpose(1, 2), x),
    ],
)
def test_a_matrix_product_costs_the_same_in_whatever_way_it_is_written(mix):
    assert count_module(Written(mix), torch.zeros(1, 5, 6)).total.tolist() == [0, 180, 180, 36]


def test_scaled_dot_product_attention_costs_its_two_products():
    fused = Written(lambda x: nn.functional.scaled_dot_product_attention(x, x, x))
    spelled = Written(lambda x: (x @ x.transpose(-1, -2)).softmax(-1) @ x)
    x_BLE = torch.zeros(1, 6, 5)
    assert count_module(fused, x_BLE).total.tolist() == count_module(spelled, x_BLE).total.tolist() == [0, 360, 360, 66]


def test_max_of_two_maps_is_elementwise():
    assert count_module(Written(lambda x: torch.max(x, x + 1)), torch.zeros(1, 4, 8, 8)).total[2] == 0


def test_a_plain_network_costs_what_fvcore_says_plus_its_max_pooling():
    model = build_model(Architecture.plain("resnet18"), 10).eval()
    theirs = FlopCountAnalysis(model, torch.zeros(1, 3, 64, 64)).unsupported_ops_warnings(False).total()
    ours = count_module(model, torch.zeros(1, 3, 64, 64)).total[2]
    assert ours == theirs + 64 * 32 * 32


def test_counting_leaves_the_module_as_it_was():
    model = build_model(Architecture.plain("resnet18"), 10).train()
    model.layer1.eval()
    count_module(model, torch.zeros(1, 3, 32, 32))
    assert model.training
    assert not model.layer1[0].bn1.training
    assert model.layer2[0].bn1.training
