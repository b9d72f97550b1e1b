"""A trained plain segmenter or detector with attention that starts as the identity puts out what it put out, bit for bit."""

from pathlib import Path

import pytest
import torch
from torch import nn

from spaces import Architecture
from spaces.backbones.weights import load_weights
from spaces.backbones.zoo import create_plain
from spaces.errors import UsageError
from spaces.heads.detection import RetinaNetHead, SSDLiteHead
from spaces.heads.segmentation import DeepLabV3Head, FCNHead
from spaces.network import NetworkSpec

EVERYWHERE = "attune_tiny:se@slot,cbam@block,coordinate@stage"


def trained(model: nn.Module) -> nn.Module:
    """Weights and statistics that no start has."""
    torch.manual_seed(1)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    return model.eval()


@pytest.mark.parametrize("head", [DeepLabV3Head(3, 8), SSDLiteHead(3), RetinaNetHead(3, 16)])
def test_a_trained_network_keeps_what_it_has_learned(head, tmp_path: Path):
    network = NetworkSpec(3, (48, 64), head, identity_start=True)
    plain = trained(network.build(Architecture.plain("attune_tiny")))
    torch.save({"model": plain.state_dict(), "epoch": 7}, tmp_path / "plain.pth")
    beyond = ",".join("se-r4" for stage in network.stages("attune_tiny") if stage.name)
    arch = Architecture.parse(f"{EVERYWHERE},{beyond}")
    started = network.build(arch, pretrained=tmp_path / "plain.pth").eval()
    assert str(load_weights(started, tmp_path / "plain.pth")).endswith(" tensors taken, none lost")
    x_BCHW = torch.rand(2, 3, 48, 64)
    with torch.no_grad():
        before, after = plain(x_BCHW), started(x_BCHW)
    if isinstance(before, dict):
        assert all(torch.equal(before[key], after[key]) for key in ("boxes", "scores"))
    else:
        assert torch.equal(before, after)


def test_the_backbone_alone_and_torchvisions_names_are_taken_too(tmp_path: Path):
    classifier = trained(create_plain("attune_tiny", 5, 3))
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    model = RetinaNetHead(3, 16).plain("attune_tiny", 3, pretrained=False)
    loaded = load_weights(model, tmp_path / "classifier.pth")
    assert loaded.left == ("backbone.fc.weight", "backbone.fc.bias")
    assert torch.equal(model.state_dict()["backbone.conv1.weight"], classifier.state_dict()["conv1.weight"])
    theirs = {
        key.replace("backbone.", "backbone.body.").replace("neck.", "backbone.fpn."): value
        for key, value in trained(model).state_dict().items()
    }
    torch.save(theirs, tmp_path / "theirs.pth")
    other = RetinaNetHead(3, 16).plain("attune_tiny", 3, pretrained=False)
    assert str(load_weights(other, tmp_path / "theirs.pth")).endswith("none lost")
    assert all(torch.equal(other.state_dict()[key], value) for key, value in model.state_dict().items())


def test_what_else_a_checkpoint_holds_or_lacks(tmp_path: Path):
    """Another number of classes starts anew, an auxiliary head may be left, a network of another sort is refused."""
    plain = trained(FCNHead(3, 8, auxiliary_stride=4).plain("attune_tiny", 3, pretrained=False))
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    loaded = load_weights(FCNHead(4, 8).plain("attune_tiny", 3, pretrained=False), tmp_path / "plain.pth")
    assert {key.partition(".")[0] for key in loaded.left} == {"classifier", "aux_classifier"}
    with pytest.raises(UsageError, match="does not fit the backbone"):
        load_weights(DeepLabV3Head(3, 8).plain("attune_tiny", 3, pretrained=False), tmp_path / "plain.pth")
