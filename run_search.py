#!/usr/bin/env python
"""The command line of Attune: search, check, front, analyze, watch, export, cost, space, list."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.arguments import read_architecture, read_limits, read_size
from search.command import command
from spaces.errors import MOST, UsageError, bounded, cut

if TYPE_CHECKING:
    from evaluators.metric import Metric

# The heavy packages (torch, ray, timm) are imported inside the verbs, so that --help and mistakes answer at once.

app = typer.Typer(
    help="Search where attention belongs in a convolutional network: accuracy against exact cost, as a Pareto front.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DEFAULT_CONFIG = Path("configs/default.yaml")
STARTED = time.time()

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout; logs go to stderr.")]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--max", metavar="METRIC=LIMIT", help="Upper limit, as in flops=310M or params=1.05x; may be repeated."
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="A module that brings types, backbones ... of your own."),
]
ConfigFile = Annotated[Path, typer.Argument(help="A YAML file, see configs/.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the configuration.")
]
Run = Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")]


class Dynamic(StrEnum):
    """What an exported file leaves open beside the number of images."""

    size = "size"


class Native(Enum):
    """What becomes of a backbone's built-in attention."""

    keep = "keep"
    replace = "replace"
    remove = "remove"


class Listed(StrEnum):
    """What `list` can show."""

    attentions = "attentions"
    backbones = "backbones"
    datasets = "datasets"
    tasks = "tasks"
    evaluators = "evaluators"
    objectives = "objectives"
    samplers = "samplers"
    schedulers = "schedulers"
    formats = "formats"


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        search(DEFAULT_CONFIG)


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
def front(run: Run, limits: Limits = None, as_json: Json = False) -> None:
    """Print the front to choose from, by everything that was trained in a run, under limits if given."""
    from search.terminal import print_front

    rows, metric = read_front(run, limits)
    if as_json:
        print(json.dumps(rows))
    else:
        print_front(rows, metric, f"Front of {run}")


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


