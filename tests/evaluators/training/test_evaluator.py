"""The training evaluator: from the plain backbone's weights, at its accuracy, with rates by depth."""

from pathlib import Path

import pytest
import torch

from evaluators.data import load_data
from evaluators.memory import training_memory
from evaluators.recipe import Recipe
from evaluators.tasks.classification import Classification
from evaluators.training.evaluator import TrainingEvaluator
from evaluators.training.loop import validate
from evaluators.training.optimizer import fine_tuning, make_optimizer
from spaces import Architecture
from spaces.backbones.weights import load_weights
from spaces.errors import UsageError

CPU = torch.device("cpu")


def test_checkpoint_of_the_plain_backbone_starts_an_identity_architecture_at_its_accuracy(tmp_path: Path) -> None:
    task = Classification(load_data("digits", image_size=16))
    evaluator = TrainingEvaluator(task, Recipe(epochs=2, batch_size=32, crop=1), device=CPU)
    plain = Architecture.parse("attune_tiny:none,none,none")
    file = tmp_path / "plain.safetensors"
    floor = evaluator.evaluate(plain, fidelity=2, seed=0, keep=file)["accuracy"]

    arch = Architecture.parse("attune_tiny:se-r4,cbam-r4,coordinate-r4")
    tuner = TrainingEvaluator(task, Recipe(weights=str(file), layer_decay=0.5), device=CPU)
    model = tuner.build(arch)
    batches = task.batches("val", batch_size=100, device=CPU)
    assert validate(model, batches, task, CPU, "auto")["accuracy"] == floor

    groups = make_optimizer(model, tuner.recipe, fine_tuning("attune_tiny")).param_groups
    scale = {id(weight): group["lr_scale"] for group in groups for weight in group["params"]}
    weights = dict(model.named_parameters())
    assert scale[id(weights["conv1.weight"])] == 0.5**4
    assert scale[id(weights["layer1.0.conv1.weight"])] == 0.5**3
    assert scale[id(weights["layer3.0.conv1.weight"])] == 0.5
    assert scale[id(weights["fc.weight"])] == 1
    attention = [name for name in weights if ".attune." in name]
    assert attention
    assert all(scale[id(weights[name])] == 1 for name in attention)

    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "bad.pt")
    with pytest.raises(UsageError, match=r"bad.pt' does not fit the backbone: it .* conv1.weight"):
        load_weights(model, tmp_path / "bad.pt")
    with pytest.raises(UsageError, match="no such checkpoint"):
        load_weights(model, tmp_path / "missing.pt")


def test_an_estimate_simulates_a_step_once() -> None:
    task = Classification(load_data("digits", image_size=12))
    evaluator = TrainingEvaluator(task, Recipe(epochs=2, batch_size=32, crop=1), device=CPU)
    before = training_memory.cache_info()
    told = evaluator.estimate(Architecture.parse("attune_tiny:none,none,se-r4"), fidelity=2, validations=1)
    after = training_memory.cache_info()
    assert told.memory is not None
    assert after.misses == before.misses + 1
    assert after.hits == before.hits + 2  # the training's own check, and the bytes that are told
