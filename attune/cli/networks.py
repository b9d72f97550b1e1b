"""The verbs of networks without a search: what an architecture costs, and what can be named."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from attune.cli.app import Json, Native, Overrides, Plugins, app, say
from attune.cli.rows import tell_export
from search.arguments import read_architecture, read_size
from spaces.errors import UsageError


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
def insert(
    architecture: Annotated[str, typer.Argument(help="BACKBONE:P1,P2,... with one placement per stage.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write.")],
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE|pretrained", help="A checkpoint of the plain network, or the library's weights."),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(metavar="SIDE|HxW|TxHxW", help="Pixels of the input; of clips with frames.", show_default="224"),
    ] = None,
    classes: Annotated[int, typer.Option(min=1)] = 1000,
    channels: Annotated[int, typer.Option(min=1)] = 3,
    native: Annotated[Native, typer.Option(help="What becomes of built-in attention.")] = Native.keep,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="What to write, as in `list formats`; may be repeated.", metavar="FORMAT"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files in --to that no export wrote.")] = False,
    plugins: Plugins = None,
    as_json: Json = False,
) -> None:
    """Put attention into a network whose weights are kept, and write it: it computes what it did until it is trained on."""
    from search.export import export_inserted
    from spaces.network import NetworkSpec
    from spaces.plugins import load_plugins

    load_plugins(plugins or ())
    size = 224 if image_size is None else read_size(image_size)
    network = NetworkSpec.classifier(size, classes, channels, native.value, identity_start=True, stem="keep")
    given = True if weights == "pretrained" else weights or False
    arch = read_architecture(architecture)
    tell_export(export_inserted(arch, network, to=to, weights=given, formats=formats, force=force), as_json)


@app.command()
def show(
    placement: Annotated[str, typer.Argument(help="An attention type, with genes or without, as cbam-r16-k7.")],
    channels: Annotated[int, typer.Option(min=1, help="Of the maps that it will see.")] = 64,
    plugins: Plugins = None,
) -> None:
    """Print an attention type as one Python file to copy from: its code, its paper, its test."""
    from search.export.alone import attention_source
    from spaces.plugins import load_plugins

    load_plugins(plugins or ())
    print(attention_source(placement, channels), end="")


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
