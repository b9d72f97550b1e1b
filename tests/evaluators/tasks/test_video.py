"""The video task: trained, tested, in a supernet, scored by proxies, and exported."""

import pytest
import torch

from evaluators.base import EVALUATORS, Setting
from evaluators.recipe import Recipe
from evaluators.supernet.network import Supernet
from evaluators.tasks.video import VideoConfig
from evaluators.training.device import arranged
from evaluators.training.evaluator import TrainingEvaluator
from search.export.check import check
from search.export.format import known_formats, write_formats
from search.export.subject import Subject, make_spec
from spaces import Architecture, SearchSpace

SMALL = {"name": "moving_digits", "train_size": 64, "val_size": 32, "test_size": 16, "frames": 4}
ARCH = Architecture.parse("attune_tiny_3d:coordinate-r4@slot,cbam-r4-k3@block,double_attention-r2@stage")


@pytest.fixture(scope="module")
def task():
    return VideoConfig().build(SMALL, seed=0)


def test_trains_tests_and_repeats_to_the_bit(task, tmp_path) -> None:
    evaluator = TrainingEvaluator(task, Recipe(preset="embedded", crop=2, cutmix=0.5), device=torch.device("cpu"))
    found = evaluator.evaluate(ARCH, fidelity=1, seed=3, keep=tmp_path / "weights.safetensors")
    assert 0 <= found["accuracy"] <= 1
    again = evaluator.evaluate(ARCH, fidelity=1, seed=3)
    assert again["loss"] == found["loss"]
    assert set(evaluator.test(ARCH, tmp_path / "weights.safetensors")) >= {"accuracy", "balanced_accuracy", "loss"}
    assert evaluator.network.identity_start


def test_weights_of_clips_have_their_channels_last(task) -> None:
    model = arranged(task.network.build(ARCH), channels_last=True)
    weight = model.layers[0][0].conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert model(*task.network.example(2)).shape == (2, 8)


def test_a_supernet_of_clips_has_attention_of_clips(task) -> None:
    net = Supernet("attune_tiny_3d", task.network)
    net.select(ARCH)
    assert net(*task.network.example(2)).shape == (2, 8)


def test_proxies_score_networks_of_clips(task) -> None:
    space = SearchSpace.build("attune_tiny_3d", ["none", "se"])
    section = EVALUATORS["proxy"].model_validate({"name": "proxy"})
    scored = section.build(Setting(lambda: task, space, Recipe(preset="embedded")))
    found = scored.evaluate(ARCH, fidelity=1, seed=0)
    assert found[scored.metric.name] == found[scored.metric.name]


@pytest.mark.matrix
@pytest.mark.slow
def test_every_format_gives_the_logits_of_clips_without_attune(task, tmp_path) -> None:
    subject = Subject(ARCH, make_spec(ARCH, **task.describe(), identity_start=True, native="keep"))
    torch.manual_seed(0)
    model = subject.model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    formats = [one.name for one in known_formats()]
    found = check([write_formats(subject, model, tmp_path, formats)])[0]
    differences = {one.format: one.difference for one in found}
    assert set(differences) == set(formats)
    assert differences.pop("onnx") <= 1e-5
    assert set(differences.values()) == {0.0}
