"""Networks with attention in place: keys and logits that insertion leaves alone, stems, built-in attention, and the spec."""

import copy
import io

import pytest
import torch
from torch import nn

from spaces.backbone import describe_backbone
from spaces.backbones.zoo import create_plain
from spaces.errors import UsageError
from spaces.network import NATIVE, build_model, insert_attention
from spaces.placement import Architecture
from tests.families import FAMILIES
from tests.spaces.architectures import everywhere, mixed


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
