"""The Ray session of a run: this machine, or a cluster whose workers get this code and the data from the driver."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.config import Config
from spaces.errors import UsageError
from spaces.plugins import source_of

PACKAGES = ("spaces", "evaluators", "search")


def on_cluster(config: Config) -> bool:
    """Whether the workers may be on other machines; Ray's own variable counts as `ray.address`."""
    return config.ray.address is not None or "RAY_ADDRESS" in os.environ


@contextmanager
def ray_session(config: Config) -> Iterator[None]:
    """A Ray session: the given cluster, or one on this machine that ends with the run.

    Workers on other machines need this project's requirements installed; its code is sent to them, and the user's own that
    the configuration names.
    """
    owned = not ray.is_initialized()
    if owned:
        root = Path(__file__).parents[1]
        sources = [root / package for package in PACKAGES] + [source_of(module) for module in config.brought]
        code = {"runtime_env": {"py_modules": list(dict.fromkeys(map(str, sources)))}}
        try:
            with _importable([root, *(source_of(module).parent for module in config.brought)]):
                ray.init(
                    # Without an address Ray would join, or wait for, whatever cluster was last started on this machine.
                    address=config.ray.address or os.environ.get("RAY_ADDRESS") or "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=True,
                    **(code if on_cluster(config) else {}),
                )
        except ConnectionError as error:
            raise UsageError(f"ray.address: no Ray cluster at {config.ray.address!r}: {error}") from None
    try:
        yield
    finally:
        if owned:
            ray.shutdown()


@contextmanager
def _importable(folders: Sequence[Path]) -> Iterator[None]:
    """Let the processes that are started inside import from these folders, wherever the driver was started."""
    before = os.environ.get("PYTHONPATH")
    paths = [*map(str, folders), *([before] if before else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def trial_resources(config: Config) -> tuple[dict[str, float], int]:
    """What one trial occupies, and how many run at once; raises UsageError where not even one fits.

    On a cluster `resources.concurrency` may be more than fits now: Ray's autoscaler, or nodes that join, make room.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": config.resources.cpus, "GPU": _gpu_share(config, nodes)}
    fits = sum(_fitting(node, wanted) for node in nodes)
    asked = config.resources.concurrency
    concurrency = (asked or fits) if on_cluster(config) else min(fits, asked or fits)
    if concurrency < 1:
        have = {name: sum(node.get(name, 0) for node in nodes) for name in wanted}
        raise UsageError(
            f"one trial wants {wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs on one machine, but there are "
            f"{have['CPU']:g} CPUs and {have['GPU']:g} GPUs on {len(nodes)}"
        )
    return {"cpu": wanted["CPU"], **({"gpu": wanted["GPU"]} if wanted["GPU"] else {})}, concurrency


def _gpu_share(config: Config, nodes: list[dict[str, float]]) -> float:
    """The configured share of a GPU; without one, every CPU slot of the machines that have GPUs gets its part."""
    if config.resources.gpus is not None:
        return config.resources.gpus
    with_gpus = [node for node in nodes if node.get("GPU", 0)]
    slots = sum(node.get("CPU", 0) // config.resources.cpus for node in with_gpus)
    return min(1.0, sum(node["GPU"] for node in with_gpus) / max(1.0, slots)) if with_gpus else 0.0


def _fitting(node: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """How many trials fit on one machine."""
    return int(min(math.floor(node.get(name, 0) / share + 1e-9) for name, share in wanted.items() if share))


def actor_here(cls: type, **options: Any) -> Any:
    """An actor without a share of CPU on the driver's machine, which lives as long as the run does."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(cls).options(num_cpus=0, scheduling_strategy=here, **options).remote()
