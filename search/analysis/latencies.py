"""The latency of what a report shows, measured on this machine and kept in ``latency.json``."""

from __future__ import annotations

import json
from pathlib import Path

from evaluators.latency import measure_latency
from search.files import read_json, unreadable
from search.results import Results, load
from spaces import Architecture
from spaces.errors import shortened


def read_latency(results: Results) -> dict[str, float]:
    """Milliseconds by architecture, where ``analyze --latency`` has measured them."""
    path, advice = results.folder / "latency.json", "remove it; `analyze --latency` measures again"
    found: dict[str, float] = read_json(path, dict, advice) if path.exists() else {}
    for text, value in found.items():
        if not isinstance(value, int | float):
            raise unreadable(path, f"{shortened(text)} has {shortened(value)} for milliseconds", advice)
    return found


def measure_latencies(folder: str | Path) -> None:
    """Measure a single image's latency of the front and of everything confirmed on this machine, into ``latency.json``."""
    results = load(folder)
    known = read_latency(results)
    for text in dict.fromkeys([*results.front["architecture"], *results.confirmed["architecture"]]):
        if text not in known:
            known[text] = 1000 * measure_latency(Architecture.parse(text), results.network).seconds
    (results.folder / "latency.json").write_text(json.dumps(known))
