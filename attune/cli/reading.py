"""The verbs that read a run: its front, its report, its exports."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from attune.cli.app import Json, Limits, Run, app, say
from attune.cli.rows import read_front, tell_export
from search.arguments import read_limits


class Dynamic(StrEnum):
    """What an exported file leaves open beside the number of images."""

    size = "size"


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
    tell_export(result, as_json)
