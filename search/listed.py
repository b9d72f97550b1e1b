"""Everything that can be named in a configuration or on the command line, as rows of one table each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The function that gives the rows of each; its module is imported when it is asked for.
LISTED = {
    "attentions": "spaces.attention:describe_attentions",
    "backbones": "spaces.catalogue:describe_backbones",
    "datasets": "evaluators.data:list_datasets",
    "tasks": "evaluators.tasks:list_tasks",
    "evaluators": "evaluators:list_evaluators",
    "objectives": "search.objectives:list_objectives",
    "samplers": "search.samplers:list_samplers",
    "schedulers": "search.schedulers:list_schedulers",
    "formats": "search.export:list_formats",
}


def rows_of(what: str) -> list[dict[str, Any]]:
    """The rows of one of LISTED, ready for JSON."""
    module, _, function = LISTED[what].partition(":")
    rows = getattr(import_module(module), function)()
    return [row if isinstance(row, dict) else {"name": row} for row in rows]
