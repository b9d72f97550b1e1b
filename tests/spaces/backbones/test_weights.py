"""Checkpoints of plain networks: what fits, what is adapted, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from spaces.backbones.weights import load_weights
from spaces.backbones.zoo import create_plain
from spaces.errors import UsageError
from spaces.network import NetworkSpec, build_model
from spaces.placement import Architecture


def test_weights_go_in_before_or_after_insertion(tmp_path: Path) -> None:
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


def state_of(model: nn.Module, *, without: str = "no key") -> dict[str, Tensor]:
    return {key: value for key, value in model.state_dict().items() if without not in key}


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module.", "safetensors"])
def test_a_checkpoint_may_be_wrapped(tmp_path: Path, wrap: str) -> None:
    state = state_of(create_plain("attune_tiny", 5, 3))
    file = tmp_path / ("weights.safetensors" if wrap == "safetensors" else "weights.pth")
    if wrap == "safetensors":
        save_file(state, file)
    elif wrap == "module.":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, file)
    else:
        torch.save(state if wrap == "plain" else {wrap: state, "optimizer": {"lr": 0.1}}, file)
    model = build_model(Architecture.parse("attune_tiny:se,none,cbam"), 5)
    load_weights(model, file)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())


def test_the_first_convolution_is_adapted_and_the_classifier_starts_anew(tmp_path: Path) -> None:
    """Other channels, a stem for small images that are not square, another number of classes; all else as in the file."""
    state = state_of(create_plain("resnet18", 5, 3))
    torch.save(state, tmp_path / "plain.pth")
    arch = Architecture.parse("resnet18:none,se,none,none")
    network = NetworkSpec.classifier((40, 64), num_classes=9, in_chans=1)
    built, loaded = network.build(arch, pretrained=tmp_path / "plain.pth"), network.build(arch)
    load_weights(loaded, tmp_path / "plain.pth")
    for model in (built, loaded):
        found = model.state_dict()
        assert torch.allclose(found["conv1.weight"], state["conv1.weight"].sum(1, keepdim=True)[..., 2:5, 2:5])
        assert all(torch.equal(found[key], state[key]) for key in state if not key.startswith(("conv1.", "fc.")))
        assert found["fc.weight"].shape == (9, 512)
    more = NetworkSpec.classifier(96, num_classes=5, in_chans=6).build(arch, pretrained=tmp_path / "plain.pth")
    assert more.state_dict()["conv1.weight"].shape == (64, 6, 7, 7)
    assert torch.equal(more.state_dict()["fc.weight"], state["fc.weight"])
    torch.save(state_of(create_plain("resnet18", 5, 1)), tmp_path / "grey.pth")
    with pytest.raises(UsageError, match=r"grey.pth' .* has other shapes for 1 .*first conv1.weight"):
        load_weights(build_model(arch, 5), tmp_path / "grey.pth")


def test_attention_is_taken_over_where_the_network_has_it(tmp_path: Path) -> None:
    trained = build_model(Architecture.parse("attune_tiny:se-r4,cbam-r4-k7,eca-k3"), 5)
    torch.save(trained.state_dict(), tmp_path / "searched.pth")
    theirs = trained.state_dict()

    def after_loading(placements: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        model = build_model(Architecture.parse(f"attune_tiny:{placements}"), 5)
        start = {key: value.clone() for key, value in model.state_dict().items()}
        load_weights(model, tmp_path / "searched.pth")
        return start, model.state_dict()

    _, same = after_loading("se-r4,cbam-r4-k7,eca-k3")
    assert all(torch.equal(same[key], theirs[key]) for key in same)
    _, plain = after_loading("none,none,none")
    assert all(torch.equal(plain[key], theirs[key]) for key in plain)
    start, other = after_loading("se-r4,cbam-r4-k3,se-r8@block")
    taken = {key for key in other if ".attune." in key and key in theirs and other[key].shape == theirs[key].shape}
    assert "layer1.0.se.attune.fc1.weight" in taken
    assert "layer2.0.se.attune.spatial.conv.weight" not in taken, "a smaller kernel is not the middle of a larger one"
    for key, value in other.items():
        expected = theirs[key] if ".attune." not in key or key in taken else start[key]
        assert torch.equal(value, expected), key


def test_built_in_attention_that_was_taken_out_is_left(tmp_path: Path) -> None:
    name = "mobilenetv3_small_050"
    torch.save(create_plain(name, 5, 3).state_dict(), tmp_path / "plain.pth")
    arch = Architecture.plain(name)
    network = NetworkSpec.classifier(96, num_classes=5, native="remove")
    model = network.build(arch, pretrained=tmp_path / "plain.pth")
    assert not [key for key in model.state_dict() if ".se." in key]
    torch.save(model.state_dict(), tmp_path / "removed.pth")
    with pytest.raises(UsageError, match="lacks"):
        NetworkSpec.classifier(96, num_classes=5).build(arch, pretrained=tmp_path / "removed.pth")


def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    model = create_plain("attune_tiny", 5, 3)
    state = state_of(model)
    contents = {
        "lacks": state_of(model, without="layer2."),
        "holds unknown": {**state, "neck.weight": torch.zeros(3)},
        "has other shapes for": {**state, "bn1.weight": torch.zeros(3)},
        "no state_dict: 'net' is no tensor": {"net": state},
        "cannot read the checkpoint": [1, 2, 3],
    }
    for words, content in contents.items():
        torch.save(content, tmp_path / "bad.pth")
        with pytest.raises(UsageError, match=words) as caught:
            load_weights(create_plain("attune_tiny", 5, 3), tmp_path / "bad.pth")
        assert "bad.pth" in str(caught.value)
        assert "\n" not in str(caught.value)
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(UsageError, match=f"cannot read the checkpoint .*{name}"):
            load_weights(model, tmp_path / name)
    with pytest.raises(UsageError, match=r"no such checkpoint: .*missing.pth"):
        load_weights(model, tmp_path / "missing.pth")
