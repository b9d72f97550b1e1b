"""The app that the verbs of the command line register with, the options that several of them take, and how it speaks."""

from __future__ import annotations

import logging
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

import attune

# The heavy packages (torch, ray, timm) are imported inside the verbs, so that --help and mistakes answer at once.

app = typer.Typer(
    help="Search where attention belongs in a convolutional network: accuracy against exact cost, as a Pareto front.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DEFAULT_CONFIG = Path("configs/default.yaml")

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


class Native(Enum):
    """What becomes of a backbone's built-in attention."""

    keep = "keep"
    replace = "replace"
    remove = "remove"


def say(message: str) -> None:
    """A line for people, on stderr, unless the command is to be quiet."""
    if logging.getLogger().isEnabledFor(logging.WARNING):
        complain(message)


def complain(message: str) -> None:
    """A line for people, on stderr, in any case."""
    print(message, file=sys.stderr)


def version_line() -> str:
    """Attune's version, and those of Python and of what results depend on."""
    from search.versions import versions

    return f"attune {attune.__version__} ({versions()})"
