"""What an export format is, the registry of formats, and writing a network in several of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from search.export.loader import Run
from search.export.subject import Subject
from spaces.errors import UsageError, unknown
from spaces.extras import need
from spaces.heads.base import DenseHead

Write = Callable[..., list[Path]]


@dataclass(frozen=True)
class Format:
    """One way of writing a network.

    - ``name``: what the command line calls it; ``what``: one line for people.
    - ``write(subject, model, folder)`` writes the network, in eval mode, into an existing folder. It returns the paths of
      its files; the first one stands for the format.
    - ``run(path, job, x_BCHW)`` reads that first file again and gives the logits (B, K). Its source is handed to a fresh
      process that does not see Attune, so it is a plain function that imports inside of itself whatever it needs. What else
      it may use is in ``job``; see ``search.export.loader.Job``.
    - ``tolerance``: how far logits may be off, relative to the largest one where that exceeds 1; 0 is equality to the bit.
    - ``default``: written where no format is named.
    - ``options``: names of choices that ``write`` also takes by keyword, each with a default of its own there.
    - ``needs_attune``: only Attune can read it, so the fresh process may import Attune for it.
    - ``extra``: the extra of Attune's distribution that it needs, see ``spaces.extras``.
    - ``graph``: it holds operators on fixed shapes, so it is refused for a network whose shapes depend on its input.
    """

    name: str
    what: str
    write: Write
    run: Run
    tolerance: float = 0.0
    default: bool = False
    needs_attune: bool = False
    extra: str = ""
    options: tuple[str, ...] = ()
    graph: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Name and description, ready for JSON."""
        return {"name": self.name, "what": self.what, "default": self.default, "tolerance": self.tolerance}


_FORMATS: dict[str, Format] = {}


def register_format(form: Format) -> Format:
    """Make a format known by its name; returns it.

    Raises UsageError for a name that is taken by another format, and for a ``run`` whose source cannot stand alone: a
    lambda, a method, or a function inside of another one.
    """
    known = _FORMATS.get(form.name)
    if known is not None and known != form:
        raise UsageError(f"export format {form.name!r} is taken by {known.write.__module__}; choose another name")
    run = form.run
    if not inspect.isfunction(run) or run.__qualname__ != run.__name__ or run.__name__ == "<lambda>":
        raise UsageError(f"export format {form.name!r}: run is {run!r}; valid: a function at the top of a module")
    _FORMATS[form.name] = form
    return form


def find_format(name: str) -> Format:
    """The format of this name; raises UsageError for an unknown one, and where the packages that it needs are not installed."""
    if name not in _FORMATS:
        raise unknown("format", name, _FORMATS)
    form = _FORMATS[name]
    if form.extra:
        need(form.extra, f"--format {name}")
    return form


def known_formats() -> list[Format]:
    """Every registered format, in the order of registration."""
    return list(_FORMATS.values())


@dataclass(frozen=True)
class Written:
    """One export: the network, the folder, and the files of each format by its name."""

    subject: Subject
    model: nn.Module
    folder: Path
    files: Mapping[str, Sequence[Path]]


def check_options(names: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that none of these formats takes."""
    for option in options:
        if not any(option in find_format(name).options for name in names):
            taking = [form.name for form in known_formats() if option in form.options]
            raise UsageError(
                f"--{option} is for none of the formats {', '.join(names)}; formats with it: {', '.join(taking) or 'none'}"
            )


def write_formats(
    subject: Subject, model: nn.Module, folder: Path, names: Sequence[str], options: Mapping[str, Any] | None = None
) -> Written:
    """Write a network in eval mode into an existing folder, in each of these formats; each gets the options that it takes.

    Raises UsageError for an option that none of them takes, and for a format that the network cannot have.
    """
    given = options or {}
    check_options(names, given)
    files = {}
    head = subject.network.head
    for form in map(find_format, names):
        if form.graph and isinstance(head, DenseHead) and head.data_dependent:
            raise UsageError(
                f"--format {form.name}: a network of {head.name} is no graph of fixed shapes, since {head.data_dependent}; "
                "valid: python, safetensors, spec"
            )
    for form in map(find_format, names):
        own = {option: value for option, value in given.items() if option in form.options}
        files[form.name] = form.write(subject, model, folder, **own)
    return Written(subject, model, folder, files)