@app.command()
def analyze(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories; the report is written into the first.", metavar="RUN...")
    ],
    confirm: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="First train what is reported with N fresh seeds each on average."),
    ] = None,
    baselines: Annotated[
        str, typer.Option(help="What --confirm compares with besides the plain backbone: uniform, random, none.")
    ] = "uniform",
    latency: Annotated[bool, typer.Option("--latency", help="First measure the latency of what is reported.")] = False,
    pictures: Annotated[
        int | None,
        typer.Option(metavar="N", help="First draw where the networks look, on N validation pictures (1 to 16)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write RUN/report.html and print its path; with several runs RUN/comparison.html."""
    from search.analysis import analyze as write_report
    from search.terminal import print_findings

    if confirm:
        from search.analysis.confirm import confirm as train_again

        names = [name.strip() for name in baselines.split(",") if name.strip() not in ("", "none")]
        for run in runs:
            train_again(run, confirm, baselines=names)
    if latency:
        from search.analysis.latencies import measure_latencies

        for run in runs:
            measure_latencies(run)
    if pictures is not None:
        from search.analysis.pictures import draw_pictures

        for run in runs:
            draw_pictures(run, pictures)
    report = write_report(runs)
    if as_json:
        print(json.dumps(report.to_dict()))
        return
    print_findings(report.findings)
    print(report.path)


@app.command()
def watch(
    run: Run,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0: any that is free.")] = 0,
) -> None:
    """Serve the report of a run to this machine's browser while it searches; what is finished appears."""
    from search.analysis.watch import HOST, make_server

    with make_server(run, port) as server:
        say("the report as it grows; Ctrl-C ends this, and leaves the search alone")
        print(f"http://{HOST}:{server.server_port}/", flush=True)
        server.serve_forever()


@app.command()
def export(
    source: Annotated[str, typer.Argument(help="A run directory or an architecture.", metavar="RUN|ARCHITECTURE")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write.")],
    limits: Limits = None,
    pick: Annotated[str | None, typer.Option("--pick", help="An architecture of the run, instead of the best.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="What to write, as in `list formats`; may be repeated.",
            metavar="FORMAT",
        ),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operators of this version, 13 or more.")] = None,
    dynamic: Annotated[
        Dynamic | None, typer.Option(help="What the file leaves open beside the batch: height and width (onnx).")
    ] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train the weights anew at full fidelity.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Train the weights anew for so many epochs.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files in --to that no export wrote.")] = False,
    as_json: Json = False,
) -> None:
    """Write the best architecture under a budget with its trained weights, and prove that it loads without Attune."""
    from search.export import export as write_export

    given = {"opset": opset, "dynamic": dynamic.value if dynamic else None}
    result = write_export(
        source,
        to=to,
        limits=read_limits(limits),
        pick=pick,
        formats=formats,
        options={name: value for name, value in given.items() if value is not None},
        retrain=retrain,
        epochs=epochs,
        force=force,
    )
    if as_json:
        print(json.dumps(result.to_dict()))
        return
    scored = f"  {result.metric} {result.told} with these weights" if result.told else ""
    say(f"{result.architecture}{scored}")
    if result.reason:
        say(result.reason)
    for one in result.checks:
        same = "equal to the bit" if one.difference == 0 else f"largest difference {one.difference:.2g}"
        say(f"{one.format:<14}loaded in a fresh process, logits {same}")
    for path in result.files:
        print(path)


@app.command()
def cost(
    architecture: Annotated[str, typer.Argument(help="BACKBONE:P1,P2,... with one placement per stage.")],
    image_size: Annotated[
        str | None,
        typer.Option(metavar="SIDE|HxW|TxHxW", help="Pixels of the input; of clips with frames.", show_default="224"),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, show_default="1000")] = None,
    channels: Annotated[int | None, typer.Option(min=1, show_default="3")] = None,
    native: Annotated[
        Native | None, typer.Option(help="What becomes of built-in attention.", show_default="keep")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A configuration: its task, head, classes, channels and size stand for those left out."
        ),
    ] = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Print the exact cost of an architecture: parameters, MACs, FLOPs, activations (batch 1)."""
    from evaluators.cost import count_network
    from search.build import network_of
    from search.config import load_config
    from search.terminal import print_cost
    from spaces.network import Native as NativeWord
    from spaces.network import NetworkSpec
    from spaces.plugins import load_plugins

    if overrides and config is None:
        raise UsageError("--set changes a configuration; valid: with --config FILE")
    load_plugins(plugins or ())
    size = None if image_size is None else read_size(image_size)
    chosen: NativeWord | None = None if native is None else native.value
    if config is None:
        network = NetworkSpec.classifier(size or 224, classes or 1000, channels or 3, chosen or "keep")
    else:
        network = network_of(load_config(config, overrides or []), size, classes, channels, chosen)
    arch = read_architecture(architecture)
    costs = count_network(arch, network)
    if as_json:
        print(json.dumps(costs.to_dict()))
        return
    print_cost(costs, [stage.name for stage in network.stages(arch.backbone)])


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


@app.command(name="list")
def list_(what: Listed, plugins: Plugins = None, as_json: Json = False) -> None:
    """List what can be named: attention types, backbones, tasks, samplers ..."""
    from search.listed import rows_of
    from search.terminal import print_rows
    from spaces.plugins import load_plugins

    load_plugins(plugins or ())
    if what is Listed.backbones and not as_json:
        print("\n".join(row["name"] for row in rows_of("backbone names")))
        say("stages, channels, resolutions and sites of each: --json (minutes the first time, then kept)")
        return
    rows = rows_of(what.value)
    if as_json:
        print(json.dumps(rows))
        return
    print_rows(rows)


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


# --- what the verbs share --------------------------------------------------------------------------------------------


def read_front(folder: Path, limits: list[str] | None = None) -> tuple[list[dict[str, Any]], Metric]:
    """The recommended front of a run as rows sorted by cost, with missing numbers as None, and its metric."""
    from search import load

    results = load(folder)
    frame = results.recommended(read_limits(limits))
    return json.loads(frame.to_json(orient="records", double_precision=15)), results.metric


def say(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr)


def one_line(message: object) -> str:
    """A message as one line of at most MOST characters, without secrets and control characters."""
    from search.public import masked

    words = bounded(str(masked(cut(str(message), 4 * MOST))))  # a secret is hidden before its word is cut
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in words)


def main() -> int:
    """Run the command line; the exit code is 0 done, 2 the user's mistake, 1 the run failed, 130 interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return app(standalone_mode=False) or 0
    except UsageError as error:
        say(f"error: {one_line(error)}")
        return 2
    except typer.TyperException as error:  # typer's own words for a wrong verb, option or value
        message = getattr(error, "message", "") or str(error)
        say(f"error: {one_line(message.removeprefix('Value error, '))} (see run_search.py --help)")
        return getattr(error, "exit_code", 2)
    except (typer.Abort, KeyboardInterrupt):
        say("interrupted")
        return 130
    except (
        RuntimeError,
        OSError,
    ) as error:  # OSError: what the system refuses, a folder without permission and the like
        say(f"failed: {one_line(error)}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
