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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import pandas as pd
from filelock import FileLock, Timeout

from search.objectives import OBJECTIVES
from spaces.errors import UsageError

COMPLETE, STOPPED, FAILED = "complete", "stopped", "failed"
# What an evaluation was made for: the search itself, fresh seeds after it, random search as its baseline, the test split.
SEARCH, CONFIRM, RANDOM, TEST = "search", "confirm", "random", "test"


class StoreError(RuntimeError):
    """The run cannot go on writing (disk full, no permission); what was written before is kept."""


Key = tuple[str, str, str, int, int]


# The columns of an evaluation besides its metric and its costs.
FIXED = {
    "architecture": "string",
    "fidelity": "int64",
    "seed": "int64",
    "state": "string",
    "reason": "string",
    "seconds": "float64",
    "finished": "float64",
    "identity": "string",
    "purpose": "string",
}
FORMER = {"task": "identity", "kind": "purpose"}  # what journals of earlier versions call them


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: (architecture, fidelity, seed) -> score.

    ``fidelity`` in epochs; ``score``: the value of ``metric`` on the validation split (NaN unless trained); ``costs`` by
    objective, latency in estimated nanoseconds; ``seconds`` of wall time; ``finished`` as Unix time. ``state``: complete (the
    planned fidelity), stopped (early), failed (see ``reason``). ``identity`` names data and recipe: evaluations compare only
    within one. ``purpose``: search, confirm (fresh seeds for the reported architectures), random (the baseline of random
    search), or test (the score is that on the test split).
    """

    architecture: str
    fidelity: int
    seed: int
    state: str
    reason: str
    score: float
    costs: Mapping[str, float]
    seconds: float
    finished: float
    identity: str
    purpose: str = SEARCH
    metric: str = "accuracy"

    @property
    def key(self) -> Key:
        """What makes an evaluation unique: purpose, identity, architecture, fidelity, seed."""
        return (self.purpose, self.identity, self.architecture, self.fidelity, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Flat, as a line of the journal: the metric and the costs stand under their own names."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name in FIXED}
        named = {} if self.metric == "accuracy" else {"metric": self.metric}
        return {**own, **named, self.metric: self.score, **self.costs}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From a line of the journal, of this version or an earlier one."""
        data = {FORMER.get(key, key): math.nan if value is None else value for key, value in data.items()}
        data = {"purpose": SEARCH, **data}
        metric = str(data.pop("metric", "accuracy"))
        score = float(data.pop(metric))
        costs = {key: value for key, value in data.items() if key not in FIXED and value == value}
        return cls(score=score, costs=costs, metric=metric, **{key: data[key] for key in FIXED})


class Store:
    """The evaluations of one purpose in a run directory, in the order in which they finished; one writer at a time.

    The journal and the table hold those of every purpose. ``metric`` names the column of scores where there are none yet.
    Raises UsageError where another run holds the folder, StoreError where the disk refuses.
    """

    # The table is rewritten as long as that takes less than this share of the time, so 5,000 rows cost no more than 50.
    PARQUET_SHARE = 0.05

    def __init__(self, folder: str | Path, purpose: str = SEARCH, *, metric: str = "accuracy") -> None:
        self.folder, self.purpose, self._metric = Path(folder), purpose, metric
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
        return (evaluation for evaluation in self._evaluations if evaluation.purpose == self.purpose)

    def __len__(self) -> int:
        """How many architectures were evaluated, whatever the number of seeds."""
        return len(self._architectures)

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def add(self, evaluation: Evaluation) -> None:
        """Keep one evaluation; returns when it is on the disk. Raises ValueError for one that is there already."""
        if evaluation.key in self._keys:
            raise ValueError(f"evaluated twice: {evaluation.key}")
        line = json.dumps({k: None if v != v else v for k, v in evaluation.to_dict().items()}) + "\n"
        with self.refusing(), open(self.folder / "evaluations.jsonl", "a") as journal:
            journal.write(line)
            journal.flush()
            os.fsync(journal.fileno())
        self._evaluations.append(evaluation)
        self._keys.add(evaluation.key)
        if evaluation.purpose == self.purpose:
            self._architectures.add(evaluation.architecture)
        if time.monotonic() >= self._next_table:
            self.flush()

    def flush(self) -> None:
        """Bring evaluations.parquet up to date."""
        start = time.monotonic()
        with self.refusing():
            partial = self.folder / ".evaluations.parquet"
            to_frame(self._evaluations, self._metric).to_parquet(partial, index=False)
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


def to_frame(evaluations: Sequence[Evaluation], metric: str = "accuracy") -> pd.DataFrame:
    """One row per evaluation, with fixed column types also where there are no rows.

    ``metric`` names the column of scores where there are no rows that do.
    """
    metric = evaluations[0].metric if evaluations else metric
    counted = [name for name, objective in OBJECTIVES.items() if objective.counted]
    found = dict.fromkeys(cost for one in evaluations for cost in one.costs)
    others = [name for name in dict.fromkeys([*OBJECTIVES, *found]) if name not in counted]  # empty where not known
    before = ("architecture", "fidelity", "seed", "state", "reason", metric, *counted)
    after = ("seconds", "finished", "identity", "purpose", *others)
    types = {**FIXED, **dict.fromkeys(counted, "int64")}
    frame = pd.DataFrame([evaluation.to_dict() for evaluation in evaluations], columns=[*before, *after])
    return frame.astype({name: types.get(name, "float64") for name in frame.columns})


def cost_columns(frame: pd.DataFrame, metric: str) -> list[str]:
    """The columns of a frame of evaluations that are costs."""
    return [str(name) for name in frame.columns if name not in FIXED and name != metric]
