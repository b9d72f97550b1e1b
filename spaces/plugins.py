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
import traceback
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from spaces.errors import UsageError, cut, shortened, unknown

T = TypeVar("T")
GROUP = "attune.plugins"
PREFIX = "module:"
OBJECTS = "objects"  # the folder of a run that holds what was given to it as objects, as packages


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
    whose = f"{what} {shortened(name)}"
    if len(parts) != 3 or not all(parts):
        raise UsageError(f"{whose} is not of the form module:package.file:name")
    module = _import(parts[1], whose)
    try:
        return getattr(module, parts[2])
    except AttributeError:
        home = f"{parts[1]} ({getattr(module, '__file__', '?')})"
        raise UsageError(f"{whose}: {home} has no {shortened(parts[2])}") from None
    except (Exception, SystemExit) as error:  # a module may have its own __getattr__
        raise UsageError(f"{whose}: {reason_of(error)}") from error


def call(name: str, what: str, function: Any, *values: Any, **keywords: Any) -> Any:
    """Call a user's own function.

    Raises UsageError in one line where it is none, does not take these values and keywords, or raises anything itself.
    """
    whose = f"{what} {shortened(name)}"
    if not callable(function):
        raise UsageError(f"{whose} is a {type(function).__name__}, neither a function nor a class")
    try:
        inspect.signature(function).bind(*values, **keywords)
    except TypeError as error:
        given = [*(type(value).__name__ for value in values), *keywords]
        raise UsageError(f"{whose} is called with {', '.join(given) or 'nothing'}: {error}") from None
    except ValueError:  # C code, which tells nobody what it takes
        pass
    try:
        return function(*values, **keywords)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise UsageError(f"{whose} raised {reason_of(error)}") from error


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Import the plug-ins of installed packages, then these modules; the current folder is importable.

    Raises UsageError in one line for a module that cannot be imported.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except (Exception, SystemExit) as error:  # whatever a stranger's package raises: the user has to know which one
            raise UsageError(f"plug-in {entry.name!r} ({entry.value}): {reason_of(error)}") from error
    for name in modules:
        if not isinstance(name, str):
            raise UsageError(f"plugins: {shortened(name)} is no name of a module")
        _import(name, f"plugins: {shortened(name)}")


def source_of(module: str) -> Path:
    """The file or folder that has to be sent to another machine so that ``module`` can be imported there."""
    top = sys.modules[module.partition(".")[0]]
    file = getattr(top, "__file__", None)
    if file is None:  # a folder without __init__.py
        return Path(next(iter(top.__path__)))
    return Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def _import(module: str, where: str) -> Any:
    importable(Path.cwd())
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        raise UsageError(f"{where}: {reason_of(error)}") from error


def importable(folder: Path) -> None:
    """Let a folder be imported from, after all others: a file of the user's never stands in for an installed package."""
    here = str(folder.resolve())
    if here not in sys.path:
        sys.path.append(here)


def reason_of(error: BaseException) -> str:
    """What was raised, and the line of whose file did."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [
        frame for frame in frames if frame.filename not in (__file__, importlib.__file__) and frame.filename[:1] != "<"
    ]
    where = f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""
    return cut(f"{type(error).__name__}: {error}", 400) + where
