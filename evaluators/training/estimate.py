"""What one training takes by the clock, from a few batches of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor

from evaluators.tasks.base import Batches, Split, Task

PASS = 0.2  # seconds of a split that are timed in each of two epochs, where it has as many


@dataclass
class Clock:
    """The passes over one split that were timed, as (batches, seconds)."""

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
    """The first batches of a pass, until its time is up, with a clock that stops when the consumer asks for more."""

    def __init__(self, batches: Batches, clock: Clock) -> None:
        self._batches, self._clock = batches, clock
        self.batch_size = batches.batch_size
        clock.whole = len(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        start = time.perf_counter()
        number = 0
        for batch in self._batches:
            yield batch
            number += 1
            if (taken := time.perf_counter() - start) > PASS:
                break
        self._clock.passes.append((number, taken))


class Sample:
    """A task of which only the first batches of a pass are seen, and timed; all else is the task's own.

    It is equal to the task, so that what is remembered of that, such as the memory of a step, is not found out once more.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.clocks: dict[str, Clock] = {"train": Clock(), "val": Clock()}

    def __eq__(self, other: object) -> bool:
        return bool(self._task == (other._task if isinstance(other, Sample) else other))

    def __hash__(self) -> int:
        return hash(self._task)

    def batches(self, split: Split, **options: Any) -> Batches:
        return _Timed(self._task.batches(split, **options), self.clocks[split])

    def __getattr__(self, name: str) -> Any:
        if name == "_task":  # not there yet while a copy is made
            raise AttributeError(name)
        return getattr(self._task, name)


def training_seconds(task: Task, train: Callable[[Task], object], *, epochs: int, validations: int) -> float:
    """Seconds of a training of so many epochs and validations, from ``train``, which trains two epochs on a task."""
    sample = Sample(task)
    start = time.perf_counter()
    train(cast(Task, sample))
    took = time.perf_counter() - start
    around = took - sum(seconds for clock in sample.clocks.values() for _, seconds in clock.passes)
    per_pass = {name: clock.whole * clock.warm for name, clock in sample.clocks.items()}
    once = sum(clock.extra for clock in sample.clocks.values())
    return around + once + epochs * per_pass["train"] + validations * per_pass["val"]
