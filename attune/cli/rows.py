"""What several verbs tell: the front of a run as rows, and what an export wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune.cli.app import say
from search.arguments import read_limits

if TYPE_CHECKING:
    from evaluators.metric import Metric
    from search.export import Exported  # at run time it brings torch


def read_front(folder: Path, limits: list[str] | None = None) -> tuple[list[dict[str, Any]], Metric]:
    """The recommended front of a run as rows sorted by cost, with missing numbers as None, and its metric."""
    from search import load

    results = load(folder)
    frame = results.recommended(read_limits(limits))
    return json.loads(frame.to_json(orient="records", double_precision=15)), results.metric


def tell_export(result: Exported, as_json: bool) -> None:
    """What was written, and that it loads: as JSON, or for people."""
    if as_json:
        print(json.dumps(result.to_dict()))
        return
    scored = f"  {result.metric} {result.told} with these weights" if result.told else ""
    say(f"{result.architecture}{scored}")
    if result.reason:
        say(result.reason)
    for one in result.checks:
        same = "equal to the bit" if one.difference == 0 else f"largest difference {one.difference:.2g}"
        say(f"{one.format:<14}loaded in a fresh process, outputs {same}")
    for path in result.files:
        print(path)
