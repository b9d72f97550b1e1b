"""Backbones: stages as published, keys and logits that insertion leaves alone, and networks that can be moved about."""

import copy
import io
import sys
import textwrap

import pytest
import torch
from torch import nn

from spaces import catalogue
from spaces.backbone import NATIVE, build_model, describe_backbone, insert_attention, list_backbones, load_weights
from spaces.backbones.zoo import create_plain
from spaces.errors import UsageError
from spaces.placement import SITES, Architecture, Placement
from tests.families import FAMILIES

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


def everywhere(name, placement):
    kind = placement.partition("@")[2]
    stages = describe_backbone(name).stages
    return Architecture.parse(f"{name}:" + ",".join(placement if kind in s.sites else "none" for s in stages))


def mixed(name):
    """CBAM in every stage, at each kind of site in turn."""
    placements = []
    for number, stage in enumerate(describe_backbone(name).stages):
        kinds = [kind for kind in SITES if kind in stage.sites]
        placements.append(Placement("cbam", reduction=4, site=kinds[number % len(kinds)]))
    return Architecture(name, tuple(placements))


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


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_lost(family, tmp_path):
    """A timm checkpoint loads before and after insertion, all keys stay, and identity start gives the same logits."""
    name = FAMILIES[family]
    torch.manual_seed(0)
    plain = create_plain(name, 7, 3).eval()
    for parameter in plain.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)  # timm starts the last norm of a residual block at zero
    state = plain.state_dict()
    torch.save({"state_dict": state}, tmp_path / "checkpoint.pth")
    arch = mixed(name)
    after = build_model(arch, 7, pretrained=tmp_path / "checkpoint.pth", identity_start=True).eval()
    x_BCHW = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits_BK = plain(x_BCHW)
        insert_attention(plain, arch, identity_start=True)
        for model in (plain.eval(), after):
            placed = model.state_dict()
            assert all(torch.equal(placed[key], value) for key, value in state.items())
            assert all(".attune." in key for key in placed.keys() - state.keys())
            assert torch.equal(model(x_BCHW), logits_BK)
        for key, parameter in after.named_parameters():
            if ".attune." in key and parameter.numel() == 1:
                parameter.fill_(1.0)
        assert not torch.equal(after(x_BCHW), logits_BK), "the attention does not take part"


def test_weights_go_in_before_or_after_insertion(tmp_path):
    plain = create_plain("resnet18", 5, 3)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    arch = Architecture.parse("resnet18:se,none,cbam@block,none")
    after = build_model(arch, 5)
    load_weights(after, tmp_path / "plain.pth")
    before = build_model(arch, 5, pretrained=tmp_path / "plain.pth")
    for key, value in plain.state_dict().items():
        assert torch.equal(after.state_dict()[key], value)
        assert torch.equal(before.state_dict()[key], value)
    other = build_model(arch, 9, in_chans=1, image_size=32, pretrained=tmp_path / "plain.pth").state_dict()
    assert other["conv1.weight"].shape == (64, 1, 3, 3)
    assert torch.equal(other["layer1.0.conv1.weight"], plain.state_dict()["layer1.0.conv1.weight"])
    with pytest.raises(UsageError, match="tensors"):
        load_weights(build_model(Architecture.plain("resnet34"), 5), tmp_path / "plain.pth")


@pytest.mark.parametrize("site", ["slot", "block", "stage"])
def test_a_network_with_attention_can_be_copied_pickled_and_exported(site):
    model = build_model(everywhere("resnet18", f"se@{site}"), 4, image_size=32).eval()
    x_BCHW = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = model(x_BCHW)
        twin = copy.deepcopy(model)
        for parameter in model.layer1.parameters():
            parameter.zero_()  # a copy that shared its attention with the original would notice
        assert torch.equal(twin(x_BCHW), expected)
        file = io.BytesIO()
        torch.save(twin, file)
        file.seek(0)
        assert torch.equal(torch.load(file, weights_only=False)(x_BCHW), expected)
        exported = torch.export.export(twin, (x_BCHW,)).module()
        assert torch.allclose(exported(x_BCHW), expected, atol=1e-6)


@pytest.mark.slow
def test_a_network_with_attention_compiles():
    model = build_model(Architecture.parse("resnet18:se,cbam@block,eca@stage,none"), 4, image_size=32).eval()
    x_BCHW = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(
            torch.compile(model, backend="aot_eager", fullgraph=True)(x_BCHW), model(x_BCHW), atol=1e-5
        )


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "convnext_atto", "vgg11_bn"])
def test_the_stem_of_small_images_keeps_their_resolution(name):
    backbone = describe_backbone(name)
    model = build_model(Architecture.plain(name), 4, in_chans=1, image_size=32).eval()
    seen = []
    model.get_submodule(backbone.stages[0].blocks[0]).register_forward_pre_hook(lambda _, x: seen.append(x[0].shape))
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 4)
    assert seen[0][-1] == 32


def test_native_attention_is_kept_replaced_or_removed():
    def params(placements, native):
        arch = Architecture.parse("efficientnet_b0:" + placements)
        with torch.device("meta"):
            return sum(p.numel() for p in build_model(arch, 1000, native=native).parameters())

    nothing, coordinate = "none,none,none,none,none", ",".join(["coordinate-r32"] * 5)
    assert params(nothing, "keep") == 5_288_548
    assert params(nothing, "replace") == 5_288_548
    assert params(nothing, "remove") == 4_652_008
    assert params(coordinate, "replace") == 5_381_804
    assert params(coordinate, "remove") == 5_381_804
    assert params(coordinate, "keep") == 5_381_804 + 5_288_548 - 4_652_008
    with pytest.raises(UsageError, match=", ".join(NATIVE)):
        params(nothing, "drop")


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
    with pytest.raises(UsageError, match=r"module:package\.file:function"):
        describe_backbone("module:own_network")
    with pytest.raises(UsageError, match="no_such"):
        describe_backbone("module:own_network:no_such")
    del sys.modules["own_network"]


def test_descriptions_are_found_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path))
    some = ["attune_tiny", "nasnetalarge", "resnet18"]
    monkeypatch.setattr(catalogue, "list_backbones", lambda: some)
    rows = catalogue.describe_backbones()
    assert [row["name"] for row in rows] == ["attune_tiny", "resnet18"]  # the other has no stages
    assert rows[1]["stages"][0]["channels"] == 64
    assert rows[1]["stages"][0]["resolution"] == 56
    assert rows[1]["stages"][0]["sites"]["slot"] == {"count": 2, "channels": [64, 64]}
    monkeypatch.setattr(catalogue, "ProcessPoolExecutor", None)  # whoever describes again fails
    assert catalogue.describe_backbones() == rows


def test_names():
    assert {"resnet50", "mobilenetv2_100", "convnext_tiny", "attune_tiny"} <= set(list_backbones())
    with pytest.raises(UsageError, match="did you mean resnet50"):
        describe_backbone("resnt50")
