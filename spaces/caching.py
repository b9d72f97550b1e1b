"""Where what takes long to find out is kept between calls, and under which name."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """``ATTUNE_CACHE``, else ``$XDG_CACHE_HOME/attune``; what lies there can be deleted at any time."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attune"
    return Path(os.environ.get("ATTUNE_CACHE") or fallback)


def installed() -> str:
    """A hash of what is installed: this project's own files, by size and time, and every package with its version."""
    root = Path(__file__).parents[1]
    own = []
    for folder in ("spaces", "evaluators", "search"):
        for path in sorted((root / folder).rglob("*.py")):
            found = path.stat()
            own.append(f"{path} {found.st_size} {found.st_mtime_ns}")
    packages = sorted(path.name for folder in sys.path for path in Path(folder).glob("*.dist-info"))  # NAME-VERSION
    return hashlib.sha256("\n".join([*own, *packages]).encode()).hexdigest()[:16]
