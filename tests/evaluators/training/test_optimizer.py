"""The optimizer by name, and the rates and decays that weights get."""

import pytest
import torch
from pydantic import ValidationError

from evaluators.recipe import Recipe

CPU = torch.device("cpu")


def test_unknown_optimizer_names_the_valid_ones() -> None:
    with pytest.raises(ValidationError, match=r"unknown optimizer 'sdg'.*sgd"):
        Recipe(optimizer="sdg")
