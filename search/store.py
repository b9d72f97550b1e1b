"""Every evaluation of a run, kept the moment it is finished and never lost.

The journal ``evaluations.jsonl`` is the truth: one line per evaluation, appended and flushed to disk before anything
else happens. ``evaluations.parquet`` is its table for pandas, replaced atomically, so that it can be read at any moment.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, get_type_hints

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from search.pareto import dominates, non_dominated
from spaces.errors import UsageError

COMPLETE, STOPPED, FAILED = "complete", "stopped", "failed"
# What an evaluation was made for: the search itself, fresh seeds after it, random search as its baseline, the test split.
SEARCH, CONFIRM, RANDOM, TEST = "search", "confirm", "random", "test"


class StoreError(RuntimeError):
    """The run cannot go on writing (disk full, no permission); what was written before is kept."""


Key = tuple[str, str, str, int, int]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: (architecture, fidelity, seed) -> metrics.

    ``fidelity`` in epochs, ``accuracy`` in [0, 1] on the validation split (NaN unless trained), ``seconds`` of wall time,
    ``finished`` as Unix time. ``state``: complete (the planned fidelity), stopped (early), failed (see ``reason``).
    ``latency``: estimated nanoseconds where they are a cost or a limit of the search, else NaN.
    ``task`` names data and recipe: evaluations compare only within one task. ``kind``: search, confirm (fresh seeds for the
    reported architectures), random (the baseline of random search), or test (``accuracy`` is that on the test split).
    """

    architecture: str
    fidelity: int
    seed: int
    state: str
    reason: str
    accuracy: float
    flops: int
    macs: int
    params: int
    activations: int
    seconds: float
    finished: float
    task: str
    kind: str = SEARCH
    latency: float = math.nan

    @property
    def key(self) -> Key:
        """What makes an evaluation unique: kind, task, architecture, fidelity, seed."""
        return (self.kind, self.task, self.architecture, self.fidelity, self.seed)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        data = {"kind": SEARCH, "latency": None, **data}  # journals of earlier versions lack these
        values: dict[str, Any] = {field.name: data[field.name] for field in fields(cls)}
        values |= {name: math.nan for name, value in values.items() if value is None}
        return cls(**values)


class Store:
    """The evaluations of one kind in a run directory, in the order in which they finished; one writer at a time.

    The journal and the table hold every kind.
    Raises UsageError where another run holds the folder, StoreError where the disk refuses.
    """

    # The table is rewritten as long as that takes less than this share of the time, so 5,000 rows cost no more than 50.
    PARQUET_SHARE = 0.05

    def __init__(self, folder: str | Path, kind: str = SEARCH) -> None:
        self.folder, self.kind = Path(folder), kind
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"another run is writing to {self.folder}; choose another folder with --run") from None
        self._evaluations = read_journal(self.folder)
        self._keys = {evaluation.key for evaluation in self._evaluations}
        self._architectures = {evaluation.architecture for evaluation in self}
        self._cut_torn_line()
        self._next_table = 0.0
        self.flush()

    def __iter__(self) -> Iterator[Evaluation]:
        return (evaluation for evaluation in self._evaluations if evaluation.kind == self.kind)

    def __len__(self) -> int:
        """How many architectures were evaluated, whatever the number of seeds."""
        return len(self._architectures)

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def add(self, evaluation: Evaluation) -> None:
        """Keep one evaluation; returns when it is on the disk. Raises ValueError for one that is there already."""
        if evaluation.key in self._keys:
            raise ValueError(f"evaluated twice: {evaluation.key}")
        line = json.dumps({k: None if v != v else v for k, v in asdict(evaluation).items()}) + "\n"
        with self.refusing(), open(self.folder / "evaluations.jsonl", "a") as journal:
            journal.write(line)
            journal.flush()
            os.fsync(journal.fileno())
        self._evaluations.append(evaluation)
        self._keys.add(evaluation.key)
        if evaluation.kind == self.kind:
            self._architectures.add(evaluation.architecture)
        if time.monotonic() >= self._next_table:
            self.flush()

    def flush(self) -> None:
        """Bring evaluations.parquet up to date."""
        start = time.monotonic()
        with self.refusing():
            partial = self.folder / ".evaluations.parquet"
            to_frame(self._evaluations).to_parquet(partial, index=False)
            partial.replace(self.folder / "evaluations.parquet")
        took = time.monotonic() - start
        self._next_table = time.monotonic() + took / self.PARQUET_SHARE

    def close(self) -> None:
        self.flush()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cut_torn_line(self) -> None:
        """A kill in the middle of a write leaves half a line; cut it, so that the next line starts on its own."""
        journal = self.folder / "evaluations.jsonl"
        if journal.exists():
            text = journal.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                journal.write_bytes(whole)

    def refusing(self) -> _Refusing:
        """For whatever else is written into the folder: the same clear StoreError."""
        return _Refusing(self.folder)


