"""Schedulers by name: what each needs of the configuration, and the early stopping that comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evaluators.sections import Brought, Named
from evaluators.tasks.base import Metric
from spaces.errors import UsageError
from spaces.plugins import Registry, bring, call


@dataclass(frozen=True)
class Trials:
    """What a scheduler is built for: full trainings of ``epochs``, their metric and costs, and the folder of the run."""

    epochs: int
    metric: Metric
    costs: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class Stopping:
    """Early stopping in a search.

    ``scheduler``: of Ray Tune; its trials' results hold the metric, the costs, ``architecture`` in their configuration and
    ``fidelity``, the epochs so far. ``epochs``: after which a trial reports. ``expected(epochs, value)``: what a trial that was
    stopped then would have reached in the end.
    """

    scheduler: Any
    epochs: frozenset[int]
    expected: Callable[[int, float], float] = lambda epochs, value: value


class SchedulerConfig(Named):
    """The section of a scheduler; each has its own, registered under its name in ``SCHEDULERS``."""

    def check(self, epochs: int) -> None:
        """Raise UsageError where it cannot stop trainings of so many epochs."""

    def build(self, trials: Trials) -> Stopping | None:
        """The early stopping; None where every training goes on to its end."""
        raise TypeError(f"{type(self).__name__} does not say what it builds")

    @property
    def stops(self) -> bool:
        """Whether it may end trainings early."""
        return True


SCHEDULERS: Registry[type[SchedulerConfig]] = Registry("scheduler", "search.schedulers")


class NoStopping(SchedulerConfig):
    """Every training goes on to its end."""

    name: Literal["none"] = "none"

    def build(self, trials: Trials) -> None:
        return None

    @property
    def stops(self) -> bool:
        return False


class BroughtScheduler(Brought, SchedulerConfig):
    """The scheduler of Ray Tune that ``name(metric=, mode=, time_attr=, **options)`` gives; trials report every epoch."""

    def check(self, epochs: int) -> None:
        self._scheduler(Metric())

    def build(self, trials: Trials) -> Stopping:
        return Stopping(self._scheduler(trials.metric), frozenset(range(1, trials.epochs)))

    def _scheduler(self, metric: Metric) -> Any:
        from ray.tune.schedulers import TrialScheduler  # seconds to import, and only a search needs it

        mode = "max" if metric.higher_is_better else "min"
        found = call(
            self.name,
            "scheduler",
            bring(self.name, "scheduler"),
            metric=metric.name,
            mode=mode,
            time_attr="fidelity",
            **self.options,
        )
        if not isinstance(found, TrialScheduler):
            raise UsageError(f"scheduler {self.name!r} gave a {type(found).__name__}, not a scheduler of Ray Tune")
        return found


SCHEDULERS.register("none", NoStopping)


def list_schedulers() -> list[dict[str, str]]:
    """The schedulers by name, with the first line of what each does."""
    return [{"name": name, "what": (section.__doc__ or "").partition("\n")[0]} for name, section in SCHEDULERS.items()]
