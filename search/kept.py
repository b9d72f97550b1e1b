"""What a run keeps of itself, read without torch: its configuration, whether that is whole, what earlier versions wrote
into it, and ``run.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from search.files import is_file, read_json, unreadable
from spaces.errors import UsageError, shortened

_OLDER = "put back an older config.yaml.1, or start a new run"
# What every run's configuration spelled out, whatever version wrote it; later ones end with YAML's "...".
_ALWAYS = ("name", "data", "seed", "space", "training", "search", "resources")


def kept_path(folder: str | Path) -> Path:
    """The ``config.yaml`` of a run directory; raises UsageError where there is none."""
    path = Path(folder) / "config.yaml"
    if not is_file(path):
        runs = sorted(str(found.parent) for found in Path("runs").glob("*/config.yaml"))
        raise UsageError(
            f"{shortened(str(folder), 200)} is not a run directory; runs here: {', '.join(runs) or 'none'}"
        )
    return path


def kept_values(path: Path) -> dict[str, Any]:
    """The content of a run's ``config.yaml`` as it stands there.

    Raises UsageError for the half of a file: what is missing would be taken for defaults.
    """
    try:
        text = path.read_text()
        keys = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}; {_OLDER}") from None
    ended = text.endswith("\n...\n")
    run = path.parent / "run.json"
    former = not is_file(run) or b'"meaning"' not in run.read_bytes()  # a run of an earlier version
    missing = [key for key in _ALWAYS if not isinstance(keys, dict) or key not in keys]
    if missing or not (ended or (former and text.endswith("\n"))):
        lacks = f"lacks {', '.join(missing)}" if missing else "lacks its end"
        raise UsageError(f"{path} is cut off or damaged: it {lacks}; {_OLDER}")
    found: dict[str, Any] = keys
    return found


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json``; empty where there is none. Raises UsageError for one that cannot be read."""
    path = folder / "run.json"
    if not path.exists():
        return {}
    content: dict[str, Any] = read_json(path, dict, _RUN_ADVICE)
    meaning = content.get("meaning", {})
    sorts: tuple[tuple[str, type], ...] = (("metric", dict), ("identity", str), ("meaning", dict))
    parts: list[tuple[dict[str, Any], str, type]] = [(content, name, sort) for name, sort in sorts]
    parts += [(meaning, name, dict) for name in ("code", "versions")] if isinstance(meaning, dict) else []
    metric = content.get("metric", {})
    fields = (("name", str), ("unit", str), ("higher_is_better", bool), ("by_class", str))
    parts += [(metric, name, sort) for name, sort in fields] if isinstance(metric, dict) else []
    for whole, name, sort in parts:
        if name in whole and not isinstance(whole[name], sort):
            raise unreadable(path, f"{name} = {shortened(whole[name])}", _RUN_ADVICE)
    return content


_RUN_ADVICE = "put back a whole one, or remove it and the run is read as one of an earlier version"


# What sections of runs of earlier versions held, whatever they were the sections of: key -> the value that meant nothing.
_FORMER: dict[str, dict[str, Any]] = {
    "evaluator": {
        "start": "scratch",
        "supernet_epochs": None,
        "paths": None,
        "sandwich": False,
        "calibration": 256,
        "validation": 1000,
        "proxy": "params",
        "file": None,
    },
    "scheduler": {"first": 1, "reduction": 3.0, "brackets": 1},
}


def without_former(raw: dict[str, Any]) -> None:
    """Leave out what a section held only because every kind of it had one form, and what lists of a space held twice."""
    space = raw.get("space")
    if isinstance(space, dict):
        lists = {key: value for key, value in space.items() if isinstance(value, list)}
        space |= {key: [one for i, one in enumerate(value) if one not in value[:i]] for key, value in lists.items()}
    for name, home in (("evaluator", raw), ("scheduler", raw.get("search"))):
        section = home.get(name) if isinstance(home, dict) else None
        if isinstance(home, dict) and isinstance(section, dict):
            meaningless = _FORMER[name]
            home[name] = {k: v for k, v in section.items() if k not in meaningless or v != meaningless[k]}
