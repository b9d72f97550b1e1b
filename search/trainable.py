"""The Ray Tune trainable: one trial is one evaluation, and what goes wrong in it is a result, not a crash.

An evaluation that may be stopped early runs in a thread of its own, which waits at every rung for the next ``step``.
"""

from __future__ import annotations

import errno
import math
import pickle
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

import ray
import torch
from ray.tune import Trainable

from evaluators.base import Evaluator, Movable
from evaluators.outcomes import EvaluationError, Report
from search.actors import Notes
from search.store import COMPLETE, FAILED, STOPPED
from spaces import Architecture
from spaces.plugins import importable, load_plugins
from spaces.protocols import offers


@dataclass(frozen=True)
class TrialPlan:
    """How every trial of a run evaluates.

    ``rungs``: epochs to report at (none: the evaluation is one step). ``threads``: of the CPU. ``weights``: the folder for
    trained weights (None: they are not kept), ``send_weights``: whether they go to the driver instead. ``checkpoints``: the
    folder for those (None: an evaluation starts anew). ``time_limit``: seconds (None: any), which ``overdue`` watches over.
    ``plugins``: modules that workers import first. ``objects``: the folder of what was given to the run as objects.
    ``seed_notes``: the folder on the driver's machine in which each seed is kept as it finishes, through the actor ``notes``
    where workers may be elsewhere.
    """

    fidelity: int
    seeds: range
    rungs: frozenset[int] = frozenset()
    threads: int = 1
    weights: Path | None = None
    send_weights: bool = False
    checkpoints: Path | None = None
    time_limit: float | None = None
    overdue: Any = None
    plugins: tuple[str, ...] = ()
    objects: Path | None = None
    seed_notes: Path | None = None
    notes: Any = None


