"""What the tests of trainings share."""

import pytest

from evaluators.data import Data, load_data
from evaluators.tasks.classification import Classification


@pytest.fixture(scope="session")
def data() -> Data:
    return load_data("digits", image_size=12)


@pytest.fixture(scope="session")
def task(data: Data) -> Classification:
    return Classification(data)
