"""The verbs that search, and those that say beforehand what a search would do."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from attune.cli.app import DEFAULT_CONFIG, ConfigFile, Json, Overrides, Run, app, say
from attune.cli.rows import read_front
from search.command import command
from spaces.errors import UsageError

STARTED = time.time()


@app.command()
def search(
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run directory to make.")] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="DIR|URL", help="Go on with a run that was interrupted.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search for the best placements and print their Pareto front."""
    folder: Path | None = Path(resume) if resume and "://" not in resume else run
    with leaving_at_once(lambda: folder):
        from search.config import check_folder, load_config
        from search.files import new_run_folder
        from search.runner import resume_search, run_search
        from search.terminal import print_front

        if resume:
            if run:
                raise UsageError("--resume goes on in the run's own folder; it takes no --run")
        else:
            settings = load_config(config, overrides or [])
            folder = folder or new_run_folder(settings.name)
            check_folder("--run", folder)
        try:
            outcome = resume_search(resume, overrides or []) if resume else run_search(settings, folder or Path())
        except RuntimeError as error:
            raise RuntimeError(f"{error}{way_on(folder)}") from error
    folder = folder or outcome.folder
    front, metric = read_front(folder)
    if as_json:
        print(json.dumps({"run": str(folder), "front": front}))
    else:
        counted = f"{outcome.failed} failed" + (f", {outcome.stopped} stopped early" if outcome.stopped else "")
        print_front(front, metric, f"Front by {outcome.finished} evaluations ({counted})")
        say(f"run directory  {folder}")
        say(f"report         {command('analyze', folder)}")
        say(f"export         {command('export', folder, '--max', 'flops=1.02x', '--to', 'best')}")
    if outcome.finished < outcome.planned and not outcome.interrupted:
        say(f"its time is over; go on with {command('search', '--resume', folder)} --set search.hours=...")
    if outcome.interrupted:
        say(f"{outcome.finished} of {outcome.planned} trials are finished and kept; go on with")
        say(f"  {command('search', '--resume', folder)}")
        raise typer.Exit(130)
    if outcome.finished == outcome.failed:
        raise RuntimeError(
            f"all {outcome.failed} evaluations failed; reasons: the column 'reason' of {folder}/evaluations.parquet"
        )


@app.command()
def check(
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run directory that a search would make.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a search would read, build and take, and refuse what would fail later; nothing is written."""
    from search.check import check as check_config
    from search.config import check_folder, load_config
    from search.files import new_run_folder

    settings = load_config(config, overrides or [])
    folder = run or new_run_folder(settings.name)
    check_folder("--run", folder)
    found = check_config(settings, folder, started=STARTED)
    print(json.dumps(found.to_dict()) if as_json else "\n".join(found.lines()))


@app.command()
def space(
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Print what a configuration can build, how much of it fits the budget, and what it costs, before anything is trained."""
    from search.build import create_evaluator, create_problem
    from search.config import load_config
    from search.terminal import print_space

    settings = load_config(config, overrides or [])
    evaluator = create_evaluator(settings)
    problem = create_problem(settings, evaluator)
    if as_json:
        print(json.dumps(problem.to_dict() | {"stem": evaluator.network.describe_stem(problem.space.backbone)}))
        return
    print_space(problem, str(config), evaluator.network)


@app.command()
def enqueue(
    run: Run,
    architectures: Annotated[
        list[str], typer.Argument(help="BACKBONE:P1,P2,... of the run's space.", metavar="ARCH...")
    ],
) -> None:
    """Have a run evaluate these architectures next; one that searches takes them up by itself."""
    from search.steering import enqueue as add

    told = add(run, architectures)
    for text in told.known:
        say(f"{text} is evaluated already")
    say(f"{len(told.added)} of {len(architectures)} architectures come next in {run}")
    if not told.running:
        say("it does not search now" + way_on(run))


def way_on(folder: Path | None) -> str:
    """How a run goes on, where there is one in the folder."""
    there = folder is not None and (folder / "config.yaml").exists()
    return f"; go on with {command('search', '--resume', folder)}" if there else ""


@contextmanager
def leaving_at_once(folder: Callable[[], Path | None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the process with one line, wherever it is; a running search has its own way, see its runner.

    An exception would come up in the middle of other people's imports and callbacks, which may swallow it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        os.write(2, f"interrupted{way_on(folder())}\n".encode())
        os._exit(130)

    before = {one: signal.signal(one, leave) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
