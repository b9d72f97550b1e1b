"""The Ray Tune trainable: one trial is one evaluation, and what goes wrong in it is a result, not a crash.

An evaluation that may be stopped early runs in a thread of its own, which waits at every rung for the next ``step``.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
import torch
from ray.tune import Trainable

from evaluators.base import EvaluationError, Evaluator, Movable, Report
from search.store import COMPLETE, FAILED, STOPPED
from spaces import Architecture


class Overdue:
    """The architectures whose evaluation took too long, for the driver and all workers (as a Ray actor)."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def note(self, architecture: str, reason: str) -> None:
        self._reasons[architecture] = reason

    def reason(self, architecture: str) -> str | None:
        return self._reasons.get(architecture)


Outcome = dict[str, Any]


class _Ended(BaseException):
    """Unwinds an evaluation that was stopped, past its handlers of errors, so that it keeps nothing."""


class Pausing:
    """A function in a thread that stands still after each outcome it passes on, until it is asked for the next."""

    def __init__(self, function: Callable[[Callable[[Outcome], None]], Outcome]) -> None:
        self._function = function
        self._outcomes: SimpleQueue[Outcome | BaseException] = SimpleQueue()
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def next(self) -> Outcome:
        """The next outcome; the function's own errors are raised here."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._orders.put(True)
        outcome = self._outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def end(self) -> None:
        """Unwind the function where it stands."""
        self._orders.put(False)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._outcomes.put(self._function(self._pause))
        except _Ended:
            pass
        except BaseException as error:
            self._outcomes.put(error)

    def _pause(self, outcome: Outcome) -> None:
        self._outcomes.put(outcome)
        if not self._orders.get():
            raise _Ended


class EvaluationTrial(Trainable):
    """Evaluates ``config["architecture"]`` and is reused for the next trial, so that an empty trial costs about 0.1 s."""

    def setup(self, config: dict[str, Any], evaluator: Evaluator, plan: Mapping[str, Any]) -> None:
        """``plan`` holds fidelity, the ``rungs`` to report at (none: the evaluation is one step), seeds, threads, the folder
        for weights (None: weights are not kept) and whether to send them to the driver instead, that for checkpoints (None: an
        evaluation starts anew), and ``overdue`` and ``time_limit`` in seconds (None: it may take any time)."""
        self._evaluator = evaluator.at_home() if isinstance(evaluator, Movable) else evaluator
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

    def step(self) -> Outcome:
        """The whole evaluation, or the part of it up to the next rung."""
        if not self._plan["rungs"]:
            return self._evaluation(None)
        self._running = self._running or Pausing(self._evaluation)
        outcome = self._running.next()
        if outcome["done"]:
            self._running = None
        return outcome

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Ray saves a trial that a scheduler stops; what counts is in the store."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing was kept, see ``save_checkpoint``."""

    def _evaluation(self, pause: Callable[[Outcome], None] | None) -> Outcome:
        """The final outcome; ``pause`` gets those at the rungs, each of them what is to be kept if it ends there."""
        start = time.perf_counter()
        torch.set_num_threads(self._plan["threads"])  # of the thread that computes

        def passed(outcome: Outcome, done: bool) -> Outcome:
            return {"seconds": time.perf_counter() - start, **outcome, **self.config["costs"], "done": done}

        def report(epoch: int, metrics: Mapping[str, Any]) -> bool:
            if pause is not None and epoch in self._plan["rungs"]:
                reason = f"dominated after {epoch} epochs"
                pause(passed({**metrics, "state": STOPPED, "reason": reason, "fidelity": epoch}, done=False))
            return True

        arch = Architecture.parse(self.config["architecture"])
        try:
            with self._time_limit() as overdue:
                outcome = failed(overdue) if overdue else self._evaluate(arch, report if pause else None)
        except _Ended:
            self._discard_checkpoints(arch)
            raise
        self._discard_checkpoints(arch)  # and not when the worker is stopped: the next one goes on from them
        return passed(outcome | {"fidelity": self._plan["fidelity"]}, done=True)

    @contextmanager
    def _time_limit(self) -> Iterator[str | None]:
        """Ends the worker when the limit passes: code that hangs cannot be interrupted in any other way.

        The reason is noted first. Ray tries the trial again in a new worker, which gets the reason here and fails with it.
        """
        limit, overdue = self._plan["time_limit"], self._plan["overdue"]
        if limit is None:
            yield None
            return
        text = self.config["architecture"]

        def end() -> None:
            ray.get(overdue.note.remote(text, f"the time limit of {limit:g} s passed"))
            os._exit(1)

        timer = threading.Timer(limit, end)
        timer.daemon = True
        reason = ray.get(overdue.reason.remote(text))
        if reason is None:
            timer.start()
        try:
            yield reason
        finally:
            timer.cancel()

    def _discard_checkpoints(self, arch: Architecture) -> None:
        for seed in self._plan["seeds"]:
            file = checkpoint_path(self._plan["checkpoints"], arch, seed)
            if file is not None:
                file.unlink(missing_ok=True)

    def _evaluate(self, arch: Architecture, report: Report | None) -> Outcome:
        """The outcome over all seeds: ``by_seed`` holds (seed, accuracy, seconds) of each, ``accuracy`` is their mean.

        Weights are kept of the first seed. One seed that fails is a failure.
        """
        plan, by_seed = self._plan, []
        send = bool(plan["weights"] and plan["send_weights"])
        outcome: Outcome = {}
        try:
            with tempfile.TemporaryDirectory() if send else nullcontext(plan["weights"]) as folder:
                keep = weights_path(Path(folder) if folder else None, arch)
                for number, seed in enumerate(plan["seeds"]):
                    start = time.perf_counter()
                    metrics = self._evaluator.evaluate(
                        arch,
                        fidelity=plan["fidelity"],
                        seed=seed,
                        report=report,
                        keep=keep if number == 0 else None,
                        checkpoint=checkpoint_path(plan["checkpoints"], arch, seed),
                    )
                    if not math.isfinite(metrics["accuracy"]):
                        return failed(f"accuracy is {metrics['accuracy']}")
                    seconds = metrics.get("seconds", time.perf_counter() - start)
                    by_seed.append((seed, metrics["accuracy"], seconds))
                    outcome |= metrics
                if send and keep and keep.exists():
                    outcome["weights"] = keep.read_bytes()
        except EvaluationError as error:
            return failed(str(error))
        except Exception as error:  # a bug in one module must not end a search of days; the reason is kept and shown
            return failed(f"{type(error).__name__}: {error}")
        outcome["accuracy"] = sum(accuracy for _, accuracy, _ in by_seed) / len(by_seed)
        outcome["seconds"] = sum(seconds for _, _, seconds in by_seed)
        return {**outcome, "by_seed": by_seed, "state": COMPLETE, "reason": ""}


def failed(reason: str) -> Outcome:
    """The outcome of an evaluation that gave no accuracy."""
    return {"state": FAILED, "reason": " ".join(reason.split()), "accuracy": math.nan}


def weights_path(folder: Path | None, arch: Architecture, seed: int | None = None) -> Path | None:
    """Where trained weights lie, with a seed where it is not the search's own; None where they are not kept."""
    return folder / f"{arch.key}{'' if seed is None else f'-s{seed}'}.safetensors" if folder else None


def checkpoint_path(folder: Path | None, arch: Architecture, seed: int) -> Path | None:
    """Where an evaluation of several epochs keeps what it needs to go on; None where it would start anew."""
    return folder / f"{arch.key}-s{seed}.pt" if folder else None
