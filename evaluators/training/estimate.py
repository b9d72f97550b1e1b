"""What one training takes by the clock, from a few batches of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

from torch import Tensor

from evaluators.tasks.base import Batches, Split, Task

PASS = 0.8  # seconds of training that are timed, where an epoch has as many


@dataclass
class Clock:
    """The batches of the passes over one split that were timed, and the seconds of each pass."""

    whole: int = 0  # batches of a whole pass
    passes: list[tuple[int, float]] = field(default_factory=list)

    @property
    def warm(self) -> float:
        """Seconds of a batch in the quickest pass: the first one also pays for what is made once."""
        return min(seconds / batches for batches, seconds in self.passes)

    @property
    def extra(self) -> float:
        """Seconds that the first pass took more than such batches do."""
        batches, seconds = self.passes[0]
        return max(0.0, seconds - batches * self.warm)


class _Timed:
    """The first batches of a pass, with a clock that stops when the consumer asks for more."""

    def __init__(self, batches: Batches, most: int, clock: Clock) -> None:
        self._batches, self._most, self._clock = batches, min(most, len(batches)), clock
        self.batch_size = batches.batch_size
        clock.whole = len(batches)

    def __len__(self) -> int:
        return self._most

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        start = time.perf_counter()
        yield from islice(self._batches, self._most)
        self._clock.passes.append((self._most, time.perf_counter() - start))


class Sample:
    """A task of which only the first ``most`` batches of a pass are seen, and timed; all else is the task's own."""

    def __init__(self, task: Task, most: int) -> None:
        self._task, self._most = task, most
        self.clocks: dict[str, Clock] = {"train": Clock(), "val": Clock()}

    def batches(self, split: Split, **options: Any) -> Batches:
        return _Timed(self._task.batches(split, **options), self._most, self.clocks[split])

    def __getattr__(self, name: str) -> Any:
        if name == "_task":  # not there yet while a copy is made
            raise AttributeError(name)
        return getattr(self._task, name)

    def seconds(self, epochs: int, validations: int) -> float:
        """What so many whole epochs and validations take."""
        train, val = self.clocks["train"], self.clocks["val"]
        whole = epochs * train.whole * train.warm + validations * val.whole * val.warm
        return whole + train.extra + val.extra

    def enough(self) -> int:
        """How many batches make a pass that is long enough to be timed."""
        return max(1, min(self.clocks["train"].whole, int(PASS / max(self.clocks["train"].warm, 1e-9))))


def training_seconds(task: Task, train: Callable[[Task], object], *, epochs: int, validations: int) -> float:
    """Seconds of a training of so many epochs and validations, from ``train``, which trains two epochs on a task."""
    first = Sample(task, 2)
    train(cast(Task, first))
    second = Sample(task, first.enough())
    start = time.perf_counter()
    train(cast(Task, second))
    around = time.perf_counter() - start - sum(s for clock in second.clocks.values() for _, s in clock.passes)
    return around + second.seconds(epochs, validations)
