"""The configuration as a run keeps it: whether it is whole, and what earlier versions wrote into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from search.files import is_file
from spaces.errors import UsageError

_OLDER = "put back an older config.yaml.1, or start a new run"
# What every run's configuration spelled out, whatever version wrote it; later ones end with YAML's "...".
_ALWAYS = ("name", "data", "seed", "space", "training", "search", "resources")


def refuse_cut(path: Path) -> None:
    """Raise UsageError for the half of a file: what is missing would be taken for defaults."""
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
