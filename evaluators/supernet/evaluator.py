"""The supernet evaluator: trained once, an evaluation is a forward pass through shared weights."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from evaluators.base import EVALUATORS, EvaluatorConfig, OnTask, Setting
from evaluators.outcomes import Metrics, Report
from evaluators.recipe import Recipe
from evaluators.speed import use_fast_convolutions
from evaluators.supernet.network import Supernet
from evaluators.supernet.training import train_supernet
from evaluators.tasks.base import Batches, Task
from evaluators.training.checkpoint import save_weights
from evaluators.training.device import arranged, autocast, pick_device, seeded
from evaluators.training.loop import validate
from spaces.errors import UsageError, cut
from spaces.network import Native
from spaces.placement import Architecture
from spaces.space import SearchSpace


@dataclass(frozen=True, eq=False)
class SupernetEvaluator(OnTask):
    """Evaluates by a forward pass through shared weights. fidelity: epochs of the supernet's one training.

    The first evaluation at a fidelity and seed trains the supernet; each later one recalibrates the BatchNorm statistics
    on `calibration` training images and runs over `validation` images of that split (None: all), by class in proportion.
    """

    task: Task
    space: SearchSpace
    recipe: Recipe = field(default_factory=Recipe)
    identity_start: bool = True
    paths: int | None = None
    sandwich: bool = False
    calibration: int = 256
    validation: int | None = 1000
    device: torch.device = field(default_factory=pick_device)
    native: Native = "keep"
    nets: dict[tuple[int, int], Supernet] = field(default_factory=dict, repr=False)

    @cached_property
    def identity(self) -> str:
        start = "identity" if self.identity_start else "fresh"
        choices = hashlib.blake2b(repr(self.space.choices).encode(), digest_size=6).hexdigest()
        return (
            f"fair supernet {self.task.identity} {self.recipe.digest} {start} {self.paths} {self.sandwich} "
            f"{self.calibration} {self.validation} {choices}"
        )

    def at_home(self) -> Self:
        """The same on the device of this machine, with what was trained."""
        device = pick_device()
        return replace(self, device=device, nets={key: net.to(device) for key, net in self.nets.items()})

    @cached_property
    def _val(self) -> Batches:
        return self.task.batches(
            "val",
            batch_size=self.task.validation_batch,
            device=self.device,
            workers=self.recipe.workers,
            limit=self.validation,
        )

    def net(self, fidelity: int, seed: int) -> Supernet:
        """The supernet of this fidelity and seed, trained when it is first asked for."""
        if (fidelity, seed) not in self.nets:
            self.nets[fidelity, seed] = train_supernet(
                self.space,
                self.task,
                self.network,
                self.recipe,
                epochs=fidelity,
                seed=seed,
                device=self.device,
                paths=self.paths,
                sandwich=self.sandwich,
            )
        return self.nets[fidelity, seed]

    def prepare(self, folder: Path, *, fidelity: int, seeds: Sequence[int]) -> None:
        """Train the supernets of these seeds, or read those that are kept in `folder`."""
        for seed in seeds:
            file = folder / f"supernet-s{seed}-e{fidelity}.pt"
            if file.is_file():
                self.nets[fidelity, seed] = self._read(file)
            else:
                partial = file.with_name(file.name + ".partial")
                torch.save({"task": self.identity, "weights": self.net(fidelity, seed).state_dict()}, partial)
                partial.replace(file)

    def _read(self, file: Path) -> Supernet:
        net = Supernet(self.space.backbone, self.network)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
            identity, weights = content["task"], content["weights"]
        except Exception as error:  # torch, pickle and zip each have their own for a file that is damaged
            raise UsageError(
                f"{file} cannot be read: {cut(str(error), 200)}; remove it, and it is trained again"
            ) from None
        if identity != self.identity:
            raise UsageError(
                f"{file} was trained with other data or another recipe; delete it, or choose another folder"
            )
        net.load(weights)
        arranged(net.to(self.device), self.recipe.channels_last).eval()
        if self.device.type == "cpu":
            use_fast_convolutions(net)
        return net

    def weights(self, arch: Architecture, fidelity: int, seed: int) -> dict[str, Tensor]:
        """What the supernet learned for `arch`, under the names of its own network."""
        with seeded(seed, self.device):
            return self.net(fidelity, seed).weights(arch)

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
        """The task's metrics of `arch` with the shared weights; `seconds` leaves out the supernet's training.

        `keep` gets the weights of its path. There is nothing to go on with, so no `checkpoint` is written.
        """
        net = self.net(fidelity, seed)
        started = time.perf_counter()
        with seeded(seed, self.device):  # attention that no path of the training had is drawn now
            net.select(arch)
        self._recalibrate(net)
        metrics = validate(net, self._val, self.task, self.device, self.recipe.amp)
        metrics["seconds"] = time.perf_counter() - started
        if keep is not None:
            save_weights(net.weights(arch), keep)
        if report is not None:
            report(fidelity, dict(metrics))
        return metrics

    @torch.no_grad()
    def _recalibrate(self, net: Supernet) -> None:
        """BatchNorm statistics of this path alone: the plain average over a few fixed training batches."""
        norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
        net.train()
        generator = torch.Generator().manual_seed(0)
        batch = min(128, self.calibration)
        batches = self.task.batches("train", batch_size=batch, device=self.device, generator=generator)
        for _, (x_BCHW, _target) in zip(range(self.calibration // batch), batches, strict=False):
            with autocast(self.device, self.recipe.amp):
                net(x_BCHW)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        net.eval()


class TrainsSupernet(EvaluatorConfig):
    """How the one training of a supernet is configured, whoever uses it."""

    supernet_epochs: int | None = Field(
        default=None, ge=1, description="of the supernet's one training; None: half as many again as a candidate's"
    )
    paths: int | None = Field(
        default=None, ge=1, description="whose mean gradient makes a step; None: each choice once"
    )
    sandwich: bool = Field(default=False, description="the smallest and the largest path in each step as well")

    def epochs_of_supernet(self, epochs: int) -> int:
        """More than a candidate's ``epochs``, as shared weights follow a mean, which changes slowly."""
        return self.supernet_epochs or math.ceil(1.5 * epochs)

    def build_supernet(
        self, setting: Setting, calibration: int = 256, validation: int | None = 1000
    ) -> SupernetEvaluator:
        """The supernet of a run; raises UsageError where the backbone's built-in attention is to go."""
        if setting.native != "keep":
            raise UsageError(f"space.native {setting.native!r}: a supernet keeps the backbone's own; valid: keep")
        return SupernetEvaluator(
            setting.task(),
            setting.space,
            setting.recipe,
            setting.identity_start,
            self.paths,
            self.sandwich,
            calibration,
            validation,
        )


class SupernetConfig(TrainsSupernet):
    """Evaluates by a forward pass through shared weights. fidelity: epochs of the supernet's one training."""

    name: Literal["supernet"] = "supernet"
    calibration: int = Field(default=256, ge=1, description="images for the statistics of a candidate")
    validation: int | None = Field(
        default=1000, ge=1, description="images that a candidate is judged on; None: the whole validation split"
    )

    @property
    def keeps_native(self) -> bool:
        return True

    def fidelity(self, epochs: int) -> int:
        return self.epochs_of_supernet(epochs)

    def build(self, setting: Setting) -> SupernetEvaluator:
        return self.build_supernet(setting, self.calibration, self.validation)


EVALUATORS.register("supernet", SupernetConfig)
