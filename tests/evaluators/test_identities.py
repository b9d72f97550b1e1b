"""What stored evaluations are known by: these texts are in the journals of users and must not change."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from evaluators.base import Evaluator
from evaluators.data import load_data
from evaluators.proxies import ProxyEvaluator
from evaluators.recipe import Recipe
from evaluators.supernet import SupernetEvaluator
from evaluators.table import TableEvaluator
from evaluators.tasks.classification import Classification
from evaluators.trained import SupernetStart
from evaluators.training import TrainingEvaluator
from spaces import SearchSpace

DIGITS = "digits#f42c1d934f5e882ab3d37243039e9d46"
SHORT, CHOICES = "e3cb0c031d54", "8819243ce3b9"  # of the recipe, and of the space
SUPERNET = f"fair supernet {DIGITS} {SHORT} identity None False 256 1000 {CHOICES}"


@pytest.fixture(scope="module")
def task() -> Classification:
    return Classification(load_data("digits", image_size=12))


@pytest.fixture(scope="module")
def evaluators(task: Classification, space: SearchSpace) -> dict[str, Evaluator]:
    recipe, device = Recipe(), torch.device("cpu")
    supernet = SupernetEvaluator(task, space, recipe, device=device)
    other = {"paths": 3, "sandwich": True, "calibration": 64, "validation": None, "identity_start": False}
    unusual = Recipe(weights="pretrained", horizon=9, ema=0.9)
    plain = TrainingEvaluator(task, recipe, device=device)
    return {
        f"training {DIGITS} {SHORT} identity keep": plain,
        f"training {DIGITS} c645fb5b2d50 identity keep": replace(plain, recipe=Recipe(preset="embedded")),
        f"training {DIGITS} bc0234ebb374 identity keep": replace(plain, recipe=unusual),
        f"training {DIGITS} {SHORT} fresh replace": replace(plain, native="replace", identity_start=False),
        SUPERNET: supernet,
        f"fair supernet {DIGITS} {SHORT} fresh 3 True 64 None {CHOICES}": replace(supernet, **other),
        f"training {DIGITS} {SHORT} identity keep from 3 epochs of {SUPERNET}": SupernetStart(
            task, recipe, device=device, supernet=supernet, supernet_epochs=3
        ),
        f"proxy snip 64 {DIGITS} fresh keep": ProxyEvaluator(task, "snip", device=device),
        f"proxy params 8 {DIGITS} identity remove": ProxyEvaluator(task, "params", 8, True, "remove", device),
    }


def test_evaluators_are_known_by_the_texts_of_earlier_versions(evaluators: dict[str, Evaluator]) -> None:
    assert {text: evaluator.identity for text, evaluator in evaluators.items()} == {text: text for text in evaluators}


def test_data_are_known_by_their_content(task: Classification) -> None:
    assert task.identity == DIGITS
    clutter = load_data("cluttered_digits", train_size=20, val_size=10)
    assert clutter.identity == "cluttered_digits#54f7b525e824fb4173e6bff0007a6d72"


def test_a_table_is_known_by_its_name_and_content(task: Classification, tmp_path: Path) -> None:
    rows = {"architecture": ["attune_tiny:se-r2@slot,none,none"], "accuracy_0": [0.25], "accuracy_1": [0.5]}
    pd.DataFrame({**rows, "flops": [7]}).to_csv(tmp_path / "table.csv", index=False)
    assert TableEvaluator.read(tmp_path / "table.csv", task).identity == "table table.csv 9ec71c50f9925058"
