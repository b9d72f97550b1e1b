"""Every evaluation of a run, kept the moment it is finished and never lost.

The journal ``evaluations.jsonl`` is the truth: one line per evaluation, appended and flushed to disk before anything
else happens. ``evaluations.parquet`` is its table for pandas, replaced atomically, so that it can be read at any moment.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import pandas as pd
from filelock import FileLock, Timeout

from search.files import free_name, sync_folder, write_whole
from search.objectives import OBJECTIVES
from spaces.errors import UsageError

log = logging.getLogger(__name__)

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
BY_CLASS = "by_class"  # the key of the values of single classes in a line of the journal
FORMER = {"task": "identity", "kind": "purpose"}  # what journals of earlier versions call them


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: (architecture, fidelity, seed) -> score.

    ``fidelity`` in epochs; ``score``: the value of ``metric`` on the validation split (NaN unless trained); ``costs`` by
    objective, latency in estimated nanoseconds; ``seconds`` of wall time; ``finished`` as Unix time. ``state``: complete (the
    planned fidelity), stopped (early), failed (see ``reason``). ``identity`` names data and recipe: evaluations compare only
    within one. ``purpose``: search, confirm (fresh seeds for the reported architectures), random (the baseline of random
    search), or test (the score is that on the test split). ``by_class``: the values of single classes, where there are such;
    the journal alone holds them.
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
    by_class: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What makes an evaluation unique: purpose, identity, architecture, fidelity, seed."""
        return (self.purpose, self.identity, self.architecture, self.fidelity, self.seed)

    @property
    def passing(self) -> bool:
        """Whether it may be made again: a test that failed, perhaps since an image was broken that is mended now."""
        return self.purpose == TEST and self.state == FAILED

    def to_dict(self) -> dict[str, Any]:
        """Flat, as a line of the journal: the metric and the costs stand under their own names."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name in FIXED}
        named = {} if self.metric == "accuracy" else {"metric": self.metric}
        classes = {BY_CLASS: dict(self.by_class)} if self.by_class else {}
        return {**own, **named, self.metric: self.score, **self.costs, **classes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From a line of the journal, of this version or an earlier one; raises an error for anything else."""
        counted = [value for name, value in data.items() if name in OBJECTIVES and OBJECTIVES[name].counted]
        if not all(isinstance(value, int | float) and float(value).is_integer() for value in counted):
            raise TypeError("a count is missing, or no whole number")
        data = {FORMER.get(key, key): math.nan if value is None else value for key, value in data.items()}
        data = {"purpose": SEARCH, **data}
        metric = str(data.pop("metric", "accuracy"))
        score = float(data.pop(metric))
        by_class = {str(name): float(value) for name, value in dict(data.pop(BY_CLASS, {})).items()}
        costs = {key: value for key, value in data.items() if key not in FIXED and value == value}
        made = cls(score=score, costs=costs, metric=metric, by_class=by_class, **{key: data[key] for key in FIXED})
        words = (made.architecture, made.state, made.reason, made.identity, made.purpose)
        numbers = (made.fidelity, made.seed)
        if not all(isinstance(one, str) for one in words) or not all(type(one) is int for one in numbers):
            raise TypeError("a column of another type")
        if not all(isinstance(one, int | float) for one in (made.seconds, made.finished, *costs.values())):
            raise TypeError("a number is missing")
        if any(
            isinstance(one, int) and abs(one) >= 2**63
            for one in (*numbers, *costs.values(), made.seconds, made.finished)
        ):
            raise ValueError("a number that no run has")
        return made


