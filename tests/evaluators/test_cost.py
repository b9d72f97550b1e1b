"""Costs: the published numbers, the rules of counting, and the additive table against fvcore to the integer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from timm.layers import SEModule
from torch import nn

from benchmarks.plain_attention import Times
from evaluators.cost import METRICS, CostTable, count_cost, count_network
from evaluators.counting import count_module
from spaces.attention import attention_type, create_attention, list_attentions
from spaces.errors import UsageError
from spaces.network import NATIVE, NetworkSpec, build_model
from spaces.placement import SITES, Architecture
from spaces.space import SearchSpace
from tests.families import FAMILIES


@pytest.fixture(autouse=True, scope="module")
def _cache_of_its_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTUNE_CACHE", str(tmp_path_factory.mktemp("costs")))
        yield


def slots(placement):
    return f"none,{placement},{placement},{placement},{placement}"  # in every block with an expansion


def everywhere(placement):
    return ",".join([placement] * 4)


PUBLISHED = [  # the rows of published_costs.csv: parameters exactly, MACs within 0.5 %
    ("mobilenetv2_100:" + ",".join(["none"] * 5), 3_504_872, 300.8e6),
    ("mobilenetv2_100:" + slots("se-r24"), 3_888_208, 301.2e6),
    ("mobilenetv2_100:" + slots("cbam-r24-k7"), 3_889_808, 302.5e6),
    ("mobilenetv2_100:" + slots("coordinate-r32"), 3_950_648, 306.7e6),
    ("mobilenetv2_100:" + slots("coordinate_h-r24"), 3_890_744, None),
    ("mobilenetv2_100:" + slots("coordinate_w-r24"), 3_890_744, None),
    ("mobilenetv2_075:" + ",".join(["none"] * 5), 2_636_424, None),
    ("mobilenetv2_075:" + slots("se-r24"), 2_855_386, None),
    ("mobilenetv2_075:" + slots("coordinate-r32"), 2_891_631, None),
    ("mobilenetv2_050:" + ",".join(["none"] * 5), 1_968_680, None),
    ("mobilenetv2_050:" + slots("coordinate-r32"), 2_095_568, None),
    ("resnet50:" + everywhere("none"), 25_557_032, 4089e6),
    ("resnet50:" + everywhere("se-r16"), 28_088_024, None),
    ("resnet50:" + everywhere("cbam-r16-k7"), 28_089_624, None),
    ("resnet50:bam-r16@stage,bam-r16@stage,bam-r16@stage,none", 25_915_099, None),
    ("resnet50:eca-k3,eca-k5,eca-k5,eca-k7", 25_557_112, None),
    ("resnet50:" + everywhere("triplet-k7"), 25_561_832, 4136e6),
    ("resnet50:" + everywhere("coordinate-r32@block"), 27_474_864, None),
    # not in that file: networks of our own, their multiply-adds as published (mobilenext: see docs/backbones.md)
    ("mobilenext_140:" + everywhere("none"), 6_126_168, 590e6),
    ("hbonet_100:" + ",".join(["none"] * 5), 4_562_116, 305e6),
    ("proxylessnas_gpu:" + ",".join(["none"] * 5), 7_119_848, 465e6),
    ("proxylessnas_mobile:" + ",".join(["none"] * 5), 4_080_512, 320e6),
]


@pytest.mark.parametrize(("text", "params", "macs"), PUBLISHED)
def test_published_costs(text, params, macs):
    cost = count_cost(Architecture.parse(text))
    assert cost.params == params
    assert macs is None or cost.macs == pytest.approx(macs, rel=0.005)
    assert cost.uncounted_ops == ()


def test_published_costs_with_native_attention_replaced():
    arch = Architecture.parse("efficientnet_b0:" + ",".join(["coordinate-r32"] * 5))
    cost = count_cost(arch, native="replace")
    assert cost.params == 5_381_804
    assert cost.macs == pytest.approx(394e6, rel=0.005)


def test_gam_is_published_to_four_digits():
    """The sheet rounds this row to 16.05 M; the closed form of the paper's module gives 16,049,672."""
    cost = count_cost(Architecture.parse("resnet18:" + everywhere("gam-r16@block")))
    assert cost.params == 16_049_672
    assert cost.params == pytest.approx(16_050_000, abs=5_000)
    assert cost.macs == pytest.approx(2456e6, rel=0.005)


def test_the_json_form():
    cost = count_cost(Architecture.parse("resnet18:se-r16,none,none,eca-k3@stage")).to_dict()
    plain = count_cost(Architecture.plain("resnet18")).to_dict()
    assert list(cost) == ["architecture", *METRICS, "uncounted_ops", "stages"]
    assert [stage["placement"] for stage in cost["stages"]] == ["se-r16@slot", "none", "none", "eca-k3@stage"]
    assert cost["stages"][3]["params"] == 3
    for metric in METRICS:
        assert cost[metric] == plain[metric] + sum(stage[metric] for stage in cost["stages"])


# --- the rules of counting --------------------------------------------------------------------------------------------


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


