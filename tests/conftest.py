"""What tests share: one thread per process (the machine is shared), and the folder of real data."""

import atexit
import gc
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: beside other tests, workers would wait for minutes

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

gc.set_threshold(50_000, 50, 50)  # what torch and timm make stays, and is looked through for cycles again and again
atexit.register(gc.freeze)

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


class Together(LoadFileScheduling):  # type: ignore[misc]
    """One process runs the files of which a test shares the Ray of ``ray_here``, and one each other file.

    Not by xdist's groups: pytest 9 ignores the names that xdist 3.8 writes them into.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(self.config.rootpath / nodeid.partition("::")[0])


@cache
def group_of(file: Path) -> str:
    """What one process runs, of which a file is a part."""
    return "ray" if "ray_here" in file.read_text() else str(file)


def pytest_collection_finish() -> None:
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of most slow tests first: a process takes a group at a time, and the last to be taken should be a short one."""
    slow = Counter(group_of(item.path) for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[group_of(item.path)])
