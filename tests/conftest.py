"""What tests share: one thread per process (the machine is shared), and the folder of real data."""

import os
from collections import Counter
from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """One Ray for all searches that tests make in this process: each start of it takes eight seconds of a CPU."""
    from search.cluster import ray_session  # seconds to import
    from search.config import validate

    with ray_session(validate({"data": "digits", "space": {"backbone": "attune_tiny"}}, "test")):
        yield


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process runs what shares a Ray, and one each file of the rest, which shares what it built.

    A process takes a group at a time, and the last to be taken should be a short one: those of most slow tests are first.
    """
    shared = {
        item: "ray" if "ray_here" in getattr(item, "fixturenames", ()) else item.path.as_posix() for item in items
    }
    for item, group in shared.items():
        item.add_marker(pytest.mark.xdist_group(group))
    slow = Counter(shared[item] for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[shared[item]], shared[item]))
