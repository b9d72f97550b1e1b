"""The reference of the command line, from the app that it runs."""

from __future__ import annotations

from enum import Enum
from typing import Any

import typer

from attune.cli import main  # noqa: F401  (its verbs register when they are imported)
from attune.cli.app import app


def verbs() -> dict[str, Any]:
    """The commands by name, in the order of ``--help``."""
    group: Any = typer.main.get_command(app)
    return {name: one for name, one in group.commands.items() if not one.hidden}


def markdown() -> str:
    """A section for each verb: what it does, how it is called, what it takes."""
    group: Any = typer.main.get_command(app)
    parts = ["## attune", "", group.help, "", *_table(group)]
    for name, verb in verbs().items():
        arguments = [_name(one) for one in verb.params if one.param_type_name == "argument"]
        call = " ".join(["attune", name, *arguments, "[OPTIONS]"])
        parts += [f"## {name}", "", (verb.help or "").strip(), "", "```text", call, "```", "", *_table(verb)]
    return "\n".join(parts)


def _table(command: Any) -> list[str]:
    shown = [one for one in command.params if one.name != "help" and not getattr(one, "hidden", False)]
    if not shown:
        return []
    rows = [f"| {_spelled(one)} | {_cell(getattr(one, 'help', None) or '')} | {_default(one)} |" for one in shown]
    return ["```{container} keys", "| option | meaning | default |", "|---|---|---|", *rows, "```", ""]


def _name(one: Any) -> str:
    words: str = one.metavar or one.name.upper()
    return words if one.required else f"[{words.strip('[]')}]"


def _spelled(one: Any) -> str:
    if one.param_type_name == "argument":
        return f"`{_name(one)}`".replace("|", "\\|")
    kind = "" if one.is_flag else f" {one.metavar or _values(one)}"
    return ", ".join(f"`{option}{kind}`" for option in one.opts).replace("|", "\\|")


def _values(one: Any) -> str:
    """The words that an option takes, where they are few, else what sort of value it takes."""
    kind = one.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(member.value) for member in kind)
    return getattr(kind, "__name__", str(kind)).upper()


def _default(one: Any) -> str:
    shown = getattr(one, "show_default", None)
    if isinstance(shown, str):
        return f"`{shown}`"
    if one.required:
        return "required"
    if one.default in (None, False, [], ()) or callable(one.default):
        return "-"
    return f"`{getattr(one.default, 'value', one.default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
