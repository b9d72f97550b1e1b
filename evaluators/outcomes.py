"""What comes out of an evaluation: metrics, reports on the way, or the error that is a result about the candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spaces.errors import UsageError

Metrics = dict[str, Any]
# report(epoch, metrics) after every epoch, epoch counted from 1; returning False asks the evaluation to stop there.
Report = Callable[[int, Metrics], bool]


class MissingSplit(UsageError):
    """The data have no such split: no test images, which is no mistake of theirs."""


class EvaluationError(RuntimeError):
    """This candidate could not be evaluated (NaN, no memory ...): a result about the candidate, not a fault of the run."""
