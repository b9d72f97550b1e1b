"""What a training writes: a checkpoint after every epoch, from which it goes on, and its weights at the end."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluators.outcomes import Metrics
from evaluators.recipe import Recipe
from spaces.errors import UsageError, cut

log = logging.getLogger(__name__)


def essence(recipe: Recipe, epochs: int, seed: int, steps_per_epoch: int) -> dict[str, Any]:
    """What must be equal for one training to continue another: all but the epochs, where the schedule does not need them."""
    stretched = recipe.schedule != "constant" and recipe.horizon is None
    return {
        "recipe": recipe.digest,
        "seed": seed,
        "steps_per_epoch": steps_per_epoch,
        "epochs": epochs if stretched else None,
    }


@dataclass(eq=False)
class Progress:
    """Everything that a training needs in order to go on after `epoch`."""

    model: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    essence: dict[str, Any]
    metrics: Metrics = field(default_factory=dict)
    seconds: float = 0.0  # spent before the interruption

    def save(self, file: Path | None, epoch: int, metrics: Metrics) -> None:
        """Write the checkpoint, whole or not at all."""
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "plan": self.essence,
            "epoch": epoch,
            "metrics": metrics,
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "random": torch.random.get_rng_state(),
        }
        partial = file.with_name(file.name + ".partial")
        torch.save(content, partial)
        partial.replace(file)

    def load(self, file: Path | None, epochs: int) -> int:
        """Take over the checkpoint of an earlier part of this training; the epochs it had finished, 0 without one."""
        if file is None or not file.is_file():
            return 0
        content = _read(file, like=self.model.state_dict())
        if content is None or content["plan"] != self.essence or content["epoch"] > epochs:
            return 0
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.generator.set_state(content["generator"])
        torch.random.set_rng_state(content["random"])
        self.metrics, self.seconds = content["metrics"], content["metrics"]["seconds"]
        return int(content["epoch"])


_PARTS = frozenset(["plan", "epoch", "metrics", "model", "average", "optimizer", "generator", "random"])


def _read(file: Path, like: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """What ``Progress.save`` wrote; None, and a line in the log, for a file that is damaged or of another network."""
    try:
        with zipfile.ZipFile(file) as archive:  # torch itself does not compare the sums that it writes
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        log.warning("%s cannot be read, so its training begins anew: %s", file, cut(str(error), 200))
        return None
    whole = isinstance(content, dict) and content.keys() >= _PARTS and isinstance(content["model"], dict)
    if not whole or {k: v.shape for k, v in content["model"].items()} != {k: v.shape for k, v in like.items()}:
        log.warning("%s is no checkpoint of this network, so its training begins anew", file)
        return None
    return dict(content)


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a network with the weights of a file; raises UsageError for one that is damaged or of another network."""
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UsageError(
            f"{path} cannot be read: {cut(str(error), 200)}; put back a whole one, or train it again"
        ) from None


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state_dict as safetensors, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, partial)
    partial.replace(path)
