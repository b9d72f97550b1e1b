"""Counting: one convention in whatever way a module is written, and nothing that is left out unseen."""

import warnings

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from timm.layers import SEModule
from torch import nn

from benchmarks.plain_attention import Times
from evaluators import counting
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


def test_an_operator_that_nobody_counts_is_reported(caplog, recwarn):
    class Strange(nn.Module):
        def forward(self, x_BCHW):
            return torch.linalg.svdvals(x_BCHW)

    strange = Strange()
    strange.unused = nn.Linear(2, 2)
    assert count_module(strange, torch.zeros(1, 2, 4, 4)).uncounted == ("aten::linalg_svdvals",)
    assert not caplog.records  # fvcore would say it in many lines
    assert not list(recwarn)


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
        lambda x: x.max(),
    ],
)
def test_pooling_costs_one_flop_per_element_in_whatever_way_it_is_written(pool):
    assert count_module(Written(pool), torch.zeros(1, 4, 8, 8)).total.tolist() == [0, 0, 256, 0]


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: torch.einsum("bci,bcj->bij", x, x),
        lambda x: torch.einsum("b c i, b c j -> b i j", x, x),
        lambda x: torch.einsum("bci,bcj", x, x),
        lambda x: x.transpose(1, 2) @ x,
        lambda x: torch.bmm(x.transpose(1, 2), x),
        lambda x: torch.baddbmm(torch.zeros(1, 6, 6), x.transpose(1, 2), x),
    ],
)
def test_a_matrix_product_costs_the_same_in_whatever_way_it_is_written(mix):
    assert count_module(Written(mix), torch.zeros(1, 5, 6)).total.tolist() == [0, 180, 180, 36]


@pytest.mark.parametrize(
    ("multiply", "macs", "elements"),
    [
        (lambda x: torch.mm(x[0], x[0].T), 3 * 4 * 3, 9),
        (lambda x: torch.baddbmm(x[:, :, :1], x, x.new_zeros(2, 4, 5)), 2 * 3 * 4 * 5, 30),
        (lambda x: torch.einsum("abc,abd,aec->bde", x, x, x), 2 * 3 * 4 * 4 * 3, 36),
        (lambda x: torch.einsum("abc,cf->abf", x, x.new_zeros(4, 12347)), 2 * 3 * 4 * 12347, 6 * 12347),
    ],
)
def test_products_cost_what_they_multiply_exactly(multiply, macs, elements):
    """Two maps of 3 x 4, with others, and with three at once; fvcore alone rounds the last to four digits."""
    assert count_module(Written(multiply), torch.zeros(2, 3, 4)).total.tolist() == [0, macs, macs, elements]


def test_scaled_dot_product_attention_costs_its_two_products():
    fused = Written(lambda x: nn.functional.scaled_dot_product_attention(x, x, x))
    spelled = Written(lambda x: (x @ x.transpose(-1, -2)).softmax(-1) @ x)
    x_BLE = torch.zeros(1, 6, 5)
    assert count_module(fused, x_BLE).total.tolist() == count_module(spelled, x_BLE).total.tolist() == [0, 360, 360, 66]


def test_attention_of_other_queries_keys_and_values_costs_its_two_products():
    """Two batches of three heads, 4 queries, 6 keys of 5 channels, and values of 7."""
    q, k, v = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 6, 5), torch.zeros(2, 3, 6, 7)
    scores, mixed = 2 * 3 * 4 * 6, 2 * 3 * 4 * 7
    fused = Written(lambda x: nn.functional.scaled_dot_product_attention(q + x, k, v))
    products = scores * (5 + 7)
    assert count_module(fused, torch.zeros(1)).total.tolist() == [0, products, products, scores + mixed]


@pytest.mark.parametrize(
    ("resample", "shape", "macs", "flops"),
    [
        (lambda x: nn.functional.affine_grid(x, (1, 4, 6, 5), align_corners=False), (1, 2, 3), 180, 180),
        (lambda x: nn.functional.interpolate(x, scale_factor=2, mode="linear"), (1, 3, 5), 0, 2 * 30),
        (lambda x: nn.functional.interpolate(x, scale_factor=2, mode="bilinear"), (1, 3, 5, 2), 0, 4 * 120),
        (lambda x: nn.functional.interpolate(x, scale_factor=2, mode="bicubic"), (1, 3, 5, 2), 0, 16 * 120),
    ],
)
def test_resampling_costs_its_weights(resample, shape, macs, flops):
    """By element that comes out: its source's coordinates are 3 multiply-adds each, its neighbours 2, 4 or 16."""
    assert count_module(Written(resample), torch.zeros(shape)).total.tolist() == [0, macs, flops, 0]


