"""What the search asks of every evaluator, from a one-second proxy to a full training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from evaluators.data import Data
    from spaces.placement import Architecture

Metrics = dict[str, Any]
# report(epoch, metrics) after every epoch, epoch counted from 1; returning False asks the evaluation to stop there.
Report = Callable[[int, Metrics], bool]


class EvaluationError(RuntimeError):
    """This candidate could not be evaluated (NaN, no memory ...): a result about the candidate, not a fault of the run."""


class Evaluator(Protocol):
    """The one interface of the ladder of evaluators: (architecture, fidelity, seed) -> metrics."""

    @property
    def data(self) -> Data: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def in_chans(self) -> int: ...

    @property
    def image_size(self) -> int: ...

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
        """Metrics of one architecture, at least `accuracy` in [0, 1] on the validation split and `seconds`.

        `keep` is the .safetensors file that the weights go to, where the evaluator has any. `checkpoint` is a file that an
        evaluation of several epochs writes after each, and from which a killed one goes on.

        Raises EvaluationError when the candidate fails (a loss that is not finite, out of memory).
        """
        ...


@runtime_checkable
class Preparing(Protocol):
    """An evaluator with work to do once for a whole run, before the first evaluation."""

    def prepare(self, folder: Path, *, fidelity: int, seeds: Sequence[int]) -> None:
        """Do it, or take over what an earlier call left in `folder`."""
        ...


@runtime_checkable
class Movable(Protocol):
    """An evaluator that computes on a device, and may come to a machine with another one."""

    def at_home(self) -> Evaluator:
        """The same on the device of this machine."""
        ...


class OnData:
    """What every evaluator that works on a data set says about its task."""

    data: Data

    @property
    def num_classes(self) -> int:
        return self.data.num_classes

    @property
    def in_chans(self) -> int:
        return self.data.in_chans

    @property
    def image_size(self) -> int:
        return self.data.image_size
