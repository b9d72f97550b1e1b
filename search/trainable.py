"""The Ray Tune trainable: one trial is one evaluation, and what goes wrong in it is a result, not a crash."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from ray.tune import Trainable

from evaluators.base import EvaluationError, Evaluator
from search.store import COMPLETE, FAILED
from spaces import Architecture


class Overdue:
    """The architectures whose evaluation took too long, for the driver and all workers (as a Ray actor)."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def note(self, architecture: str, reason: str) -> None:
        self._reasons[architecture] = reason

    def reason(self, architecture: str) -> str | None:
        return self._reasons.get(architecture)


class EvaluationTrial(Trainable):
    """Evaluates ``config["architecture"]`` and is reused for the next trial, so that an empty trial costs about 0.1 s."""

    def setup(self, config: dict[str, Any], evaluator: Evaluator, plan: Mapping[str, Any]) -> None:
        """``plan`` holds fidelity, seed, threads, the folder for weights (None: weights are not kept), and ``overdue`` and
        ``time_limit`` in seconds (None: an evaluation may take any time)."""
        self._evaluator = evaluator
        self._plan = plan
        torch.set_num_threads(plan["threads"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        start = time.perf_counter()
        with self._time_limit() as overdue:
            outcome = failed(overdue) if overdue else self._evaluate(Architecture.parse(self.config["architecture"]))
        return {"seconds": time.perf_counter() - start, **outcome, **self.config["costs"], "done": True}

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

    def _evaluate(self, arch: Architecture) -> dict[str, Any]:
        plan = self._plan
        try:
            metrics = self._evaluator.evaluate(
                arch, fidelity=plan["fidelity"], seed=plan["seed"], keep=weights_path(plan["weights"], arch)
            )
        except EvaluationError as error:
            return failed(str(error))
        except Exception as error:  # a bug in one module must not end a search of days; the reason is kept and shown
            return failed(f"{type(error).__name__}: {error}")
        if not math.isfinite(metrics["accuracy"]):
            return failed(f"accuracy is {metrics['accuracy']}")
        return {**metrics, "state": COMPLETE, "reason": ""}


def failed(reason: str) -> dict[str, Any]:
    """The outcome of an evaluation that gave no accuracy."""
    return {"state": FAILED, "reason": " ".join(reason.split()), "accuracy": math.nan}


def weights_path(folder: Path | None, arch: Architecture, seed: int | None = None) -> Path | None:
    """Where trained weights lie, with a seed where it is not the search's own; None where they are not kept."""
    return folder / f"{arch.key}{'' if seed is None else f'-s{seed}'}.safetensors" if folder else None
