"""All that waits for a GPU, in one command: throughput, CIFAR-10, candidates at once, attention, steps, the supernet.

`python -m benchmarks.gpu --cifar hf:FOLDER --markdown` (or `make bench-gpu-all`). A part that is done is kept in a file, with
the GPU, the version of torch, the date and its command, and is not repeated on that GPU. Parts come in the order of their
value. With `--minutes` one that would not end in time is left out, and said to be. One that fails or hangs is reported, the
others go on, and the exit code is 1. `--tiny` runs everything small, on a CPU too, to see that it works; its figures reach no
page. `--no-run --markdown` writes the page from what is kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts import BY_NAME, PARTS, Found, Part, Setup, one_line
from benchmarks.page import add_option, write

PATIENCE = 3  # times its estimate is what a part may take before it is stopped


@dataclass(frozen=True)
class Record:
    """A part that was run, as it is kept: where, when and how, and what it found or why it failed."""

    part: str
    device: str
    torch: str
    date: str
    command: str
    seconds: float
    tiny: bool
    found: Found | None = None
    failed: str | None = None


class PartFailed(Exception):
    """A part raised, died or hung; the message is one line."""


def serve(connection: Connection, setup: Setup) -> None:
    """A process that runs the parts whose names come over the connection: their results go back, or why they failed."""
    while (name := connection.recv()) is not None:
        try:
            answer: Found | str = BY_NAME[name].run(setup)
        except Exception as error:  # whatever breaks a part: it is reported, and the others go on
            traceback.print_exc()
            answer = one_line(error)
        connection.send(answer)


class Worker:
    """Runs parts in a process of its own, which a part may break: the next one then gets a fresh process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process: Any = None
        self._connection: Any = None

    def run(self, part: Part, limit: float) -> Found:
        """What a part finds within ``limit`` seconds; raises PartFailed."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, there = context.Pipe()
            self._process = context.Process(target=serve, args=(there, self._setup))
            self._process.start()
            there.close()
        try:
            self._connection.send(part.name)
            answer = self._connection.recv() if self._connection.poll(limit) else f"stopped after {limit:.0f} s"
        except (EOFError, ConnectionError):  # nobody is at the other end
            self._process.join()
            answer = f"its process ended with exit code {self._process.exitcode}"
        if isinstance(answer, Found):
            return answer
        self.stop()
        raise PartFailed(answer)

    def stop(self) -> None:
        """End the process, in the middle of a part too."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def load(keep: Path) -> list[Record]:
    """The records that are kept in a file."""
    rows = json.loads(keep.read_text()) if keep.is_file() else []
    return [Record(**row | {"found": row["found"] and Found(**row["found"])}) for row in rows]


def save(keep: Path, record: Record) -> None:
    """Keep a record in place of an earlier one of its part, at once and whole."""
    records = [*(old for old in load(keep) if (old.part, old.tiny) != (record.part, record.tiny)), record]
    keep.parent.mkdir(parents=True, exist_ok=True)
    partial_file = keep.with_name(keep.name + ".partial")
    partial_file.write_text(json.dumps([asdict(one) for one in records], indent=1))
    partial_file.replace(keep)


def measure_all(
    parts: Sequence[Part],
    setup: Setup,
    keep: Path,
    minutes: float,
    device: str,
    run: Callable[[Part, float], Found],
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Run what is not kept of this device, in order, as far as it fits into the minutes; the names of what failed."""
    started, failed = clock(), []
    for part in parts:
        kept = [old for old in load(keep) if (old.part, old.tiny, old.device) == (part.name, setup.tiny, device)]
        left = 60 * minutes - (clock() - started)
        reason = None
        if any(old.found for old in kept):
            reason = "kept from an earlier run"
        elif part.cifar and setup.cifar is None:
            reason = "left out, as it needs --cifar"
        elif part.gpu_only and not torch.cuda.is_available():
            reason = "left out, as it needs a GPU"
        elif left < 60 * part.minutes:
            reason = f"left out: it takes about {part.minutes:g} minutes, and {max(0.0, left) / 60:.1f} are left"
        if reason:
            print(f"{part.name}: {reason}", flush=True)
            continue
        print(f"{part.name}: about {part.minutes:g} minutes; {left / 60:.1f} are left", flush=True)
        began = clock()
        outcome: dict[str, Any]
        try:
            outcome = {"found": run(part, min(left, 60 * PATIENCE * part.minutes))}
        except PartFailed as error:
            outcome = {"failed": str(error)}
            failed.append(part.name)
        record = Record(
            part=part.name,
            device=device,
            torch=torch.__version__,
            date=date.today().isoformat(),
            command=f"python -m benchmarks.gpu --parts {part.name}" + (" --cifar hf:FOLDER" if part.cifar else ""),
            seconds=round(clock() - began, 1),
            tiny=setup.tiny,
            **outcome,
        )
        save(keep, record)
        print(
            f"{part.name}: {record.failed or (record.found and record.found.verdict)} ({record.seconds} s)", flush=True
        )
    return failed


# --- the page -----------------------------------------------------------------------------------------------------------
def page(records: Iterable[Record]) -> str:
    """A section for every part, with what is kept of it."""
    kept = {record.part: record for record in records}
    return "\n".join(section(part, kept.get(part.name)) for part in PARTS)


def section(part: Part, record: Record | None) -> str:
    """The section of a part: how it was measured, what to look for, its table, and whether its bar was met."""
    parts = [f"## {part.title}", part.look_for]
    if record is None:
        parts.append("Not measured yet.")
    else:
        parts.append(
            f"`{record.command}`, {record.device}, torch {record.torch}, {record.date}, {record.seconds:.0f} seconds."
        )
    if record is not None and record.failed is not None:
        parts.append(f"It failed: `{record.failed}`")
    if record is not None and record.found is not None:
        parts += ["\n".join(record.found.lines).rstrip("\n"), f"**{record.found.verdict}**"]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", help="CIFAR-10: hf:FOLDER or cifar10")
    parser.add_argument("--parts", nargs="+", choices=list(BY_NAME), metavar="PART", help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--minutes", type=float, default=25, help="what would not end by then is left out")
    parser.add_argument("--keep", type=Path, default=Path("runs/bench-gpu.json"), help="where finished parts are kept")
    parser.add_argument("--tiny", action="store_true", help="everything small, to see that it works; on a CPU too")
    parser.add_argument("--no-run", action="store_true", help="measure nothing, show what is kept")
    add_option(parser, "gpu.md")
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    if not (gpu or options.tiny or options.no_run):
        parser.error("there is no GPU here; --tiny runs everything small, to see that it works")
    if options.tiny and options.markdown:
        parser.error("--tiny measures nothing that belongs into a page; valid: one of --tiny and --markdown")
    setup = Setup(options.cifar, options.tiny)
    failed: list[str] = []
    if not options.no_run:
        parts = [part for part in PARTS if options.parts is None or part.name in options.parts]
        device = torch.cuda.get_device_name() if gpu else f"a CPU with {os.cpu_count()} cores"
        worker = Worker(setup)
        try:
            failed = measure_all(parts, setup, options.keep, options.minutes, device, worker.run)
        finally:
            worker.stop()
    text = page(record for record in load(options.keep) if record.tiny == options.tiny)
    print(text)
    if options.markdown:
        write(options.markdown, "measured", text)
    if failed:
        print(f"failed: {', '.join(failed)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
