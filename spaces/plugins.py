"""How things are found by name, and how users bring their own without touching this project.

Three ways in: ``module:package.file:name`` wherever a name is asked for; ``plugins: [package.file]`` in a configuration; and
an installed package with an entry point in the group ``attune.plugins``. A plug-in is a module that calls ``register``
functions when it is imported.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from spaces.errors import UsageError, unknown

T = TypeVar("T")
GROUP = "attune.plugins"
PREFIX = "module:"


class Registry(Generic[T]):
    """Things of one sort by name: what the files of ``package`` register when they are imported, and what users bring.

    ``what`` names the sort in error messages. The files are imported when a name is first asked for.
    """

    def __init__(self, what: str, package: str = "") -> None:
        self.what, self._package = what, package
        self._things: dict[str, T] = {}
        self._complete = not package

    def register(self, name: str, thing: T) -> T:
        """Add a thing and return it; raises ValueError where the name is taken by another one."""
        if name in self._things and self._things[name] is not thing:
            raise ValueError(f"{self.what} {name!r} is registered already")
        self._things[name] = thing
        return thing

    def __getitem__(self, name: str) -> T:
        """The thing of that name; raises UsageError that names the valid ones."""
        self._discover()
        if name not in self._things:
            raise unknown(self.what, name, self._things)
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(self._things)

    def items(self) -> list[tuple[str, T]]:
        """Every name with its thing, in the order in which they were registered."""
        self._discover()
        return list(self._things.items())

    def _discover(self) -> None:
        if not self._complete:
            self._complete = True  # first, since the files may ask for names themselves
            try:
                import_files(self._package)
            except BaseException:
                self._complete = False  # or the next question would be answered by half of them
                raise


def import_files(package: str) -> None:
    """Import the files of a package, so that each of them can register what it holds; those that begin with _ are left out."""
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if not found.name.startswith("_"):
            importlib.import_module(f"{package}.{found.name}")


def is_brought(name: str) -> bool:
    """Whether a name stands for a user's own object (``module:package.file:name``)."""
    return name.startswith(PREFIX)


def bring(name: str, what: str) -> Any:
    """The object that ``module:package.file:name`` stands for; the current folder is importable.

    Raises UsageError in one line where the text has another form or there is no such object. ``what`` says what it is for.
    """
    parts = name.split(":")
    if len(parts) != 3 or not all(parts):
        raise UsageError(f"{what} {name!r} is not of the form module:package.file:name")
    module = _import(parts[1], f"{what} {name!r}")
    if not hasattr(module, parts[2]):
        raise UsageError(f"{what} {name!r}: {parts[1]} ({getattr(module, '__file__', '?')}) has no {parts[2]!r}")
    return getattr(module, parts[2])


def call(name: str, what: str, function: Any, **keywords: Any) -> Any:
    """Call a user's own function; raises UsageError in one line where it does not take these keywords."""
    if not callable(function):
        raise UsageError(f"{what} {name!r} is a {type(function).__name__}, neither a function nor a class")
    try:
        inspect.signature(function).bind(**keywords)
    except TypeError as error:
        raise UsageError(f"{what} {name!r} is called with {', '.join(keywords)}: {error}") from None
    except ValueError:  # a class of C code, which tells nobody what it takes
        return function(**keywords)
    return function(**keywords)


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Import the plug-ins of installed packages, then these modules; the current folder is importable.

    Raises UsageError in one line for a module that cannot be imported.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:  # whatever a stranger's package raises, the user has to know which one it was
            raise UsageError(f"plug-in {entry.name!r} ({entry.value}): {_reason(error)}") from error
    for name in modules:
        _import(name, f"plugins: {name!r}")


def source_of(module: str) -> Path:
    """The file or folder that has to be sent to another machine so that ``module`` can be imported there."""
    top = sys.modules[module.partition(".")[0]]
    file = getattr(top, "__file__", None)
    if file is None:  # a folder without __init__.py
        return Path(next(iter(top.__path__)))
    return Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def _import(module: str, where: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: a file of the user's never stands in for an installed package
    try:
        return importlib.import_module(module)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise UsageError(f"{where}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
