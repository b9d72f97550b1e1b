"""Checkpoints of plain networks: what fits, what is adapted, and what is refused."""

import pytest
import torch

from spaces.backbones.weights import load_weights
from spaces.backbones.zoo import create_plain
from spaces.errors import UsageError
from spaces.network import build_model
from spaces.placement import Architecture


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
