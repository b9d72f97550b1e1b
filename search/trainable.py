"""The Ray Tune trainable: one trial is one evaluation, and what goes wrong in it is a result, not a crash."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray.tune import Trainable

from evaluators.base import EvaluationError, Evaluator
from search.store import COMPLETE, FAILED
from spaces import Architecture


class EvaluationTrial(Trainable):
    """Evaluates ``config["architecture"]`` and is reused for the next trial, so that an empty trial costs about 0.1 s."""

    def setup(self, config: dict[str, Any], evaluator: Evaluator, plan: Mapping[str, Any]) -> None:
        """``plan`` holds fidelity, seed, threads and the folder for weights (None: weights are not kept)."""
        self._evaluator = evaluator
        self._plan = plan
        torch.set_num_threads(plan["threads"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        start = time.perf_counter()
        outcome = self._evaluate(Architecture.parse(self.config["architecture"]))
        return {"seconds": time.perf_counter() - start, **outcome, **self.config["costs"], "done": True}

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
