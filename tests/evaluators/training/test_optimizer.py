"""The optimizer by name, and the rates and decays that weights get."""

import pytest
import torch

from evaluators.recipe import Recipe
from evaluators.tasks.classification import Classification
from evaluators.training.loop import train_model
from spaces.errors import UsageError
from tests.evaluators.training.networks import small

CPU = torch.device("cpu")


def test_unknown_optimizer_names_the_valid_ones(task: Classification) -> None:
    with pytest.raises(UsageError, match=r"unknown optimizer 'sdg'.*sgd"):
        train_model(small, task, Recipe(optimizer="sdg"), epochs=1, seed=0, device=CPU)
