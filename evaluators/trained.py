"""The evaluator `training` as it is configured: candidates trained from scratch, or from what a supernet has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from evaluators.base import EVALUATORS, EvaluatorConfig, Setting
from evaluators.supernet.evaluator import SupernetEvaluator, TrainsSupernet
from evaluators.training.evaluator import TrainingEvaluator
from spaces.errors import unknown
from spaces.placement import Architecture


@dataclass(frozen=True, eq=False)
class SupernetStart(TrainingEvaluator):
    """Trains every candidate from the weights that a supernet has learned for it. fidelity: epochs of that training.

    supernet_epochs: those of the supernet's one training.
    """

    supernet: SupernetEvaluator = field(kw_only=True)
    supernet_epochs: int = field(kw_only=True)

    @cached_property
    def identity(self) -> str:
        return f"{super().identity} from {self.supernet_epochs} epochs of {self.supernet.identity}"

    def prepare(self, folder: Path, *, fidelity: int, seeds: Sequence[int]) -> None:
        """The supernets; their epochs are not those of the candidates."""
        self.supernet.prepare(folder, fidelity=self.supernet_epochs, seeds=seeds)

    def initial_weights(self, arch: Architecture, seed: int) -> Mapping[str, Tensor]:
        """Those of the path through the supernet of this seed."""
        return self.supernet.weights(arch, self.supernet_epochs, seed)


class TrainingConfig(TrainsSupernet):
    """Trains every candidate with the recipe of the section `training`. fidelity: epochs."""

    name: Literal["training"] = "training"
    start: Literal["scratch", "supernet"] = Field(
        default="scratch", description="weights to begin with; supernet: those that one has learned"
    )

    @model_validator(mode="after")
    def _supernet_is_used(self) -> Self:
        own = [*EvaluatorConfig.model_fields, "start"]
        for key in self.model_fields_set - set(own):
            if self.start == "scratch" and getattr(self, key) != type(self).model_fields[key].default:
                raise unknown("option of the evaluator 'training' that starts from scratch", key, own)
        return self

    @property
    def reports_epochs(self) -> bool:
        return True

    @property
    def keeps_native(self) -> bool:
        return self.start == "supernet"

    def build(self, setting: Setting) -> TrainingEvaluator:
        if self.start == "scratch":
            return from_scratch(setting)
        return SupernetStart(
            setting.task(),
            setting.recipe,
            setting.identity_start,
            setting.native,
            memory=setting.memory,
            supernet=self.build_supernet(setting),
            supernet_epochs=self.epochs_of_supernet(setting.recipe.epochs),
        )


def from_scratch(setting: Setting) -> TrainingEvaluator:
    """What trains an architecture of a run by its recipe, whatever scored it in the search."""
    return TrainingEvaluator(
        setting.task(), setting.recipe, setting.identity_start, setting.native, memory=setting.memory
    )


EVALUATORS.register("training", TrainingConfig)
