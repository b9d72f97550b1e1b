"""Attention in networks that are there as objects, of any library, and what they then cost."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import attune
from evaluators import count_cost
from spaces import Architecture
from spaces.errors import UsageError
from spaces.network import NetworkSpec

PLACED = "se-r16,none,cbam-r16-k7,eca"


def flat(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output
    return [one for part in parts for one in flat(part)]  # type: ignore[attr-defined]


def detector_backbone() -> nn.Module:
    made = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    return made.backbone


MADE = {
    "timm": lambda: timm.create_model("resnet18"),
    "torchvision": torchvision.models.resnet18,
    "features_only": lambda: timm.create_model("resnet18", features_only=True),
    "detector": detector_backbone,
}


@pytest.mark.parametrize("name", MADE)
def test_attention_goes_into_any_network_and_changes_nothing_until_it_is_trained(name: str) -> None:
    model = MADE[name]().eval()
    x_BCHW = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = flat(model(x_BCHW))
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    assert attune.insert(model, PLACED) is model
    with torch.no_grad():
        assert all(torch.equal(old, new) for old, new in zip(before, flat(model(x_BCHW)), strict=True))
    now = model.state_dict()
    assert all(torch.equal(now[key], value) for key, value in kept.items())
    new = [key for key in now if key not in kept]
    assert new
    assert all(".attune." in key for key in new)
    assert not any(module.training for module in model.modules())


def test_the_type_and_the_mode_of_the_network_are_those_of_its_attention() -> None:
    model = attune.insert(timm.create_model("resnet18").double(), ["se", "none", "none", "none"])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert all(module.training for module in model.modules())


def test_an_object_costs_what_its_architecture_costs() -> None:
    arch = Architecture.parse(f"resnet18:{PLACED}")
    named = count_cost(arch)
    model = timm.create_model("resnet18")
    found = attune.count_cost(model, PLACED)
    assert found.stages == named.stages
    assert found.architecture == "ResNet:" + str(arch).partition(":")[2]
    numbers = (found.params, found.macs, found.flops, found.activations)
    assert numbers == (named.params, named.macs, named.flops, named.activations)
    assert ".attune." not in " ".join(model.state_dict()), "nothing was put into it"
    attune.insert(model, arch)
    assert attune.count_cost(model).flops == named.flops, "what it holds is counted"
    assert attune.count_cost(model).params == named.params, "without the scalars of the identity start"
    assert attune.count_cost("resnet18", PLACED) == attune.count_cost(str(arch)) == attune.count_cost(arch) == named


def test_built_in_attention_is_replaced_where_that_is_asked_for() -> None:
    model, spec = timm.create_model("seresnet18"), NetworkSpec.classifier(224, 1000, native="replace")
    arch = Architecture.parse("seresnet18:eca@slot,none,none,none")
    assert attune.count_cost(model, arch, native="replace").params == count_cost(arch, native="replace").params
    attune.insert(model, arch, native="replace", identity_start=False)
    assert model.state_dict().keys() == spec.build(arch).state_dict().keys()


def test_a_network_can_be_described() -> None:
    found = attune.describe(torchvision.models.mobilenet_v3_small(), 96)
    assert found.image_size == 96
    assert [stage.channels for stage in found.stages] == [16, 24, 48, 96]


@pytest.mark.parametrize(
    ("placements", "words"),
    [
        ("se,se", r"has 4 stages \(of 64, 128, 256, 512 channels\), but 2 placements are given"),
        ("se,se,se,sse", "unknown attention type 'sse'"),
        ("se,se,se,se@slt", "unknown site"),
        ([1, 2, 3, 4], "placement 1 is a int; valid: a text, or a Placement"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_network_is_changed(placements: object, words: str) -> None:
    model = torchvision.models.resnet18()
    with pytest.raises(UsageError, match=words):
        attune.insert(model, placements)  # type: ignore[arg-type]
    assert ".attune." not in " ".join(model.state_dict())


def test_what_cannot_take_attention_is_refused_in_one_line() -> None:
    model = attune.insert(timm.create_model("resnet18"), PLACED)
    with pytest.raises(UsageError, match="this ResNet holds attention already, at 'layer1"):
        attune.insert(model, PLACED)
    with pytest.raises(UsageError, match=r"it has a `backbone`: give that.*input_size=\(C, H, W\) says what it takes"):
        attune.insert(
            torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None), "se"
        )
    with pytest.raises(UsageError, match="no chain of blocks"):
        attune.describe(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)), 8)
    with pytest.raises(UsageError, match="a list is no network"):
        attune.insert([], "se")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="input size"):
        attune.describe(model, 0)
