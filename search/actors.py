"""What a run has done beside its trials, on the driver's machine: actors that import little, since each is a new process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import ray

from search.files import write_whole


class Overdue:
    """Ends evaluations that take too long, from outside of their process (as a Ray actor).

    A call that never gives Python back its lock cannot be ended from within.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._timers: dict[str, threading.Timer] = {}

    def begin(self, architecture: str, limit: float, worker: Any) -> None:
        """From now on the evaluation may take ``limit`` seconds, then its worker (an actor) is killed."""
        self.finish(architecture)
        timer = threading.Timer(limit, self._end, (architecture, limit, worker))
        timer.daemon = True
        self._timers[architecture] = timer
        timer.start()

    def finish(self, architecture: str) -> None:
        """The evaluation is over."""
        if timer := self._timers.pop(architecture, None):
            timer.cancel()

    def reason(self, architecture: str) -> str | None:
        """Why an evaluation whose worker is dead was ended, None where it died by itself; its time is over either way."""
        self.finish(architecture)
        return self._reasons.pop(architecture, None)

    def _end(self, architecture: str, limit: float, worker: Any) -> None:
        self._reasons[architecture] = f"the time limit of {limit:g} s passed"
        ray.kill(worker)


class Notes:
    """The files in which an evaluation over several seeds keeps each of them, on the driver's machine (also as a Ray actor)."""

    def get(self, path: Path) -> bytes | None:
        return path.read_bytes() if path.exists() else None

    def put(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
