"""Backbones: stages as published, sites where the papers have them, and networks of the user's own."""

import sys
import textwrap

import pytest
import torch

from spaces.backbone import describe_backbone, list_backbones
from spaces.backbones.zoo import create_plain
from spaces.errors import UsageError
from spaces.network import build_model
from spaces.placement import Architecture
from tests.spaces.architectures import everywhere

STAGES = {  # name -> (blocks, channels) of each stage, from the papers
    "resnet18": [(2, 64), (2, 128), (2, 256), (2, 512)],
    "resnet50": [(3, 256), (4, 512), (6, 1024), (3, 2048)],
    "mobilenetv2_100": [(1, 16), (2, 24), (3, 32), (7, 96), (4, 320)],
    "mobilenetv3_large_100": [(1, 16), (2, 24), (3, 40), (6, 112), (3, 160)],
    "efficientnet_b0": [(1, 16), (2, 24), (2, 40), (6, 112), (5, 320)],
    "convnext_tiny": [(3, 96), (3, 192), (9, 384), (3, 768)],
    "regnety_004": [(1, 48), (3, 104), (6, 208), (6, 440)],
    "densenet121": [(1, 256), (1, 512), (1, 1024), (1, 1024)],
    "vgg16_bn": [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)],
}


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_those_of_the_paper(name):
    assert [(len(stage.blocks), stage.channels) for stage in describe_backbone(name).stages] == STAGES[name]


PAPERS = {  # parameters at 1000 classes: published to two digits, and exactly as the authors' own code has them
    "mobilenext_100": 3_535_416,
    "hbonet_100": 4_562_116,
    "proxylessnas_cpu": 4_361_648,
    "proxylessnas_gpu": 7_119_848,
    "proxylessnas_mobile": 4_080_512,
    "proxylessnas_mobile_14": 6_857_568,
    "shufflenet_v2_x1_0": 2_278_604,
}


@pytest.mark.parametrize("name", PAPERS)
def test_networks_that_timm_lacks_have_their_published_sizes(name):
    plain = create_plain(name, 1000, 3)
    assert sum(parameter.numel() for parameter in plain.parameters()) == PAPERS[name]
    stages = describe_backbone(name).stages
    assert stages[-1].stride == 32
    model = build_model(everywhere(name, "se@block"), 5, in_chans=1, image_size=32).eval()
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 5)


def test_slots_lie_after_the_depthwise_convolution_and_before_the_addition():
    slots = describe_backbone("mobilenetv2_100").stages[1].sites["slot"]
    assert [(slot.path, slot.channels) for slot in slots] == [("blocks.1.0.se", 96), ("blocks.1.1.se", 144)]
    assert describe_backbone("resnet50").stages[0].sites["slot"][0].channels == 256
    assert describe_backbone("efficientnet_b0").stages[1].sites["slot"][0].native


def test_a_network_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        textwrap.dedent(
            """
            from torch import nn

            class Block(nn.Module):
                def __init__(self, inside, outside, stride):
                    super().__init__()
                    self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1)
                    self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1)
                    self.skip = nn.Conv2d(inside, outside, 1, stride)

                def forward(self, x):
                    return self.conv2(self.conv1(x).relu()) + self.skip(x)

            def make(num_classes, in_chans):
                stages = [Block(8, 8, 1), Block(8, 16, 2), Block(16, 16, 1), Block(16, 32, 2)]
                head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes)]
                return nn.Sequential(nn.Conv2d(in_chans, 8, 3, 2, 1), *stages, *head)
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "module:own_network:make"
    assert [(stage.channels, stage.stride) for stage in describe_backbone(name).stages] == [(8, 2), (16, 4), (32, 8)]
    assert describe_backbone(name).stages[1].sites["slot"][0].path == "2.conv2"
    arch = Architecture.parse(f"{name}:se-r2,cbam-r4@stage,none")
    assert build_model(arch, 3, in_chans=1)(torch.randn(1, 1, 64, 64)).shape == (1, 3)
    with pytest.raises(UsageError, match=r"module:package\.file:name"):
        describe_backbone("module:own_network")
    with pytest.raises(UsageError, match="no_such"):
        describe_backbone("module:own_network:no_such")
    del sys.modules["own_network"]


def test_names():
    assert {"resnet50", "mobilenetv2_100", "convnext_tiny", "attune_tiny"} <= set(list_backbones())
    with pytest.raises(UsageError, match="did you mean resnet50"):
        describe_backbone("resnt50")
