"""What `check` may say beside its facts: the warnings and refusals of its sources, values written as dots."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Where the warnings of `check` are worded, and whose refusals are its own.
WARN = (
    "evaluators/data/summary.py",
    "evaluators/data/boxes/summary.py",
    "evaluators/data/masks/summary.py",
    "search/check.py",
)
REFUSE = ("search/check.py",)


def warnings() -> list[str]:
    """Every warning: a text that is appended to a list, or that a function returns in one."""
    found = []
    for file in WARN:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
                about_facts = isinstance(node.func.value, ast.Name) and node.func.value.id == "facts"
                found += [] if about_facts else _texts(node.args)
            elif isinstance(node, ast.Return) and isinstance(node.value, ast.List | ast.IfExp):
                lists = [node.value] if isinstance(node.value, ast.List) else [node.value.body, node.value.orelse]
                found += [text for one in lists if isinstance(one, ast.List) for text in _texts(one.elts)]
    return list(dict.fromkeys(found))


def refusals() -> list[str]:
    """What check itself refuses, beside what the reading of data and configuration does."""
    found = []
    for file in REFUSE:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                found += _texts(node.exc.args)
    return list(dict.fromkeys(found))


def _texts(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            words = (str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
            yield re.sub(r"(\.\.\.)+", "...", "".join(words))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
