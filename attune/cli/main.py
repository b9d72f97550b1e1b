"""The command line: its verbs, and what becomes of errors."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Annotated

import typer

from attune.cli import about, networks, reading, running  # noqa: F401  (they register their verbs)
from attune.cli.app import DEFAULT_CONFIG, app, complain, say, version_line
from attune.cli.running import search
from search.command import program
from spaces.errors import MOST, UsageError, bounded, cut

# What is raised for a wrong verb, option or value: of typer itself since it holds its own copy of click, before that of click.
WRONG_WORDS: type[Exception] = getattr(typer, "TyperException", None) or import_module("click").ClickException


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version of Attune and its main parts.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also say what is done on the way.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")] = False,
) -> None:
    if verbose and quiet:
        raise UsageError("--verbose and --quiet exclude each other; valid: one of them")
    if verbose or quiet:
        logging.getLogger().setLevel(logging.INFO if verbose else logging.ERROR)
    if version:
        print(version_line())
        raise typer.Exit()
    if context.invoked_subcommand is None:
        search(DEFAULT_CONFIG)


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
        complain(f"error: {one_line(error)}")
        return 2
    except WRONG_WORDS as error:
        message = getattr(error, "message", "") or str(error)
        complain(f"error: {one_line(message.removeprefix('Value error, '))} (see {program()} --help)")
        return getattr(error, "exit_code", 2)
    except (typer.Abort, KeyboardInterrupt):
        say("interrupted")
        return 130
    except (
        RuntimeError,
        OSError,
    ) as error:  # OSError: what the system refuses, a folder without permission and the like
        complain(f"failed: {one_line(error)}")
        return 1
