"""Heads of segmentation: published sizes, torchvision's own networks, and attention beyond the backbone."""

import pytest
import torch
from torchvision.models import segmentation as published

from evaluators.cost import CostTable, count_network
from evaluators.counting import METRICS, count_module
from spaces import Architecture, SearchSpace
from spaces.errors import UsageError
from spaces.heads.base import own_stages
from spaces.heads.decoders import FPNHead, UNetHead
from spaces.heads.segmentation import DeepLabV3Head, FCNHead, LRASPPHead
from spaces.network import NetworkSpec


@pytest.mark.parametrize(
    ("backbone", "head", "size", "params", "macs"),
    [
        ("resnet50", FCNHead(21, auxiliary_stride=16), 520, 35_322_218, None),
        ("resnet34", UNetHead(1), 64, 24_436_369, None),  # segmentation-models-pytorch's
        ("resnet34", FPNHead(1), 64, 23_155_393, None),
        ("resnet50", DeepLabV3Head(21, 8, auxiliary_stride=16), 520, 42_004_074, None),
        ("mobilenetv3_large_100", DeepLabV3Head(21, tap="conv", auxiliary_stride=8), 520, 11_029_328, None),
        ("mobilenetv3_large_100", LRASPPHead(21), 520, 3_221_538, "2.086"),
        ("mobilenetv2_100", DeepLabV3Head(21, refine=False), 513, 4_523_541, "5.364"),
        ("mobilenetv2_100", DeepLabV3Head(21, 8, refine=False), 513, 4_523_541, "19.002"),
        ("mobilenetv2_100", DeepLabV3Head(21, separable=True, refine=False), 513, 2_568_021, "3.232"),
        ("mobilenetv2_100", DeepLabV3Head(21, separable=True, refine=False, tap="conv"), 513, 4_240_661, "4.777"),
    ],
)
def test_costs_are_the_published_ones(backbone, head, size, params, macs):
    with torch.device("meta"):
        counts = count_module(head.plain(backbone, 3, pretrained=False), torch.empty(1, 3, size, size))
    found = dict(zip(METRICS, counts.total.tolist(), strict=True))
    assert found["params"] == params
    assert counts.uncounted == ()
    assert macs is None or f"{found['macs'] / 1e9:.3f}" == macs


def test_a_network_is_torchvisions_for_the_same_weights():
    """Also its dilation; the auxiliary logits come in training mode only."""
    torch.manual_seed(0)
    theirs = published.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=True).eval()
    network = NetworkSpec(3, (65, 97), FCNHead(5, auxiliary_stride=16))
    ours = network.build(Architecture.plain("resnet50")).eval()
    ours.load_state_dict(theirs.state_dict())
    x_BCHW = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        torch.testing.assert_close(ours(x_BCHW), theirs(x_BCHW)["out"])
        logits, aux = ours.train()(torch.randn(2, 3, 65, 97))
    assert logits.shape == aux.shape == (2, 5, 65, 97)


def test_attention_goes_into_the_backbone_and_beyond():
    network = NetworkSpec(3, (64, 96), DeepLabV3Head(4), stem="keep")
    arch = Architecture.parse("resnet18:none,se-r8,none,cbam@stage,coordinate")
    assert str(arch).endswith(",coordinate-r32@decoder")
    model = network.build(arch)
    added = {key.partition(".attune.")[0] for key in model.state_dict() if ".attune." in key}
    assert added == {"backbone.layer2.0.se", "backbone.layer2.1.se", "backbone.layer4.1", "classifier.0"}
    assert model(torch.randn(1, 3, 64, 96)).shape == (1, 4, 64, 96)  # one image: ASPP pools to a single value a channel
    table = CostTable("resnet18", network)
    assert table.cost(arch) == count_network(arch, network)
    assert NetworkSpec.from_dict(network.to_dict()) == network


@pytest.mark.parametrize("head", [UNetHead(3), FPNHead(3, 16, 32), FCNHead(3, 8), LRASPPHead(3, 8, 32, tap="block")])
def test_additive_costs_are_those_of_the_whole_network(head):
    network = NetworkSpec(1, (40, 56), head)
    stages = network.stages("attune_tiny")
    beyond = [stage.name for stage in stages if stage.name]
    arch = Architecture.parse(
        f"attune_tiny:se,cbam@stage,none,{','.join(['coordinate', 'se-r4', 'eca'][: len(beyond)])}"
    )
    table = CostTable("attune_tiny", network)
    assert table.cost(arch) == count_network(arch, network)
    assert table.cost(arch).uncounted_ops == ()
    assert network.build(arch).train()(torch.randn(1, 1, 40, 56)).shape == (1, 3, 40, 56)


def test_stages_beyond_are_named_and_counted():
    network = NetworkSpec(3, (64, 64), LRASPPHead(4))
    with pytest.raises(UsageError, match=r"has 5 stages, of which the last 1 are LR-ASPP map, but 6 placements"):
        network.build(Architecture.parse("resnet18:none,none,none,none,se,se"))
    with pytest.raises(UsageError, match=r"beyond the backbone's stages; valid there: @decoder"):
        Architecture.parse("resnet18:none,none,none,none,se@block")
    assert str(Architecture.parse("resnet18:se,none,none,none,none,none")) == "resnet18:se-r16@slot,none,none,none"


def test_a_space_reaches_beyond_the_backbone_where_it_is_asked_to():
    beyond = own_stages(DeepLabV3Head(4), "resnet18")
    assert SearchSpace.build("resnet18", ["none", "se"], beyond=beyond).sizes == (2, 2, 2, 2, 1)
    space = SearchSpace.build("resnet18", ["none", "se"], sites=["slot", "decoder"], beyond=beyond)
    assert space.sizes == (2,) * 5
    arch = Architecture.parse("resnet18:se,none,none,none")
    assert space.architecture(space.indices(arch)) == arch
    assert arch in space
    with pytest.raises(UsageError, match="beyond the backbone"):
        SearchSpace.build("resnet18", ["se"], sites=["slot", "decoder"])


def test_a_dilated_backbone_gives_what_it_gave_at_every_second_position():
    wide, fine = (DeepLabV3Head(3, stride).plain("mobilenetv2_050", 3, pretrained=False) for stride in (32, 16))
    fine.load_state_dict(wide.state_dict())
    x_BCHW = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        (map_BCHW,), (dense_BCHW,) = wide.eval().backbone(x_BCHW), fine.eval().backbone(x_BCHW)
    torch.testing.assert_close(dense_BCHW[..., ::2, ::2], map_BCHW)


@pytest.mark.parametrize(
    ("backbone", "why"),
    [("resnet50d", "'layer4.0.downsample.0' samples the map"), ("vgg11", "cannot|no stage|samples")],
)
def test_what_cannot_be_dilated_is_refused(backbone, why):
    with pytest.raises(UsageError, match=why):
        DeepLabV3Head(2, 8 if backbone == "vgg11" else 16).plain(backbone, 3, pretrained=False)
