"""What tests share: one thread per process (the machine is shared), and the folder of real data."""

import os
from pathlib import Path

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: beside other tests, workers would wait for minutes

import hypothesis
import pytest

hypothesis.settings.register_profile("attune", deadline=None, derandomize=bool(os.environ.get("CI")), max_examples=50)
# A change of the code is either noticed or not, whatever the smallest example: `make mutation` looks for none.
hypothesis.settings.register_profile(
    "mutation",
    hypothesis.settings.get_profile("attune"),
    derandomize=True,
    database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)
hypothesis.settings.load_profile("attune")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets that ATTUNE_DATA names."""
    folder = os.environ.get("ATTUNE_DATA")
    if not folder:
        pytest.skip("set ATTUNE_DATA to a folder of Hugging Face style parquet data sets to run this test")
    return Path(folder)
