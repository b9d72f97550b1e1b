"""Whole segmentation networks of a user's: stages found in them, published costs, trained, exported, refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evaluators.cost import CostTable, count_network
from evaluators.recipe import Recipe
from evaluators.tasks.segmentation import SegmentationConfig
from evaluators.training.loop import train_model
from search.export.check import check
from search.export.format import write_formats
from search.export.subject import Subject, make_spec
from spaces import Architecture
from spaces.backbones.weights import load_weights
from spaces.errors import UsageError
from spaces.heads.whole import WholeHead
from spaces.network import NetworkSpec

SOURCE = """
from torch import nn
from torchvision.models.segmentation import fcn_resnet50, lraspp_mobilenet_v3_large


def lraspp(num_classes, in_chans):
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
    if in_chans != 3:
        network.backbone["0"][0] = nn.Conv2d(in_chans, 16, 3, 2, 1, bias=False)
    return network


def fcn(num_classes, in_chans):
    return fcn_resnet50(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=True)


def wrong(num_classes, in_chans):
    return lraspp(num_classes + 1, in_chans)
"""
LRASPP = "module:users_networks:lraspp"


@pytest.fixture(autouse=True)
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_networks.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)


def test_costs_are_the_published_ones_and_add_up() -> None:
    plain = Architecture.plain(LRASPP)
    cost = count_network(plain, NetworkSpec(3, (520, 520), WholeHead(21)))
    assert (cost.params, f"{cost.macs / 1e9:.3f}") == (3_221_538, "2.086")
    network = NetworkSpec(3, (64, 96), WholeHead(5))
    arch = Architecture.parse(f"{LRASPP}:none,none,se-r4@stage,none,coordinate@block")
    table = CostTable(LRASPP, network)
    assert table.cost(arch) == count_network(arch, network)
    assert table.cost(arch).uncounted_ops == ()


def test_a_network_with_an_auxiliary_head_gives_both_in_training() -> None:
    """It is counted without: what is counted is what the logits depend on. Its parameters are all counted."""
    name = "module:users_networks:fcn"
    network = NetworkSpec(3, (520, 520), WholeHead(21))
    cost = count_network(Architecture.plain(name), network)
    assert (cost.params, f"{cost.macs / 1e9:.1f}") == (35_322_218, "142.7")
    with torch.device("meta"):
        model = network.build(Architecture.parse(f"{name}:none,none,none,se"))
        logits, aux = model.train()(torch.empty(2, 3, 64, 48))
    assert logits.shape == aux.shape == (2, 21, 64, 48)
    names = {path for path, module in model.named_modules() if any(module is one for one in model.get_classifier())}
    assert names == {"backbone.classifier.4", "backbone.aux_classifier.4"}


def test_a_checkpoint_of_the_network_is_taken_whole_and_a_search_of_it_is_trained(tmp_path: Path) -> None:
    data = {
        "name": "cluttered_digits",
        "image_size": 32,
        "sizes": [20],
        "digits": [1, 1],
        "train_size": 8,
        "val_size": 4,
    }
    task = SegmentationConfig(head="whole").build({**data, "test_size": 4}, seed=0)
    import users_networks  # type: ignore[import-not-found]

    theirs = users_networks.lraspp(11, 1)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    network = NetworkSpec(1, (32, 32), WholeHead(11), stem="keep", identity_start=True)
    arch = Architecture.parse(f"{LRASPP}:none,none,se-r4@stage,none,none")
    model = network.build(arch)
    assert str(load_weights(model, tmp_path / "theirs.pth")).endswith("none lost")
    x_BCHW = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model.eval()(x_BCHW), theirs.eval()(x_BCHW)["out"])
    recipe = Recipe(batch_size=4, label_smoothing=0, warmup=0, lr=0.001, optimizer="adamw")
    trained = train_model(lambda: network.build(arch), task, recipe, epochs=1, seed=0, device=torch.device("cpu"))
    assert 0 <= trained.metrics["mIoU"] <= 1


@pytest.mark.matrix  # test_dense.py exports dense networks
@pytest.mark.slow
def test_it_is_exported_and_loaded_without_attune(tmp_path: Path) -> None:
    network = NetworkSpec(3, (32, 48), WholeHead(4))
    arch = Architecture.parse(f"{LRASPP}:none,none,se-r4@stage,none,none")
    subject = Subject(arch, make_spec(arch, **network.to_dict(), mean=[0.2] * 3, std=[0.3] * 3))
    (tmp_path / "to").mkdir()
    forms = ["python", "safetensors", "spec"]
    (checks,) = check([write_formats(subject, subject.model(), tmp_path / "to", forms)])
    assert [(one.format, one.difference) for one in checks] == [(form, 0) for form in forms]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "resnet18",
            r"'resnet18' gives a tensor \(1, 3\) for images .* valid for task.head 'whole': logits \(1, 3, h, w\)",
        ),
        ("module:users_networks:wrong", r"gives a tensor \(1, 4, 224, 224\)"),
    ],
)
def test_what_gives_no_logits_of_pixels_is_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        NetworkSpec(3, (64, 64), WholeHead(3)).build(Architecture.plain(name))
