"""One trial without Ray: seeds that are finished are kept, and a full disk is no result about the candidate."""

import errno
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from evaluators.tasks.base import Metric
from search.store import COMPLETE, FAILED
from search.trainable import EvaluationTrial, TrialPlan, TrialResult, note_path
from spaces import Architecture
from spaces.network import ClassifierHead, NetworkSpec

TEXT = "attune_tiny:none,none,none"


@dataclass
class Interrupted:
    """Raises ``error`` in seed 1 while it has one."""

    error: BaseException | None
    identity: str = "interrupted"
    seeds: list[int] = field(default_factory=list)
    metric: Metric = field(default_factory=Metric)
    network: NetworkSpec = field(default_factory=lambda: NetworkSpec(1, (8, 8), ClassifierHead(10)))

    def evaluate(self, arch: Architecture, *, seed: int, **_: Any) -> dict[str, Any]:
        self.seeds.append(seed)
        if seed == 1 and self.error is not None:
            raise self.error
        return {"accuracy": seed / 10}


def trial(evaluator: Interrupted, plan: TrialPlan) -> TrialResult:
    class Local(EvaluationTrial):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, evaluator, plan)

    return TrialResult.from_ray(Local(config={"architecture": TEXT, "costs": {}}).step())


def test_a_kill_between_seeds_loses_none(tmp_path: Path) -> None:
    plan = TrialPlan(fidelity=2, seeds=range(3), seed_notes=tmp_path / "checkpoints")
    evaluator = Interrupted(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        trial(evaluator, plan)
    evaluator.error = None
    result = trial(evaluator, plan)
    assert evaluator.seeds == [0, 1, 1, 2]
    assert [(seed, score) for seed, score, _, _ in result.by_seed] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert (result.state, result.score) == (COMPLETE, pytest.approx(0.1))
    evaluator.identity = "other data"
    trial(evaluator, replace(plan, fidelity=3))
    assert evaluator.seeds[4:] == [0, 1, 2]
    assert note_path(plan.seed_notes, Architecture.parse(TEXT), 0).exists()  # until the driver has it in its journal


def test_a_full_disk_brands_no_candidate(tmp_path: Path) -> None:
    plan = TrialPlan(fidelity=2, seeds=range(2), checkpoints=tmp_path)
    full = trial(Interrupted(OSError(errno.ENOSPC, "No space left on device")), plan)
    assert full.fault
    assert "is full" in full.reason
    bug = trial(Interrupted(ZeroDivisionError("a bug")), plan)
    assert (bug.state, bug.fault, bug.reason) == (FAILED, False, "ZeroDivisionError: a bug")