# --- the additive table -----------------------------------------------------------------------------------------------

# Architectures of our own backbone, which is cheap and gets all of the library.
TINY = 30
TYPES = 8  # of attention, at random, in each of the others: a space of everything takes longer to build than to test
NAMED = [*FAMILIES, "attune_tiny"]


@pytest.mark.slow
@pytest.mark.parametrize("family", NAMED)
def test_the_table_equals_fvcore_on_the_whole_network_to_the_integer(family):
    """A random architecture of each; families take turns in how their built-in attention is treated."""
    backbone, number = FAMILIES.get(family, family), NAMED.index(family)
    rng = np.random.default_rng(number)
    names = ["none", *list_attentions(), "eca+cbam", "se+bam"]
    if family in FAMILIES:
        names = rng.choice(names, TYPES, replace=False).tolist()
    space = SearchSpace.build(backbone, names, reductions=[4, 16], arrangements=["series", "parallel"], sites=SITES)
    network = NetworkSpec.classifier(64, num_classes=10, native=NATIVE[number % len(NATIVE)])
    table = CostTable(backbone, network)
    for row in space.sample(rng, 1 if family in FAMILIES else TINY):
        arch = space.architecture(row)
        assert table.cost(arch) == count_network(arch, network)
        assert table.cost(arch).uncounted_ops == ()


@pytest.mark.parametrize(
    ("backbone", "size", "native"),
    [
        ("attune_tiny", (24, 40), "keep"),
        ("resnet18", (96, 64), "keep"),
        ("mobilenetv3_small_050", (64, 160), "replace"),
    ],
)
def test_the_table_equals_fvcore_on_sizes_that_are_not_square(backbone, size, native):
    space = SearchSpace.build(backbone, ["none", "se", "cbam", "coordinate", "triplet", "simam"], sites=SITES)
    network = NetworkSpec.classifier(size, num_classes=7, in_chans=1, native=native)
    table, turned = CostTable(backbone, network), CostTable(backbone, replace(network, size=size[::-1]))
    for row in space.sample(np.random.default_rng(0), 2):
        arch = space.architecture(row)
        assert table.cost(arch) == count_network(arch, network)
        assert table.cost(arch) == count_cost(arch, image_size=list(size), num_classes=7, in_chans=1, native=native)
    assert table.base.tolist() == turned.base.tolist(), "a plain network costs the same in both directions"
    assert table.base.shape == (len(METRICS),)
    coordinate = next(p for p in space.choices[-1] if p.type == "coordinate")
    assert table.stage_costs(0, [coordinate]).tolist() == turned.stage_costs(0, [coordinate]).tolist()


def test_an_identity_start_costs_nothing():
    network = NetworkSpec.classifier(32, num_classes=10)
    arch = Architecture.parse("attune_tiny:se,none,cbam")
    assert count_network(arch, replace(network, identity_start=True)) == count_network(arch, network)
    assert CostTable("attune_tiny", replace(network, identity_start=True)).cost(arch) == count_network(arch, network)


def test_arrays_of_architectures_cost_what_each_of_them_does():
    space = SearchSpace.build("attune_tiny", ["none", "se", "cbam", "eca"], sites=["slot", "block"])
    table = CostTable("attune_tiny", NetworkSpec.classifier(32, num_classes=10))
    stage_costs = [table.stage_costs(stage, placements) for stage, placements in enumerate(space.choices)]
    indices_NS = space.sample(np.random.default_rng(0), 50)
    expected = [[getattr(table.cost(space.architecture(row)), metric) for metric in METRICS] for row in indices_NS]
    assert table.totals(stage_costs, indices_NS).tolist() == expected
    assert [table.total(space.architecture(row)).tolist() for row in indices_NS] == expected
    assert table.totals(stage_costs, indices_NS, metrics=("flops",))[:, 0].tolist() == [row[2] for row in expected]


def test_counts_are_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path))
    arch = Architecture.parse("resnet18:se,none,none,none")
    first = CostTable("resnet18", NetworkSpec.classifier(32, num_classes=10)).cost(arch)
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    monkeypatch.setattr("evaluators.cost.count_module", None)  # whoever counts again fails
    from evaluators import cost

    cost._open_cache.cache_clear()
    assert CostTable("resnet18", NetworkSpec.classifier(32, num_classes=10)).cost(arch) == first
    with files[0].open("a") as file:
        file.write('{"cut off')  # a process that is killed while writing leaves half a line
    cost._open_cache.cache_clear()
    assert CostTable("resnet18", NetworkSpec.classifier(32, num_classes=10)).cost(arch) == first


def test_an_image_that_the_network_cannot_take_is_refused():
    with pytest.raises(UsageError, match="inception_v3 cannot take images of 66 x 66 pixels"):
        count_cost(Architecture.plain("inception_v3"), image_size=66)
    with pytest.raises(UsageError, match="images of 224 x 40 pixels"):
        CostTable("inception_v3", NetworkSpec.classifier((224, 40), num_classes=1000))