@dataclass(frozen=True)
class TrialResult:
    """What one trial came to: the mean ``score`` over its seeds (NaN for none).

    ``by_seed``: (seed, score, seconds, metrics) of each. ``metrics``: what else the evaluator told. ``weights``: those that are
    sent to the driver, as a file's content. ``fault``: the reason is one of the machine, and says nothing about the candidate.
    """

    state: str
    reason: str = ""
    score: float = math.nan
    fidelity: int | None = None
    seconds: float = math.nan
    by_seed: tuple[tuple[int, float, float, Mapping[str, Any]], ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    weights: bytes | None = None
    fault: bool = False

    @classmethod
    def failure(cls, reason: str) -> Self:
        """That of an evaluation that gave no score."""
        return cls(FAILED, " ".join(reason.split()))

    def to_ray(self, metric: str, costs: Mapping[str, float], *, done: bool) -> dict[str, Any]:
        """As a result of Ray Tune, whose schedulers and loggers find metric and costs by their names."""
        numbers = {**self.metrics, metric: self.score, "fidelity": self.fidelity, "seconds": self.seconds, **costs}
        return {**numbers, "state": self.state, "reason": self.reason, _RESULT: self, "done": done}

    @staticmethod
    def from_ray(result: Mapping[str, Any]) -> TrialResult:
        found: TrialResult = result[_RESULT]
        return found


_RESULT = "trial_result"


class _Ended(BaseException):
    """Unwinds an evaluation that was stopped, past its handlers of errors, so that it keeps nothing."""


class Pausing:
    """A function in a thread that stands still after each result it passes on, until it is asked for the next."""

    def __init__(self, function: Callable[[Callable[[TrialResult], None]], TrialResult]) -> None:
        self._function = function
        self._results: SimpleQueue[tuple[TrialResult, bool] | BaseException] = SimpleQueue()
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def next(self) -> tuple[TrialResult, bool]:
        """The next result, and whether it is the last; the function's own errors are raised here."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._orders.put(True)
        result = self._results.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def end(self) -> None:
        """Unwind the function where it stands."""
        self._orders.put(False)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._results.put((self._function(self._pause), True))
        except _Ended:
            pass
        except BaseException as error:
            self._results.put(error)

    def _pause(self, result: TrialResult) -> None:
        self._results.put((result, False))
        if not self._orders.get():
            raise _Ended


class EvaluationTrial(Trainable):
    """Evaluates ``config["architecture"]`` and is reused for the next trial, so that an empty trial costs about 0.1 s."""

    def setup(self, config: dict[str, Any], evaluator: Evaluator, plan: TrialPlan) -> None:
        if plan.objects is not None:
            importable(plan.objects)
        load_plugins(plan.plugins)
        self._evaluator = evaluator.at_home() if offers(evaluator, Movable) else evaluator
        self._metric = evaluator.metric.name
        self._plan = plan
        self._running: Pausing | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.config = new_config
        return True

    def cleanup(self) -> None:
        """End the evaluation that a scheduler stopped."""
        if self._running is not None:
            self._running.end()
            self._running = None

    def step(self) -> dict[str, Any]:
        """The whole evaluation, or the part of it up to the next rung."""
        if not self._plan.rungs:
            result, done = self._evaluation(None), True
        else:
            self._running = self._running or Pausing(self._evaluation)
            result, done = self._running.next()
            if done:
                self._running = None
        return result.to_ray(self._metric, self.config["costs"], done=done)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Ray saves a trial that a scheduler stops; what counts is in the store."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing was kept, see ``save_checkpoint``."""

    def _evaluation(self, pause: Callable[[TrialResult], None] | None) -> TrialResult:
        """The final result; ``pause`` gets those at the rungs, each of them what is to be kept if it ends there."""
        start = time.perf_counter()
        torch.set_num_threads(self._plan.threads)  # of the thread that computes

        def report(epoch: int, metrics: Mapping[str, Any]) -> bool:
            if pause is not None and epoch in self._plan.rungs:
                reason = f"dominated after {epoch} epochs"
                score = float(metrics[self._metric])
                seconds = float(metrics.get("seconds", time.perf_counter() - start))
                pause(TrialResult(STOPPED, reason, score, epoch, seconds, metrics=dict(metrics)))
            return True

        arch = Architecture.parse(self.config["architecture"])
        try:
            with self._time_limit():
                result = self._evaluate(arch, report if pause else None)
        except _Ended:
            self._discard_checkpoints(arch)
            raise
        self._discard_checkpoints(arch)  # and not when the worker is stopped: the next one goes on from them
        seconds = time.perf_counter() - start if math.isnan(result.seconds) else result.seconds
        return replace(result, fidelity=self._plan.fidelity, seconds=seconds)

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        """Has this worker ended from outside when the limit passes."""
        limit, overdue = self._plan.time_limit, self._plan.overdue
        if limit is None:
            yield
            return
        text = self.config["architecture"]
        ray.get(overdue.begin.remote(text, limit, ray.get_runtime_context().current_actor))
        try:
            yield
        finally:
            overdue.finish.remote(text)

    def _discard_checkpoints(self, arch: Architecture) -> None:
        for seed in self._plan.seeds:
            file = checkpoint_path(self._plan.checkpoints, arch, seed)
            if file is not None:
                file.unlink(missing_ok=True)

    def _evaluate(self, arch: Architecture, report: Report | None) -> TrialResult:
        """The result over all seeds. Weights are kept of the first seed. One seed that fails is a failure."""
        plan, found = self._plan, []
        send = plan.weights is not None and plan.send_weights
        try:
            with tempfile.TemporaryDirectory() if send else nullcontext(plan.weights) as folder:
                keep = weights_path(Path(folder) if folder else None, arch)
                for number, seed in enumerate(plan.seeds):
                    kept = keep if number == 0 else None
                    one = self._noted(arch, seed, None if send else kept)
                    if one is None:
                        start = time.perf_counter()
                        metrics = self._evaluator.evaluate(
                            arch,
                            fidelity=plan.fidelity,
                            seed=seed,
                            report=report,
                            keep=kept,
                            checkpoint=checkpoint_path(plan.checkpoints, arch, seed),
                        )
                        score = float(metrics[self._metric])
                        if not math.isfinite(score):
                            return TrialResult.failure(f"{self._metric} is {score}")
                        seconds = float(metrics.get("seconds", time.perf_counter() - start))
                        weights = kept.read_bytes() if send and kept and kept.exists() else None
                        one = SeedResult(self._evaluator.identity, plan.fidelity, score, seconds, metrics, weights)
                        self._note(arch, seed, one)
                    found.append(one)
        except EvaluationError as error:
            return TrialResult.failure(str(error))
        except Exception as error:  # a bug in one module must not end a search of days; the reason is kept and shown
            full = full_disk(error, [plan.weights, plan.checkpoints, Path(tempfile.gettempdir())])
            reason = TrialResult.failure(f"{type(error).__name__}: {error}")
            return replace(reason, reason=full, fault=True) if full else reason
        by_seed = tuple(
            (seed, one.score, one.seconds, one.metrics) for seed, one in zip(plan.seeds, found, strict=True)
        )
        score = sum(score for _, score, _, _ in by_seed) / len(by_seed)
        seconds = sum(seconds for _, _, seconds, _ in by_seed)
        told = {name: value for one in found for name, value in one.metrics.items()}
        return TrialResult(
            COMPLETE, "", score, seconds=seconds, by_seed=by_seed, metrics=told, weights=found[0].weights
        )

    def _noted(self, arch: Architecture, seed: int, weights: Path | None) -> SeedResult | None:
        """What an earlier worker, which was killed at a later seed, came to; None where this one has to be made."""
        path = note_path(self._plan.seed_notes, arch, seed)
        if path is None or (weights is not None and not weights.exists()):
            return None
        notes = self._plan.notes
        content = ray.get(notes.get.remote(path)) if notes is not None else Notes().get(path)
        if content is None:
            return None
        one: SeedResult = pickle.loads(content)
        same = (one.identity, one.fidelity) == (self._evaluator.identity, self._plan.fidelity)
        return one if same else None

    def _note(self, arch: Architecture, seed: int, one: SeedResult) -> None:
        path = note_path(self._plan.seed_notes, arch, seed)
        if path is not None:
            content = pickle.dumps(one)
            if self._plan.notes is None:
                Notes().put(path, content)
            else:
                ray.get(self._plan.notes.put.remote(path, content))


@dataclass(frozen=True)
class SeedResult:
    """What one seed of an evaluation over several came to, and under which identity."""

    identity: str
    fidelity: int
    score: float
    seconds: float
    metrics: Mapping[str, Any]
    weights: bytes | None


def full_disk(error: BaseException, folders: Sequence[Path | None]) -> str | None:
    """In words, that an error comes from a disk that takes no more; None for any other.

    Libraries hide the system's error in words of their own, or lose it: then the disks of ``folders`` are asked.
    """
    chain: BaseException | None = error
    while chain is not None:
        full = isinstance(chain, OSError) and chain.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in str(chain) for words in ("No space left", "Disk quota exceeded", "disk is full")):
            return f"the disk of {socket.gethostname()} is full ({' '.join(str(error).split())})"
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, OSError | RuntimeError) and "writ" in str(error):
        for folder in folders:
            if folder is not None and folder.exists() and shutil.disk_usage(folder).free < 2**20:
                return f"the disk of {socket.gethostname()} is full ({folder}: {' '.join(str(error).split())})"
    return None


def note_path(folder: Path | None, arch: Architecture, seed: int) -> Path | None:
    """Where one of several seeds is kept until all of them are; None where there is one only."""
    return folder / f"{arch.key}-s{seed}.seed" if folder else None


def weights_path(folder: Path | None, arch: Architecture, seed: int | None = None) -> Path | None:
    """Where trained weights lie, with a seed where it is not the search's own; None where they are not kept."""
    return folder / f"{arch.key}{'' if seed is None else f'-s{seed}'}.safetensors" if folder else None


def checkpoint_path(folder: Path | None, arch: Architecture, seed: int) -> Path | None:
    """Where an evaluation of several epochs keeps what it needs to go on; None where it would start anew."""
    return folder / f"{arch.key}-s{seed}.pt" if folder else None
