"""Everything that can be named in a configuration or on the command line, as rows of one table each."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from search.files import is_file, write_whole
from spaces.caching import cache_folder, installed
from spaces.plugins import GROUP

# The function that gives the rows of each; its module is imported when it is asked for.
LISTED = {
    "attentions": "spaces.attention.registry:describe_attentions",
    "backbone names": "spaces.backbone:list_backbones",
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
    """The rows of one of LISTED, ready for JSON.

    What only importing torch and timm can tell is found once, and kept in the cache folder for as long as nothing that is
    installed changes. Plug-ins may bring more: then, and where the module that knows is imported already, it is asked.
    """
    module, _, function = LISTED[what].partition(":")
    path = cache_folder() / f"list-{what.replace(' ', '-')}-{installed()}.json"
    kept = module not in sys.modules and not entry_points(group=GROUP)
    if kept and is_file(path):
        with suppress(ValueError, OSError):  # damaged: it is found anew
            found = json.loads(path.read_bytes())
            if isinstance(found, list):
                return found
    rows = [row if isinstance(row, dict) else {"name": row} for row in getattr(import_module(module), function)()]
    rows = json.loads(json.dumps(rows))
    if kept:
        with suppress(OSError):  # a cache that cannot be written costs time only
            path.parent.mkdir(parents=True, exist_ok=True)
            for former in path.parent.glob(f"list-{what.replace(' ', '-')}-*.json"):
                former.unlink(missing_ok=True)
            write_whole(path, json.dumps(rows))
    return rows
