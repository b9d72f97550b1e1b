"""Networks of clips: stages, sites, stems, published costs, and attention in them."""

import pytest
import torch

from evaluators.cost import CostTable, count_cost, count_network
from spaces import Architecture, build_model, describe_backbone
from spaces.attention import AttentionType, attention_type
from spaces.backbones.insertion import in_time
from spaces.backbones.weights import load_weights
from spaces.errors import UsageError
from spaces.network import ClassifierHead, NetworkSpec

# torchvision's own numbers: parameters to the integer, multiply-adds as it prints them.
PUBLISHED = {
    "r3d_18": ((16, 112, 112), 33_371_472, 40.7, 4),
    "mc3_18": ((16, 112, 112), 11_695_440, 43.3, 4),
    "r2plus1d_18": ((16, 112, 112), 31_505_325, 40.5, 4),
    "s3d": ((16, 224, 224), 8_320_048, 18.0, 5),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_costs_and_the_table_with_attention(name: str) -> None:
    size, params, gigas, stages = PUBLISHED[name]
    network = NetworkSpec(3, size, ClassifierHead(400))
    described = describe_backbone(name)
    assert described.size == size
    assert len(described.stages) == stages
    assert all(site.dims == 3 for stage in described.stages for sites in stage.sites.values() for site in sites)
    plain = count_network(Architecture.plain(name), network)
    assert plain.params == params
    assert round(plain.macs / 1e9, 1) == gigas
    slot = "block" if name == "s3d" else "slot"  # its blocks are concatenations: nothing is added
    words = [f"cbam@{slot}", "coordinate@block/1", "none", "double_attention@stage", "gam@stage"][:stages]
    arch = Architecture.parse(f"{name}:{','.join(words)}")
    whole = count_network(arch, network)
    assert whole == CostTable(name, network).cost(arch)
    assert whole.uncounted_ops == ()
    assert whole.params > params


def test_the_networks_of_a2_nets() -> None:
    assert [len(stage.blocks) for stage in describe_backbone("resnet3d_50").stages] == [3, 4, 6, 3]
    network = NetworkSpec(3, (16, 112, 112), ClassifierHead(400))
    cost = count_network(Architecture.plain("resnet3d_26"), network)
    assert (cost.params, round(cost.macs / 1e9, 1)) == (7_036_352, 8.3)


def test_double_attention_at_every_second_block_of_resnet50() -> None:
    """A2-Net of images: two blocks in res3, three in res4, m = n = C/2."""
    arch = Architecture.parse("resnet50:none,double_attention-r2@block/2,double_attention-r2@block/2,none")
    added = 2 * attention_type("double_attention").params(512) + 3 * attention_type("double_attention").params(1024)
    assert count_cost(arch).params == 25_557_032 + added == 32_907_304


@pytest.mark.parametrize("name", ["r3d_18", "resnet3d_26"])
def test_small_clips_keep_their_resolution_in_space(name: str) -> None:
    network = NetworkSpec(1, (8, 32, 32), ClassifierHead(5))
    stem = describe_backbone(name).stem
    assert len(stem) == 1
    assert "rewritten" in network.describe_stem(name)
    first = describe_backbone(name).stages[0].at("block")[0]
    frames = 8 if name == "r3d_18" else 4
    assert network.site_shapes(name)[first][1:] == (frames, 32, 32)
    kept = NetworkSpec(1, (8, 32, 32), ClassifierHead(5), stem="keep")
    assert kept.site_shapes(name)[first][1:] == (frames, 16, 16)
    layer = network.build(Architecture.plain(name)).get_submodule(stem[0])
    assert (layer.kernel_size, layer.stride) == ((3, 3, 3), (1, 1, 1))


def test_a_pooling_of_a_stem_stays_in_time() -> None:
    x = torch.randn(1, 2, 8, 5, 5)
    assert in_time(torch.nn.MaxPool3d(3, 2, 1))(x).shape == (1, 2, 4, 5, 5)
    assert isinstance(in_time(torch.nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))), torch.nn.Identity)


def test_attention_of_clips_learns_and_keeps_the_plain_names() -> None:
    arch = Architecture.parse("attune_tiny_3d:coordinate@slot,cbam@block,double_attention@stage")
    model = build_model(arch, 5, in_chans=1)
    plain = build_model(Architecture.plain("attune_tiny_3d"), 5, in_chans=1)
    assert set(plain.state_dict()) < set(model.state_dict())
    model(torch.randn(2, 1, 4, 12, 12)).square().sum().backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if ".attune." in name)


def test_weights_of_colour_clips_start_a_network_of_grey_ones(tmp_path) -> None:
    colour = build_model(Architecture.plain("resnet3d_26"), 5)
    torch.save(colour.state_dict(), tmp_path / "plain.pt")
    grey = build_model(Architecture.plain("resnet3d_26"), 7, in_chans=1)
    load_weights(grey, tmp_path / "plain.pt")
    torch.testing.assert_close(grey.conv1.weight[:, 0], colour.conv1.weight.sum(1))
    assert torch.equal(grey.layers[0][0].conv2.weight, colour.layers[0][0].conv2.weight)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("r3d_18", (32, 32), ["r3d_18 takes clips (T, H, W)", "32 x 32", "a backbone of images"]),
        ("resnet18", (8, 32, 32), ["resnet18 takes images (H, W)", "8 x 32 x 32", "a backbone of clips"]),
        ("s3d", (12, 224, 224), ["s3d cannot take clips", "12 x 224 x 224"]),
    ],
)
def test_refuses_the_wrong_kind_of_input_in_one_line(name: str, size: tuple[int, ...], words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        NetworkSpec(3, size, ClassifierHead(5)).check(name)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)
    NetworkSpec(3, (13, 209, 209), ClassifierHead(5)).check("s3d")


def test_a_type_that_knows_maps_only_is_refused_on_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AttentionType, "dims", (2,))
    with pytest.raises(UsageError, match="dims=3 of se; valid: 2"):
        Architecture.parse("attune_tiny_3d:se,none,none")


def test_a_clip_as_an_input_size_reads_back() -> None:
    for size in ((16, 112, 112), (16, 16, 16), (32, 48), (32, 32)):
        network = NetworkSpec(3, size, ClassifierHead(5))
        assert NetworkSpec.from_dict(network.to_dict()) == network
