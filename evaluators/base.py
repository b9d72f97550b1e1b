"""What the search asks of every evaluator, from a one-second proxy to a full training, and how evaluators are registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydantic import Field

from evaluators.outcomes import Metrics, Report
from evaluators.recipe import Recipe
from evaluators.sections import Named
from evaluators.tasks.base import Metric, Task
from spaces.network import Native, NetworkSpec, Stem
from spaces.placement import Architecture
from spaces.plugins import Registry
from spaces.space import SearchSpace


class Evaluator(Protocol):
    """The one interface of the ladder of evaluators: (architecture, fidelity, seed) -> metrics."""

    @property
    def network(self) -> NetworkSpec:
        """What surrounds an architecture: costs are counted on it, and exports are built with it."""
        ...

    @property
    def metric(self) -> Metric:
        """Which of the metrics judges a candidate."""
        ...

    @property
    def identity(self) -> str:
        """A stable text naming data and recipe: two evaluators with one identity give comparable results (the store's key)."""
        ...

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
        """Metrics of one architecture: at least ``metric`` by its name, on the validation split, and ``seconds``.

        ``keep``: the .safetensors file that the weights go to, where the evaluator has any. ``checkpoint``: a file that an
        evaluation of several epochs writes after each, and from which a killed one goes on.
        Raises EvaluationError when the candidate fails (a loss that is not finite, out of memory).
        """
        ...


class Preparing(Protocol):
    """An evaluator with work to do once for a whole run, before the first evaluation."""

    def prepare(self, folder: Path, *, fidelity: int, seeds: Sequence[int]) -> None:
        """Do it, or take over what an earlier call left in ``folder``."""
        ...


class Movable(Protocol):
    """An evaluator that computes on a device, and may come to a machine with another one."""

    def at_home(self) -> Evaluator:
        """The same on the device of this machine."""
        ...


class Testing(Protocol):
    """An evaluator that can judge trained weights on images that no search has seen."""

    def test(self, arch: Architecture, weights: Path) -> Metrics:
        """The metrics of the test split; raises MissingSplit where the data have none."""
        ...


@dataclass(frozen=True)
class Estimate:
    """What one evaluation is expected to take: seconds on this machine, and bytes at its peak (None: not known)."""

    seconds: float
    memory: int | None = None


class Estimating(Protocol):
    """An evaluator that can tell what an evaluation will take, by trying a small part of it."""

    def estimate(self, arch: Architecture, *, fidelity: int, validations: int) -> Estimate:
        """What ``evaluate`` takes with one seed, where it validates so often; raises what ``evaluate`` would."""
        ...


class OnTask:
    """What every evaluator that works on a task says of its network and its metric."""

    task: Task
    identity_start: bool
    native: Native

    @property
    def network(self) -> NetworkSpec:
        return replace(self.task.network, native=self.native, identity_start=self.identity_start)

    @property
    def metric(self) -> Metric:
        return self.task.metric


@dataclass(frozen=True)
class Setting:
    """What an evaluator is built for: everything of a run's configuration that is not the evaluator's own.

    ``task`` is made when it is first asked for, since not every evaluator needs data. ``memory``: bytes that a training may
    take; None: what the machine has.
    """

    task: Callable[[], Task]
    space: SearchSpace
    recipe: Recipe
    identity_start: bool = True
    native: Native = "keep"
    memory: int | None = None
    stem: Stem = "auto"


class EvaluatorConfig(Named):
    """The section of an evaluator; each evaluator has its own, registered under its name in ``EVALUATORS``."""

    seeds: int = Field(
        default=1, ge=1, le=1000, description="an evaluation is the mean over so many seeds, from `seed` on"
    )

    @property
    def needs_data(self) -> bool:
        """Whether the configuration has to name data."""
        return True

    @property
    def reports_epochs(self) -> bool:
        """Whether an evaluation reports after every epoch, so that a scheduler can end it early."""
        return False

    @property
    def keeps_native(self) -> bool:
        """Whether it works only on backbones that keep their built-in attention."""
        return False

    def fidelity(self, epochs: int) -> int:
        """The fidelity of the search's evaluations, where the recipe trains a candidate for ``epochs``."""
        return epochs

    def build(self, setting: Setting) -> Evaluator:
        """What scores the candidates; raises UsageError where the setting does not allow it."""
        raise TypeError(f"{type(self).__name__} does not say how its evaluator is built")

    def build_trainer(self, setting: Setting) -> Evaluator:
        """What trains an architecture with fresh seeds, whatever scored it in the search: the recipe, from scratch."""
        return EVALUATORS["training"].model_validate({"name": "training"}).build(setting)


EVALUATORS: Registry[type[EvaluatorConfig]] = Registry("evaluator", "evaluators")


def list_evaluators() -> list[dict[str, str]]:
    """The evaluators by name, with the first line of what each does."""
    return [{"name": name, "what": (section.__doc__ or "").partition("\n")[0]} for name, section in EVALUATORS.items()]
