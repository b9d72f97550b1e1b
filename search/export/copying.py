"""Copying definitions out of our own sources, each with everything that it names, so that one file stands alone.

What is needed is found in the syntax trees of `spaces`: a definition, then everything it names, and so on.
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
from pathlib import Path
from types import ModuleType
from typing import Any

HOME = "spaces"


@dataclass
class Sources:
    """Definitions collected with everything that they name, those that are needed first before the others."""

    _taken: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, text)
    _imports: dict[str, set[str]] = field(default_factory=dict)  # module -> names; "" stands for the module itself

    def add(self, module: ModuleType, name: str) -> None:
        """Take the definition `name` of a module object."""
        self._add(module.__name__, name)

    def need(self, module: str, name: str = "", alias: str = "") -> None:
        """Import from outside."""
        self._imports.setdefault(module, set()).add(name + (f" as {alias}" if alias and alias != name else ""))

    def _add(self, module: str, name: str) -> None:
        file = _read(module)
        if name in file.imports:
            origin, original = file.imports[name]
            if origin.partition(".")[0] != HOME:
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
            imports |= {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}
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
    """Every name that a definition uses, its own left out."""
    skipped = {id(d) for d in getattr(node, "decorator_list", []) if _is_registration(d)}
    found = [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and id(inner) not in skipped]
    return tuple(dict.fromkeys(name for name in found if name not in _defined(node)))
