"""What a person sees while a search runs: a live bar on a terminal, one line per evaluation elsewhere."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from html import escape
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from search.front import RunningFront
from search.objectives import OBJECTIVES
from search.steering import Clock
from search.store import FAILED, STOPPED, Evaluation, Store

ASK_FROM = 8  # finished trials: fewer tell the model next to nothing of how far accuracies spread
ASK_AGAIN = 10.0  # seconds: what one more hour may bring takes a moment to compute, and changes slowly


class Progress:
    """Done and total (None: as many as the clock allows), time left, the front so far, and what one more hour may bring.

    Everything goes to stderr, so that stdout stays machine-readable.
    """

    def __init__(
        self, planned: int | None, store: Store, front: RunningFront, clock: Clock, console: Console | None = None
    ) -> None:
        heard = logging.getLogger().isEnabledFor(logging.WARNING)  # --quiet
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True, quiet=not heard)
        self._store, self._front, self._clock, self._planned = store, front, clock, planned
        self.promise: Callable[[int, float], float | None] = lambda trials, ceiling: None
        self._bar = Bar(
            TextColumn("[bold]searching"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[front]}"),
            console=self.console,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("search", total=planned, completed=len(store), front=self._front.words)
        self._start = time.monotonic()
        self._before = len(store)
        self._cell: Cell | None = None  # of a notebook
        self._hour: tuple[float, str] = (-math.inf, "")  # when it was last asked for, and the answer

    def __enter__(self) -> Self:
        if self.console.is_jupyter:
            self._cell = Cell(self._planned)
            self._cell.show(len(self._store), self._front.words)
        elif self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, message: str) -> None:
        """One line above the bar."""
        if self._cell:
            self._cell.note(message)
        else:
            self.console.print(message, markup=False)

    def finished(self, evaluation: Evaluation) -> None:
        done = len(self._store)
        words = ", ".join(filter(None, [self._front.words, self._one_more_hour(done)]))
        self._bar.update(self._task, completed=done, front=words)
        if self._cell:
            self._cell.show(done, words, self._left(done))
        count = f"{done}/{self._planned}" if self._planned else str(done)
        if evaluation.state == FAILED:
            self.note(f"{count} failed  {evaluation.architecture}: {evaluation.reason}")
        elif not self.console.is_terminal:
            stopped = f"(stopped: {evaluation.reason})  " if evaluation.state == STOPPED else ""
            costs = "  ".join(
                f"{cost} {OBJECTIVES[cost].unit.show(evaluation.costs[cost])}" for cost in self._front.costs
            )
            self.note(
                f"{count} {evaluation.metric} {evaluation.score:.4f}  {stopped}{costs}  "
                f"{evaluation.architecture}  [{words}, {self._left(done):.0f} s left]"
            )

    def _left(self, done: int) -> float:
        """Seconds until the end: of the clock or, at the pace so far, of the trials that are planned."""
        spent, left = time.monotonic() - self._start, self._clock.left
        return min(left, spent / max(1, done - self._before) * (self._planned - done)) if self._planned else left

    def _one_more_hour(self, done: int) -> str:
        """What the sampler expects of one more hour at the pace so far, where it expects anything; seldom asked anew."""
        now = time.monotonic()
        trials = round(3600 * (done - self._before) / (now - self._start))
        if done >= ASK_FROM and trials and now - self._hour[0] >= ASK_AGAIN:
            metric = self._front.metric
            rise = self.promise(trials, metric.ceiling)
            if rise is not None:
                words = f"{metric.difference(metric.sign * rise)} {metric.step} on average over budgets"
                self._hour = now, f"one more hour may bring about {words}"
        return self._hour[1]


def no_reporter() -> Any:
    """A reporter of Ray Tune that says nothing: in a notebook Ray's own would clear the cell."""
    from ray import tune  # seconds to import

    class Silent(tune.ProgressReporter):
        """Never reports."""

        def should_report(self, trials: Any, done: bool = False) -> bool:
            return False

        def report(self, trials: Any, done: bool, *sys_info: Any) -> None:
            """Nothing."""

    return Silent()


class Cell:
    """The output of a notebook's cell: one bar and the last lines, drawn anew in place instead of a line for every trial."""

    LINES = 6

    def __init__(self, planned: int | None) -> None:
        from IPython.display import DisplayHandle  # there wherever this is shown

        self._planned, self._handle, self._shown = planned, DisplayHandle(), False
        self._lines: deque[str] = deque(maxlen=self.LINES)
        self._now: tuple[int, str, float] = (0, "", math.inf)

    def note(self, message: str) -> None:
        """One line below the bar."""
        self._lines.append(message)
        self._draw()

    def show(self, done: int, words: str, left: float = math.inf) -> None:
        """How far it is: trials, the front in words, seconds left."""
        self._now = (done, words, left)
        self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML

        done, words, left = self._now
        whole = f"{done}/{self._planned}" if self._planned else str(done)
        bar = f'<progress value="{done}" max="{self._planned}"></progress> ' if self._planned else ""
        end = f", {left:.0f} s left" if math.isfinite(left) else ""
        lines = "<br>".join(map(escape, self._lines))
        content: Any = HTML(f"{bar}{whole} trials, {escape(words)}{end}<br><small>{lines}</small>")
        (self._handle.update if self._shown else self._handle.display)(content)
        self._shown = True
