"""Copying definitions out of our own sources, each with everything that it names, so that one file stands alone.

What is needed is found in the syntax trees of `spaces`, and of a user's own module that brings an attention type: a
definition, then everything it names, and so on.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from symtable import SymbolTable, symtable
from types import ModuleType
from typing import Any

import torch

from spaces.errors import UsageError

HOME = "spaces"


@dataclass
class Sources:
    """Definitions collected with everything that they name, those that are needed first before the others.

    ``homes``: the top-level packages that are copied from; all others are imported.
    """

    homes: tuple[str, ...] = (HOME,)
    _taken: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, text)
    _imports: dict[str, set[str]] = field(default_factory=dict)  # module -> names; "" stands for the module itself

    def add(self, module: ModuleType, name: str) -> None:
        """Take the definition `name` of a module object."""
        self._add(module.__name__, name)

    def name_of(self, cls: type) -> str:
        """The name of a class in the file, where it is copied or imported; raises UsageError for a class in a function."""
        if getattr(torch.nn, cls.__name__, None) is cls:
            self.need("torch", "nn")
            return f"nn.{cls.__name__}"
        if cls.__qualname__ != cls.__name__:
            raise UsageError(
                f"{cls.__qualname__} of {cls.__module__} cannot be written as source: "
                "only a class at the top of its file can"
            )
        if cls.__module__.partition(".")[0] in self.homes:
            self._add(cls.__module__, cls.__name__)
        elif cls.__module__ != "builtins":
            self.need(cls.__module__, cls.__name__)
        return cls.__name__

    def need(self, module: str, name: str = "", alias: str = "") -> None:
        """Import from outside."""
        self._imports.setdefault(module, set()).add(name + (f" as {alias}" if alias and alias != name else ""))

    def _add(self, module: str, name: str) -> None:
        file = _read(module)
        if name in file.imports:
            origin, original = file.imports[name]
            if origin.partition(".")[0] not in self.homes:
                self.need(origin, original, name if original else "")
            elif original != name:
                raise RuntimeError(f"{module} renames {origin}.{original} to {name}, which one file cannot")
            else:
                self._add(origin, original)
            return
        if name not in file.definitions:
            return  # a builtin, an argument or a local variable
        if name in self._taken:
            if self._taken[name][0] != module:
                raise RuntimeError(f"{module} and {self._taken[name][0]} both define {name}")
            return
        text, names = file.definitions[name]
        self._taken[name] = (module, "")  # taken, so that a definition may name itself
        for other in names:
            self._add(module, other)
        del self._taken[name]
        self._taken[name] = (module, text)

    def definitions(self) -> list[str]:
        return [text for _, text in self._taken.values()]

    def packages(self) -> list[str]:
        """The packages that the file needs beside Python's own."""
        tops = {module.partition(".")[0] for module in self._imports} - sys.stdlib_module_names - {"__future__"}
        return sorted(tops)

    def import_lines(self) -> list[str]:
        """Standard library first, then packages."""
        lines = []
        for standard in (True, False):
            part: list[str] = []
            for module, names in self._imports.items():
                if (module.partition(".")[0] in sys.stdlib_module_names) == standard:
                    part += [f"import {module}"] if "" in names else []
                    part += [f"from {module} import {', '.join(sorted(names - {''}))}"] if names - {""} else []
            lines += [*sorted(part, key=lambda line: (line.startswith("from"), line)), ""] if part else []
        return lines[:-1]


@dataclass(frozen=True)
class File:
    """One source file: text and names of every definition at its top, and where its imports come from."""

    definitions: Mapping[str, tuple[str, tuple[str, ...]]]
    imports: Mapping[str, tuple[str, str]]


@cache
def _read(module: str) -> File:
    path = inspect.getsourcefile(importlib.import_module(module))
    lines = Path(str(path)).read_text().splitlines()
    tree = ast.parse("\n".join(lines))
    imports: dict[str, tuple[str, str]] = {}
    definitions: dict[str, tuple[str, tuple[str, ...]]] = {}
    statements = [inner for node in tree.body for inner in (node.body if isinstance(node, ast.If) else [node])]
    for node in statements:
        if isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            if node.level:
                origin = resolve_name(origin, str(importlib.import_module(module).__package__))
            imports |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
        else:
            for name in _defined(node):
                definitions[name] = (_text(node, lines), _names(node))
    return File(definitions, imports)


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _is_registration(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Name) and decorator.id == "register_model"


def _text(node: Any, lines: list[str]) -> str:
    """The lines of a definition with its comments and decorators, but not registered with timm and without `type: ignore`."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    dropped = {decorator.lineno - 1 for decorator in decorators if _is_registration(decorator)}
    kept = [lines[number] for number in range(first, node.end_lineno) if number not in dropped]
    return "\n".join(re.sub(r"\s*# type: ignore.*", "", line) for line in kept)


def _names(node: ast.stmt) -> tuple[str, ...]:
    """Every name from outside of it that a definition uses, its own left out."""
    skipped = {id(d) for d in getattr(node, "decorator_list", []) if _is_registration(d)}
    found = [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and id(inner) not in skipped]
    outer = _globals(symtable(ast.unparse(node), "definition", "exec")) | _annotated(node)
    return tuple(dict.fromkeys(name for name in found if name in outer and name not in _defined(node)))


def _globals(scope: SymbolTable) -> set[str]:
    """Names that a scope or one inside of it reads from the top of the file: a local variable of the same name is none."""
    top = scope.get_type() == "module"
    own = {name.get_name() for name in scope.get_symbols() if name.is_referenced() and (top or name.is_global())}
    return own.union(*map(_globals, scope.get_children()))


def _annotated(node: ast.stmt) -> set[str]:
    """Names in annotations, which symbol tables of some versions of Python leave out."""
    annotations = [
        getattr(inner, field)
        for inner in ast.walk(node)
        for field in ("annotation", "returns")
        if getattr(inner, field, None)
    ]
    return {inner.id for one in annotations for inner in ast.walk(one) if isinstance(inner, ast.Name)}