class _Refusing:
    """Turns the operating system's refusals into one clear StoreError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError):
            what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
            raise StoreError(
                f"cannot write to {self.folder}: {what}; {len(read_journal(self.folder))} finished evaluations are kept"
            ) from error


def read_journal(folder: str | Path) -> list[Evaluation]:
    """The evaluations of a run directory; a half-written last line is no evaluation."""
    journal = Path(folder) / "evaluations.jsonl"
    if not journal.exists():
        return []
    text = journal.read_text()
    return [Evaluation.from_dict(json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]


def to_frame(evaluations: list[Evaluation]) -> pd.DataFrame:
    """One row per evaluation, with the column types of Evaluation also where there are no rows."""
    frame = pd.DataFrame(
        [asdict(evaluation) for evaluation in evaluations], columns=[f.name for f in fields(Evaluation)]
    )
    types = {str: "string", int: "int64", float: "float64"}
    return frame.astype({name: types[hint] for name, hint in get_type_hints(Evaluation).items()})


class RunningFront:
    """The front of evaluations as they come, equal to ``front_of(summarise(...))`` of them all, at the cost of its size.

    For evaluations of one fidelity, each architecture once with all its seeds, as a search makes them.
    """

    def __init__(self, costs: tuple[str, ...] = ("flops",)) -> None:
        self.costs = costs
        self._members: list[tuple[Evaluation, ...]] = []

    def add(self, *seeds: Evaluation) -> bool:
        """Whether the architecture of these evaluations belongs to the front now; what it dominates leaves."""
        if any(evaluation.state != COMPLETE for evaluation in seeds):
            return False
        point = self._point(seeds)
        if any(dominates(self._point(member), point) for member in self._members):
            return False
        self._members = [member for member in self._members if not dominates(point, self._point(member))]
        self._members.append(seeds)
        return True

    @property
    def architectures(self) -> set[str]:
        return {member[0].architecture for member in self._members}

    @property
    def frame(self) -> pd.DataFrame:
        """The rows of ``front_of``."""
        return front_of(summarise(to_frame([seed for member in self._members for seed in member])), self.costs)

    @property
    def words(self) -> str:
        best = max((mean_of(member).accuracy for member in self._members), default=None)
        return "front 0" if best is None else f"front {len(self._members)}, best {best:.4f}"

    def _point(self, seeds: tuple[Evaluation, ...]) -> tuple[float, ...]:
        return (-mean_of(seeds).accuracy, *(getattr(seeds[0], cost) for cost in self.costs))


def by_architecture(evaluations: Iterable[Evaluation]) -> dict[str, list[Evaluation]]:
    """The evaluations of each architecture: one for each seed."""
    found: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        found.setdefault(evaluation.architecture, []).append(evaluation)
    return found


def mean_of(seeds: Sequence[Evaluation]) -> Evaluation:
    """One architecture's evaluations as one: the mean accuracy; the last one's state, which is that of a failure too."""
    return replace(seeds[-1], accuracy=float(np.mean([evaluation.accuracy for evaluation in seeds])))


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per architecture, over the seeds of its complete evaluations at the highest fidelity of the frame.

    Columns: architecture, accuracy (mean), accuracy_std (sample; NaN for one seed), seeds, fidelity, flops, macs, params,
    activations, latency; sorted by flops, then by accuracy downwards.
    """
    done = frame[frame["state"] == COMPLETE]
    done = done[done["fidelity"] == done["fidelity"].max()]
    rows = done.groupby("architecture", sort=False, as_index=False).agg(
        accuracy=("accuracy", "mean"),
        accuracy_std=("accuracy", "std"),
        seeds=("seed", "nunique"),
        fidelity=("fidelity", "first"),
        flops=("flops", "first"),
        macs=("macs", "first"),
        params=("params", "first"),
        activations=("activations", "first"),
        latency=("latency", "first"),
    )
    return rows.sort_values(["flops", "accuracy"], ascending=[True, False], ignore_index=True)


def front_of(summary: pd.DataFrame, costs: tuple[str, ...] = ("flops",)) -> pd.DataFrame:
    """The rows of ``summarise`` that no other row dominates in accuracy (more) and the costs (less), by rising cost."""
    if summary.empty:
        return summary
    points = np.column_stack([-summary["accuracy"], *(summary[cost] for cost in costs)])
    return summary[non_dominated(points)].sort_values(list(costs), ignore_index=True)
