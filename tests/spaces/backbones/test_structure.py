"""Stages where the resolution does not fall, behind several outputs, in branches, and of networks that compute when built."""

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from evaluators import count_cost
from evaluators.cost import CostTable
from evaluators.supernet.network import Supernet
from spaces.backbone import describe_backbone
from spaces.errors import UsageError
from spaces.network import NetworkSpec, build_model
from spaces.placement import Architecture
from spaces.space import SearchSpace

RESNET18, RESNET50 = (2, 2, 2, 2), (3, 4, 6, 3)


class Fcn(nn.Module):
    """Maps from the last three stages; ``twice``: a dict, and the body runs twice."""

    def __init__(self, num_classes: int, in_chans: int, twice: bool = False) -> None:
        super().__init__()
        self.body = timm.create_model("resnet18", in_chans=in_chans, features_only=True, out_indices=(2, 3, 4))
        self.heads = nn.ModuleList(nn.Conv2d(count, num_classes, 1) for count in (128, 256, 512))
        self.twice = twice

    def forward(self, x_BCHW: Tensor) -> Tensor | dict[str, Tensor]:
        maps = [head(f) for head, f in zip(self.heads, self.body(x_BCHW), strict=True)]
        out: Tensor = sum(nn.functional.interpolate(one, size=x_BCHW.shape[2:]) for one in maps)  # type: ignore[assignment]
        return {"out": out, "features": self.body(x_BCHW)} if self.twice else out


def os8(num_classes: int, in_chans: int) -> nn.Module:
    return timm.create_model("resnet18", num_classes=num_classes, in_chans=in_chans, output_stride=8)


def os16_mobile(num_classes: int, in_chans: int) -> nn.Module:
    return timm.create_model("mobilenetv2_035", num_classes=num_classes, in_chans=in_chans, output_stride=16)


def tv_os8(num_classes: int, in_chans: int) -> nn.Module:
    return torchvision.models.resnet50(num_classes=num_classes, replace_stride_with_dilation=[False, True, True])


def features(num_classes: int, in_chans: int) -> nn.Module:
    return timm.create_model("resnet18", in_chans=in_chans, features_only=True)


def vgg_features(num_classes: int, in_chans: int) -> nn.Module:
    return timm.create_model("vgg11_bn", in_chans=in_chans, features_only=True)


def unpooled(num_classes: int, in_chans: int) -> nn.Module:
    return timm.create_model("resnet18", in_chans=in_chans, num_classes=0, global_pool="")


def fcn(num_classes: int, in_chans: int) -> nn.Module:
    return Fcn(num_classes, in_chans)


def fcn_twice(num_classes: int, in_chans: int) -> nn.Module:
    return Fcn(num_classes, in_chans, twice=True)


def regnet(num_classes: int, in_chans: int) -> nn.Module:
    return torchvision.models.regnet_y_400mf(num_classes=num_classes)


CASES: dict[Callable[[int, int], nn.Module], tuple[int, ...]] = {
    os8: RESNET18,
    os16_mobile: (1, 2, 3, 7, 4),
    tv_os8: RESNET50,
    features: RESNET18,
    vgg_features: (1, 1, 2, 2, 2),
    unpooled: RESNET18,
    fcn: RESNET18,
    fcn_twice: RESNET18,
    regnet: (1, 3, 6, 6),
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_all_stages_are_found(make: Callable[[int, int], nn.Module]) -> None:
    stages = describe_backbone(f"module:{__name__}:{make.__name__}").stages
    assert tuple(len(stage.blocks) for stage in stages) == CASES[make]


def test_branches_are_stages_by_resolution() -> None:
    stages = describe_backbone("hrnet_w18_small").stages
    assert [(stage.stride, stage.channels) for stage in stages] == [(4, 128), (4, 16), (8, 32), (16, 64), (32, 128)]
    arch = Architecture.parse("hrnet_w18_small:none,se,none,se@stage,none")
    with torch.device("meta"):
        assert build_model(arch, 3)(torch.empty(1, 3, 64, 64)).shape == (1, 3)


def test_a_network_that_runs_its_body_twice_is_counted_twice() -> None:
    name = f"module:{__name__}:fcn_twice"
    arch = Architecture.parse(f"{name}:se@block,none,none,eca@stage")
    assert {site.calls for site in describe_backbone(name).stages[0].sites["block"]} == {2}
    assert CostTable(name, NetworkSpec.classifier(96, 3)).cost(arch) == count_cost(arch, image_size=96, num_classes=3)


def test_every_second_block() -> None:
    stages = describe_backbone("resnet50").stages
    assert [site.path for site in stages[2].at("block/2")] == ["layer3.1", "layer3.3", "layer3.5"]
    canonical = "resnet50:se-r16@block/2,se-r16@stage,se-r16@block/4,se-r16@block"
    assert str(Architecture.parse("resnet50:se@block/2,se@block/4,se@block/4,se@block/1")) == canonical
    arch = Architecture.parse("resnet50:none,non_local@block/2,non_local@block/2,none")
    assert CostTable("resnet50", NetworkSpec.classifier(64, 3)).cost(arch) == count_cost(
        arch, image_size=64, num_classes=3
    )
    space = SearchSpace.build("resnet50", ["none", "se"], sites=["block/2", "block"])
    assert [str(one) for one in space.choices[1]] == ["none", "se-r16@block/2", "se-r16@block"]
    for wrong, words in (
        ("block/9", "block/2 to block/3"),
        ("block/0", "block/N"),
        ("slot/2", "block/N"),
        ("block/x", "unknown"),
    ):
        with pytest.raises(UsageError, match=words):
            Architecture.parse(f"resnet50:se@{wrong},none,none,none")


def test_a_supernet_has_every_second_block_too() -> None:
    net = Supernet("resnet34", NetworkSpec.classifier(32, 3))
    arch = Architecture.parse("resnet34:none,se@block/2,none,none")
    assert net.select(arch)
    assert set(net.weights(arch)) == set(build_model(arch, 3, image_size=32).state_dict())
