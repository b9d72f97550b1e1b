"""The training evaluator: a candidate trained by a short strong recipe and judged on the validation split."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.base import Estimate, OnTask
from evaluators.memory import check_memory, free_memory, training_memory
from evaluators.outcomes import Metrics, Report
from evaluators.recipe import Recipe
from evaluators.tasks.base import Task, Watching
from evaluators.training.checkpoint import load_weights, save_weights
from evaluators.training.device import OnDevice, pick_device
from evaluators.training.estimate import training_seconds
from evaluators.training.loop import Trained, train_model, validate
from evaluators.training.optimizer import fine_tuning
from spaces.network import Native
from spaces.placement import Architecture
from spaces.protocols import offers


@dataclass(frozen=True, eq=False)
class TrainingEvaluator(OnDevice, OnTask):
    """Trains every candidate from scratch with one recipe. fidelity: epochs.

    identity_start: attention starts as the identity. native: what becomes of a backbone's own attention (NetworkSpec).
    memory: bytes that a training may take; None: what is free when it starts. There a GPU has to hold one image only,
    since running out of its memory halves the micro-batch.
    """

    task: Task
    recipe: Recipe = field(default_factory=Recipe)
    identity_start: bool = True
    native: Native = "keep"
    memory: int | None = None
    device: torch.device = field(default_factory=pick_device)

    @cached_property
    def identity(self) -> str:
        start = "identity" if self.identity_start else "fresh"
        return f"training {self.task.identity} {self.recipe.digest} {start} {self.native}"

    def evaluate(
        self,
        arch: Architecture,
        *,
        fidelity: int,
        seed: int,
        report: Report | None = None,
        keep: Path | None = None,
        checkpoint: Path | None = None,
    ) -> Metrics:
        """Metrics of `arch` after `fidelity` epochs; `keep` is a .safetensors file for the trained weights."""
        trained = self.train(arch, fidelity=fidelity, seed=seed, report=report, checkpoint=checkpoint)
        if keep is not None:
            save_weights(trained.model.state_dict(), keep)
        return trained.metrics

    def train(
        self,
        arch: Architecture,
        *,
        fidelity: int,
        seed: int,
        report: Report | None = None,
        checkpoint: Path | None = None,
        start: Mapping[str, Tensor] | None = None,
    ) -> Trained:
        """The trained model itself, with its metrics.

        start: weights to begin with instead of `initial_weights`, by name; names it does not have stay random.
        Raises EvaluationError where the training fails, or cannot fit into memory.
        """
        self._check_memory(arch)
        given = self.initial_weights(arch, seed) if start is None else start

        def build() -> nn.Module:
            model = self.build(arch)
            model.load_state_dict(dict(given), strict=False)
            if offers(self.task, Watching):
                self.task.watch(model, arch)
            return model

        return train_model(
            build,
            self.task,
            self.recipe,
            epochs=fidelity,
            seed=seed,
            device=self.device,
            report=report,
            checkpoint=checkpoint,
            tuning=fine_tuning(arch.backbone, self.task.network.head),
        )

    def test(self, arch: Architecture, weights: Path) -> Metrics:
        """The metrics of trained weights on the test split."""
        model = self.build(arch)
        load_weights(model, weights)
        batches = self.task.batches(
            "test", batch_size=self.task.validation_batch, device=self.device, workers=self.recipe.workers
        )
        return validate(model.to(self.device), batches, self.task, self.device, self.recipe.amp)

    def estimate(self, arch: Architecture, *, fidelity: int, validations: int) -> Estimate:
        """What `evaluate` takes, from a few batches of a real training and the simulation of one step."""

        def train(task: Task) -> object:
            return replace(self, task=task).train(arch, fidelity=2, seed=0, report=lambda epoch, metrics: True)

        start = time.perf_counter()
        self._check_memory(arch)  # simulates a step; that is remembered, so that no time of it is in the training below
        checking = time.perf_counter() - start
        seconds = checking + training_seconds(self.task, train, epochs=fidelity, validations=validations)
        return Estimate(seconds, training_memory(arch, **self._step(split=False)))

    def _check_memory(self, arch: Architecture) -> None:
        split = self.memory is None and self.device.type == "cuda"
        limit = free_memory(self.device) if self.memory is None else self.memory
        check_memory(arch, limit, **self._step(split=split))

    def _step(self, *, split: bool) -> dict[str, Any]:
        """What the memory of a training depends on; ``split``: down to micro-batches of one image."""
        recipe = self.recipe
        return {
            "task": self.task,
            "network": self.network,
            "batch": 1 if split else min(recipe.batch_size, self.task.count("train")),
            "optimizer_states": 1 if recipe.optimizer == "sgd" else 2,
            "average": recipe.ema is not None,
            "validation_batch": 1 if split else min(self.task.validation_batch, self.task.count("val")),
        }

    def initial_weights(self, arch: Architecture, seed: int) -> Mapping[str, Tensor]:
        """Weights to begin with, by name, besides the recipe's; none here."""
        return {}

    def build(self, arch: Architecture) -> nn.Module:
        """The model of `arch` for this task, with the recipe's starting weights."""
        weights = self.recipe.weights
        return self.network.build(arch, pretrained=True if weights == "pretrained" else weights or False)