@pytest.mark.parametrize(
    ("convolve", "shape"),
    [
        (lambda x, w: torch.conv1d(x, w[:, :, 0, 0]), (1, 4, 9)),
        (lambda x, w: torch.conv3d(x, w, None, 2, (1, 0, 1), 1, 1), (1, 4, 5, 6, 7)),
        (lambda x, w: torch.conv2d(x, w[:, :, 0], stride=(2, 1), padding=[2, 1]), (2, 4, 9, 8)),
        (lambda x, w: torch.conv2d(x, w[:, :, 0], None, 1, 0, 2), (1, 4, 9, 11)),
        (lambda x, w: torch.conv2d(x, w[:, :2, 0], groups=2, dilation=[2]), (1, 4, 9, 11)),
        (lambda x, w: torch.conv2d(x, w[:, :, 0], padding="valid", stride=2), (1, 4, 9, 8)),
        (lambda x, w: torch.conv2d(x, w[:, :, 0], padding="same"), (1, 4, 9, 8)),
        (lambda x, w: torch.conv2d(x, w[:, :, 0, :, :4], padding="same", dilation=(1, 3)), (1, 4, 9, 8)),
        (lambda x, w: torch.conv2d(x, w[:, :, :2, :, 0], w[:, 0, 0, 0, 0], padding="same"), (1, 4, 9, 8)),
        (lambda x, w: torch.conv3d(x, w[:, :, :, :2, :4], padding="same"), (1, 4, 9, 8, 7)),
    ],
)
def test_convolutions_cost_the_same_on_meta_tensors_as_on_real_ones(convolve, shape):
    """However they are called: what is left out, and one number for all dimensions or one for each."""

    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(8, 4, 3, 3, 5))

        def forward(self, x):
            outcome = convolve(x, self.weight)
            self.shape = outcome.shape
            return outcome

    real = Convolution()
    counted = count_module(real, torch.zeros(shape)).total.tolist()
    assert counted[-1] == real.shape.numel()
    with torch.device("meta"):
        meta = Convolution()
        assert count_module(meta, torch.empty(shape)).total.tolist() == counted
    assert meta.shape == real.shape


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_module_has_its_counts(device):
    """A convolution, its normalisation (2 per element), and a linear layer, on 6 x 6 pixels."""
    with torch.device(device):
        named = {"conv": nn.Conv2d(3, 8, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(8), "flat": nn.Flatten()}
        network = nn.Sequential()
        for name, module in {**named, "linear": nn.Linear(8 * 36, 10)}.items():
            network.add_module(name, module)
        counts = count_module(network, torch.empty(1, 3, 6, 6))
    assert METRICS == ("params", "macs", "flops", "activations")
    assert {name: vector.tolist() for name, vector in counts.by_module.items()} == {
        "": [216 + 16 + 2890, 7776 + 2880, 7776 + 576 + 2880, 288 + 10],
        "conv": [216, 7776, 7776, 288],
        "norm": [16, 0, 576, 0],
        "flat": [0, 0, 0, 0],
        "linear": [2890, 2880, 2880, 10],
    }
    assert counts.total.tolist() == counts.by_module[""].tolist()
    assert counts.total.dtype == np.int64


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_network_that_fails_keeps_its_mode_and_stops_no_other_trace(device):
    with torch.device(device):
        x_BC = torch.empty(1, 3)
        network = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
        network[1].eval()
        with pytest.raises(RuntimeError, match=r"reduction dim|shapes"):
            count_module(network, x_BC)
        assert [module.training for module in network.modules()] == [True, True, False]
        assert count_module(nn.Linear(3, 4), x_BC).total.tolist() == [16, 12, 12, 4]


def test_no_gradient_is_kept():
    seen = []
    count_module(Written(lambda x: seen.append(torch.is_grad_enabled()) or x * 2), torch.zeros(1, 2, 3, 3))
    assert set(seen) == {False}


def test_normalisation_by_the_batch_itself_costs_the_same_on_meta_tensors():
    counted = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            network = nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False), nn.Conv2d(4, 4, 1))
            counted.append(count_module(network, torch.empty(2, 4, 3, 3)).total.tolist())
    assert counted[0] == counted[1]


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


@pytest.mark.parametrize("padding", ["same", "valid", 1, (2, 0, 1)])
@pytest.mark.parametrize(("dims", "kernel"), [(1, (2,)), (2, (3, 2)), (3, (2, 3, 4))])
def test_a_convolution_that_is_counted_gives_what_torch_gives(dims, kernel, padding):
    """Counting may run a network on real tensors, whose values decide what comes next."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, *(9, 8, 7)[:dims], generator=generator)
    w, bias = torch.randn(6, 2, *kernel, generator=generator), torch.randn(6, generator=generator)
    padding = padding[:dims] if isinstance(padding, tuple) else padding
    plain = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[dims]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the copy that an even kernel needs
        for stride, dilation in ((1, 1), (1, 2), (1, (3, 1, 2)[:dims]), (2, 1)):
            if stride != 1 and padding == "same":
                continue  # torch has none
            options = {"bias": bias, "padding": padding, "dilation": dilation, "groups": 2, "stride": stride}
            torch.testing.assert_close(counting._convolution(dims, x, w, **options), plain(x, w, **options))
    torch.testing.assert_close(counting._convolution(dims, x, w, groups=2), plain(x, w, groups=2))
