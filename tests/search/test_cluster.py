"""A run on a real Ray cluster of several raylets on this machine, and the copies of its run directory."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster

from evaluators.tasks import Metric
from search import cluster as cluster_module
from search import runner
from search.cluster import trial_resources
from search.config import Config, validate
from search.mirror import Mirror, fetch
from search.store import COMPLETE, read_journal
from spaces import Architecture, NetworkSpec
from spaces.errors import UsageError

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not have the folder of the tests

TRIALS = 10


@dataclass(frozen=True)
class TravellingEvaluator:
    """Writes weights, and into ``log`` a line with the machine that it ran on and where the project's code came from.

    No evaluation ends before two machines have begun one, and none of the later ones before three have.
    """

    log: Path
    identity: str = "travelling"

    network: ClassVar[NetworkSpec] = NetworkSpec.classifier(8, 10, 1)
    metric: ClassVar[Metric] = Metric()

    def evaluate(self, arch: Architecture, *, keep: Path | None = None, **_: Any) -> dict[str, Any]:
        import spaces

        assert keep is not None
        keep.write_bytes(str(arch).encode())
        with open(self.log, "a") as log:
            log.write(f"{ray.get_runtime_context().get_node_id()} {spaces.__file__}\n")
        begun = len(self.log.read_text().splitlines())
        wait_for(lambda: len({node for node, _ in read_log(self.log)}) >= (2 if begun <= 6 else 3))
        return {"accuracy": 0.5}


def configuration(**changes: Any) -> Config:
    space = {"backbone": "attune_tiny", "attentions": ["none", "se", "eca"], "reductions": [4], "kernels": [3]}
    search = {"sampler": "random", "trials": TRIALS, "keep_weights": "all"}
    return validate({"name": "cluster", "data": "digits", "space": space, "search": search} | changes, "test")


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("not in five minutes")


def read_log(log: Path) -> list[list[str]]:
    """Machine and place of the code, for each evaluation that began."""
    return [line.split(" ", 1) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.matrix
@pytest.mark.slow
def test_a_run_goes_on_while_one_node_is_killed_and_another_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setattr(runner, "create_evaluator", lambda config: TravellingEvaluator(log))
    monkeypatch.chdir(tmp_path)  # Ray would add a folder with this project to the workers' path
    folder, nodes = tmp_path / "run", {}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0}, shutdown_at_exit=False)
    try:
        nodes["stays"] = cluster.add_node(num_cpus=1)
        nodes["dies"] = cluster.add_node(num_cpus=1)

        def disturb() -> None:
            wait_for(lambda: nodes["dies"].node_id in dict(read_log(log)) and len(read_journal(folder)) >= 2)
            cluster.remove_node(nodes["dies"], allow_graceful=False)
            nodes["joins"] = cluster.add_node(num_cpus=1, wait=False)

        disturber = threading.Thread(target=disturb, daemon=True)
        disturber.start()
        config = configuration(
            ray={"address": cluster.address, "storage": str(tmp_path / "storage")},
            resources={"concurrency": 2, "retries": 3},
        )
        outcome = runner.run_search(config, folder)
        disturber.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    evaluations = read_journal(folder)
    assert (outcome.finished, outcome.failed) == (TRIALS, 0)
    assert {e.state for e in evaluations} == {COMPLETE}
    assert len({e.architecture for e in evaluations}) == TRIALS
    assert {node for node, _ in read_log(log)} == {node.node_id for node in nodes.values()}
    assert all("py_modules" in path for _, path in read_log(log))  # not what lies on the driver's disk
    weights = {path.read_text() for path in (folder / "weights").iterdir()}
    assert weights == {e.architecture for e in evaluations}
    assert read_journal(tmp_path / "storage" / "run") == evaluations


def test_what_fits_is_counted_machine_by_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"CPU": 3.0}, {"CPU": 3.0, "GPU": 1.0}, {"CPU": 1.0}]
    monkeypatch.setattr(cluster_module.ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    assert trial_resources(configuration(resources={"cpus": 2, "gpus": 0})) == ({"cpu": 2}, 2)
    assert trial_resources(configuration(resources={"cpus": 1})) == ({"cpu": 1, "gpu": pytest.approx(1 / 3)}, 3)
    assert trial_resources(configuration(resources={"cpus": 1, "gpus": 0, "concurrency": 99}))[1] == 7
    with pytest.raises(UsageError, match="4 CPUs and 0 GPUs on one machine, but there are 7 CPUs and 1 GPUs on 3"):
        trial_resources(configuration(resources={"cpus": 4, "gpus": 0}))
    growing = configuration(resources={"cpus": 4, "gpus": 0, "concurrency": 9}, ray={"address": "auto"})
    assert trial_resources(growing) == ({"cpu": 4}, 9)  # the autoscaler makes room


@pytest.mark.parametrize("url", ["memory://bucket/attune", "{tmp}/shared"])
def test_a_mirror_follows_the_run_directory_and_gives_it_back(tmp_path: Path, url: str) -> None:
    url = url.format(tmp=tmp_path)
    run = tmp_path / "run"
    (run / "weights").mkdir(parents=True)
    (run / "ray").mkdir()
    for name in ("config.yaml", "evaluations.jsonl", "weights/a", "weights/b", "ray/big", ".lock"):
        (run / name).write_text(name)
    mirror = Mirror(run, url)
    mirror.push(now=True)
    (run / "weights" / "a").unlink()
    (run / "evaluations.jsonl").write_text("longer than before")
    mirror.push(now=True)
    fetch(mirror.url, tmp_path / "back")
    found = {
        path.relative_to(tmp_path / "back").as_posix() for path in (tmp_path / "back").rglob("*") if path.is_file()
    }
    assert found == {"config.yaml", "evaluations.jsonl", "weights/b"}
    assert (tmp_path / "back" / "evaluations.jsonl").read_text() == "longer than before"
    with pytest.raises(UsageError, match="is there already"):
        fetch(mirror.url, tmp_path / "back")
    with pytest.raises(UsageError, match="holds no run"):
        fetch(f"{url}/other", tmp_path / "other")


def test_a_storage_that_fails_is_tried_again_and_fails_the_run_at_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: a")
    (tmp_path / "taken").write_text("a file where the storage should be")
    mirror = Mirror(tmp_path / "run", str(tmp_path / "taken"))
    with caplog.at_level(logging.WARNING):
        mirror.push()
    assert "trying again later" in caplog.text
    with pytest.raises(OSError, match="taken"):
        mirror.push(now=True)
    with pytest.raises(UsageError, match=r"ray.storage 'nothing://x': Protocol not known"):
        runner.run_search(configuration(ray={"storage": "nothing://x"}), tmp_path / "other")
    assert not (tmp_path / "other").exists()
