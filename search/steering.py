"""What a person tells a run beside what it is: how long it may search, and which architectures come first."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.build import create_evaluator, create_problem
from search.config import load_run_config
from search.files import read_json, unreadable, write_whole
from search.problem import Problem
from search.store import is_locked, read_journal
from spaces import Architecture
from spaces.errors import UsageError, shortened

ENQUEUED = "enqueued.txt"
SEARCHED = "searched.json"


class Clock:
    """How long a run has searched, all its parts together, against the seconds that it may; kept in its folder."""

    def __init__(self, folder: Path, limit: float | None) -> None:
        self._file, self._limit = folder / SEARCHED, limit
        self._before = _seconds(self._file)
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """So far."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds in which trials may still begin."""
        return float("inf") if self._limit is None else max(0.0, self._limit - self.seconds)

    def keep(self) -> None:
        """Write it down, for the run's next part."""
        write_whole(self._file, json.dumps({"seconds": round(self.seconds, 1)}))


def _seconds(file: Path) -> float:
    if not file.exists():
        return 0.0
    advice = "remove it to count from 0"
    found = read_json(file, dict, advice).get("seconds")
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 2**53:
        raise unreadable(file, "it lacks the seconds that were searched", advice)
    return float(found)


class Enqueued:
    """The architectures that are added to a run while it searches, each told once."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / ENQUEUED
        self._read = 0

    def news(self) -> list[str]:
        """What was added since the last call."""
        if not self._file.exists() or self._file.stat().st_size <= self._read:
            return []
        with open(self._file, "rb") as file:
            file.seek(self._read)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]  # the rest is being written
        self._read += len(whole)
        return [line for line in whole.decode().splitlines() if line]


@dataclass(frozen=True)
class Told:
    """What became of architectures that were handed to a run: ``known`` are evaluated already, ``added`` come next."""

    added: tuple[str, ...]
    known: tuple[str, ...]
    running: bool


def enqueue(folder: Path, texts: Sequence[str]) -> Told:
    """Have a run evaluate these architectures next, whether it searches now or goes on later.

    They count as trials of it. Raises UsageError for a folder that is no run, and for an architecture that is not of its
    space or is over its budget; then none is added.
    """
    config = load_run_config(folder)
    problem = create_problem(config, create_evaluator(config), folder)
    known = {one.architecture for one in read_journal(folder)}
    wanted = list(dict.fromkeys(canonical(texts, problem, "enqueue")))
    new = [text for text in wanted if text not in known]
    file = os.open(folder / ENQUEUED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, "".join(f"{text}\n" for text in new).encode())  # one append: a reader sees whole lines
        os.fsync(file)
    finally:
        os.close(file)
    return Told(tuple(new), tuple(text for text in wanted if text in known), is_locked(folder))


def canonical(texts: Sequence[str], problem: Problem, what: str) -> list[str]:
    """The texts as a run writes them; raises UsageError for one that is not of its space or over its budget."""
    found = []
    for text in texts:
        arch = Architecture.parse(text)
        if arch not in problem.space:
            raise UsageError(
                f"{what}: {shortened(text, 200)} is not of the search space; valid: an architecture that `space` counts"
            )
        if not problem.feasible.contains(problem.space.indices(arch)[None])[0]:
            over = {name: problem.cost(arch)[name] for name in problem.limits}
            raise UsageError(
                f"{what}: {shortened(text, 200)} is over the budget: it has {over}, allowed are {dict(problem.limits)}"
            )
        found.append(str(arch))
    return found
