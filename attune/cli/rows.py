"""The front of a run as rows, for people and machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from search.arguments import read_limits


def read_front(folder: Path, limits: list[str] | None = None) -> tuple[list[dict[str, Any]], str]:
    """The front of a run as rows sorted by cost, with missing numbers as None, and the name of its metric."""
    from search import load

    results = load(folder)
    frame = results.front_under(read_limits(limits))
    return json.loads(frame.to_json(orient="records", double_precision=15)), results.metric.name