class Store:
    """The evaluations of one purpose in a run directory, in the order in which they finished; one writer at a time.

    The journal and the table hold those of every purpose and identity; with an ``identity`` this shows only its own, and
    ``others`` counts the rest. ``metric`` names the column of scores where there are none yet. A damaged journal is mended
    and what was lost is said. Raises UsageError where another run holds the folder, StoreError where the disk refuses.
    """

    # The table is rewritten as long as that takes less than this share of the time, so 5,000 rows cost no more than 50.
    PARQUET_SHARE = 0.05

    def __init__(
        self, folder: str | Path, purpose: str = SEARCH, *, metric: str = "accuracy", identity: str | None = None
    ) -> None:
        self.folder, self.purpose, self.identity, self._metric = Path(folder), purpose, identity, metric
        with self.refusing():
            self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"another run is writing to {self.folder}; choose another folder with --run") from None
        except OSError as error:
            raise StoreError(f"cannot write to {self.folder}: {error}") from error
        self._next_table = 0.0
        try:
            self._evaluations = self._mended()
            self._keys = {evaluation.key for evaluation in self._evaluations if not evaluation.passing}
            self._architectures = {evaluation.architecture for evaluation in self}
            self.flush()
        except BaseException:
            self._lock.release()
            raise

    def __iter__(self) -> Iterator[Evaluation]:
        return (evaluation for evaluation in self._evaluations if self._shows(evaluation))

    def _shows(self, evaluation: Evaluation) -> bool:
        return evaluation.purpose == self.purpose and self.identity in (None, evaluation.identity)

    @property
    def others(self) -> int:
        """How many evaluations of this purpose have another identity: they compare with none of those that are shown."""
        return sum(one.purpose == self.purpose and not self._shows(one) for one in self._evaluations)

    def __len__(self) -> int:
        """How many architectures were evaluated, whatever the number of seeds."""
        return len(self._architectures)

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def add(self, evaluation: Evaluation) -> None:
        """Keep one evaluation; returns when it is on the disk. A test that failed is replaced.

        Raises ValueError for one that is there already.
        """
        if evaluation.key in self._keys:
            raise ValueError(f"evaluated twice: {evaluation.key}")
        line = json.dumps({k: None if v != v else v for k, v in evaluation.to_dict().items()}) + "\n"
        journal = self.folder / "evaluations.jsonl"
        with self.refusing():
            before = journal.stat().st_size if journal.exists() else None
            try:
                with open(journal, "a") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                if before is None:
                    sync_folder(self.folder)
            except OSError:
                if before is not None:  # a full disk takes part of a line; the next one has to start on its own
                    os.truncate(journal, before)
                raise
        if evaluation.purpose == TEST:
            self._evaluations = [one for one in self._evaluations if one.key != evaluation.key]
        self._evaluations.append(evaluation)
        if not evaluation.passing:
            self._keys.add(evaluation.key)
        if self._shows(evaluation):
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

    def _mended(self) -> list[Evaluation]:
        """The evaluations of the journal, which is mended where a kill or a disk damaged it; says what was lost.

        Half a last line is cut off in place. Lines that say nothing go to ``evaluations.jsonl.bad``, by a whole new journal.
        """
        path = self.folder / "evaluations.jsonl"
        found = _read(self.folder)
        with self.refusing():
            if found.bad:
                aside = free_name(path, ".bad")
                write_whole(aside, _lines(found.bad))
                log.warning("%s: %s; it lies in %s", path, found.lost, aside.name)
            if found.damaged:
                write_whole(path, _lines(found.good))
            elif found.torn:
                with open(path, "r+b") as file:
                    file.truncate(found.whole)
                    os.fsync(file.fileno())
        return found.evaluations

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


@dataclass(frozen=True)
class _Journal:
    """What a journal holds: evaluations, the lines they stand in, and what says nothing.

    ``whole``: bytes up to the end of the last line. ``torn``: a part of a line follows. ``damaged``: more than the good lines
    is before it.
    """

    evaluations: list[Evaluation]
    good: list[bytes]
    bad: list[bytes]
    whole: int
    torn: bool
    damaged: bool

    @property
    def lost(self) -> str:
        return f"{len(self.bad)} line{'s' if len(self.bad) > 1 else ''} could not be read, and what stood there is lost"


def _lines(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _read(folder: str | Path) -> _Journal:
    """Read a journal that may be damaged. Raises UsageError where it cannot be opened."""
    path = Path(folder) / "evaluations.jsonl"
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    whole = content.rfind(b"\n") + 1
    found: dict[Key, Evaluation] = {}
    good, bad = [], []
    for line in content[:whole].split(b"\n")[:-1]:
        stripped = line.strip(b"\0 \t\r")  # a machine that lost its power leaves zeros where a write had not arrived
        try:
            evaluation = Evaluation.from_dict(json.loads(stripped))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            if line:
                bad.append(line)
            continue
        if stripped != line.strip():
            bad.append(line.replace(stripped, b""))
        if evaluation.key not in found or found[evaluation.key].passing:
            found[evaluation.key] = evaluation
            good.append(stripped)
    damaged = _lines(good) != content[:whole]
    return _Journal(list(found.values()), good, bad, whole, whole < len(content), damaged)


def is_locked(folder: Path) -> bool:
    """Whether a process writes to a run directory now."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except (Timeout, OSError):
        return True


def read_journal(folder: str | Path) -> list[Evaluation]:
    """The evaluations of a run directory, each once; a half-written last line is none, and lines that say nothing are said."""
    found = _read(folder)
    if found.bad:
        log.warning("%s: %s", Path(folder) / "evaluations.jsonl", found.lost)
    return found.evaluations


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
    frame = pd.DataFrame([evaluation.to_dict() for evaluation in evaluations], columns=[*before, *after])
    whole = [name for name in counted if frame[name].notna().all()]  # one that a plug-in brought later is not
    types = {**FIXED, **dict.fromkeys(whole, "int64")}
    return frame.astype({name: types.get(name, "float64") for name in frame.columns})


def cost_columns(frame: pd.DataFrame, metric: str) -> list[str]:
    """The columns of a frame of evaluations that are costs."""
    return [str(name) for name in frame.columns if name not in FIXED and name != metric]
