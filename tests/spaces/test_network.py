"""Networks with attention in place: keys and logits that insertion leaves alone, stems, built-in attention, and the spec."""

import copy
import io

import pytest
import torch
from torch import nn

from spaces.backbone import describe_backbone
from spaces.backbones.zoo import create_plain
from spaces.errors import UsageError
from spaces.network import NATIVE, ClassifierHead, NetworkSpec, build_model, insert_attention, pixels
from spaces.placement import Architecture
from tests.families import FAMILIES, UNLIKE
from tests.matrix import sampled
from tests.spaces.architectures import everywhere, mixed


@pytest.mark.slow
@pytest.mark.parametrize("family", sampled(FAMILIES, lambda _, name: name in UNLIKE))
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


# --- the spec -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (96, 64)])
def test_images_need_not_be_square(size):
    network = NetworkSpec.classifier(list(size), num_classes=4, in_chans=1)
    assert (network.size, network.shape, network.rewrites_stem) == (size, (1, *size), max(size) <= 64)
    network.check("resnet18")
    model = network.build(Architecture.parse("resnet18:coordinate,se@block,triplet@stage,non_local")).eval()
    seen = []
    model.layer1.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape[2:])))
    assert model(*network.example(2)).shape == (2, 4)
    assert seen == [size if network.rewrites_stem else (size[0] // 4, size[1] // 4)]


def test_inserting_later_gives_the_network_that_is_built():
    arch = Architecture.parse("efficientnet_b0:none,se,none,eca@block,none")
    network = NetworkSpec.classifier(32, num_classes=4, native="replace", identity_start=True)
    plain = network.build(Architecture.plain("efficientnet_b0"))
    network.insert(plain, arch)
    built = network.build(arch).state_dict()
    assert {key: value.shape for key, value in plain.state_dict().items()} == {k: v.shape for k, v in built.items()}
    assert any(key.endswith("blend") for key in built)


def test_example_inputs():
    network = NetworkSpec.classifier((16, 24), num_classes=4)
    (first,), (again,), (other,) = (network.example(2, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (2, 3, 16, 24)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with torch.device("meta"):
        assert network.example()[0].is_meta


def test_a_spec_survives_its_dict():
    square = NetworkSpec.classifier(32, num_classes=4)
    described = {"num_classes": 4, "in_chans": 3, "image_size": 32, "identity_start": False, "native": "keep"}
    assert square.to_dict() == described
    other = NetworkSpec.classifier((32, 48), num_classes=4, in_chans=1, native="remove", identity_start=True)
    assert other.to_dict()["image_size"] == [32, 48]
    for network in (square, other):
        assert NetworkSpec.from_dict({**network.to_dict(), "mean": [0.5]}) == network
        assert hash(NetworkSpec.from_dict(network.to_dict())) == hash(network)
    assert NetworkSpec.from_dict({"num_classes": 4, "in_chans": 3, "image_size": 32}) == square


class TwoOutputs:
    """A head of another sort: the classifier's, and that of the map before it."""

    def plain(self, backbone, in_chans, *, pretrained):
        model = create_plain(backbone, 4, in_chans, pretrained)
        model.register_forward_hook(lambda module, x, logits: {"logits": logits, "input": x[0]})
        return model


def test_a_head_of_another_sort_gets_attention_too():
    network = NetworkSpec(1, (24, 32), TwoOutputs())
    model = network.build(Architecture.parse("attune_tiny:se,none,cbam")).eval()
    assert set(model(*network.example())) == {"logits", "input"}
    assert any(".attune." in key for key in model.state_dict())
    with pytest.raises(UsageError, match="no description as JSON"):
        network.to_dict()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"native": "drop"}, "unknown native 'drop'.*keep, replace, remove"),
        ({"size": (32,)}, r"input size \(32,\): valid is \(H, W\)"),
        ({"size": (32, 0)}, "at least 1"),
        ({"in_chans": 0}, "0 input channels; valid: 1 or more"),
    ],
)
def test_a_spec_that_is_none_is_refused(values, words):
    with pytest.raises(UsageError, match=words):
        NetworkSpec(**{"in_chans": 3, "size": (32, 32), "head": ClassifierHead(4), **values})


def test_pixels_are_a_side_or_two():
    assert pixels(32) == pixels([32, 32]) == (32, 32)
    assert pixels((32, 48)) == (32, 48)
    assert pixels((8, 32, 48), clips=True) == (8, 32, 48)
    for wrong in (0, True, 8.5, "32", [32], [32, -1], (1, 2, 3, 4)):
        for clips in (False, True):
            with pytest.raises(UsageError, match=r"a number of pixels, or \[H, W\]"):
                pixels(wrong, clips=clips)
    with pytest.raises(UsageError, match=r"valid: a number of pixels, or \[H, W\]$"):
        pixels((8, 32, 48))


def test_a_size_that_the_backbone_cannot_take_is_refused():
    with pytest.raises(UsageError, match="inception_v3 cannot take images of 66 x 300 pixels"):
        NetworkSpec.classifier((66, 300), num_classes=4).check("inception_v3")


def test_the_former_name_of_the_identity_start_still_works():
    arch = Architecture.parse("attune_tiny:se,none,none")
    with pytest.warns(DeprecationWarning, match="identity_init is now called identity_start"):
        former = build_model(arch, 4, identity_init=True)
    assert former.state_dict().keys() == build_model(arch, 4, identity_start=True).state_dict().keys()
