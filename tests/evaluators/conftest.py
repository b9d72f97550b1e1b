"""What the tests of evaluators share: a small task, and a small space."""

import pytest

from evaluators.data import load_data
from evaluators.tasks.classification import Classification
from spaces import SearchSpace


@pytest.fixture(scope="session")
def clutter() -> Classification:
    return Classification(load_data("cluttered_digits", train_size=256, val_size=100, test_size=10))


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace.build("attune_tiny", ("none", "se", "eca", "cbam"), reductions=(2, 4), sites=("slot", "block"))
