"""Writing a run's files so that a kill, a full disk or a lost machine leaves the old content or the new, never a part."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from spaces.errors import UsageError, cut

T = TypeVar("T")


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file by ``content``, whole or not at all; returns when it is on the disk. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that the system cannot have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, a NUL
        return False


def read_json(path: Path, sort: type[T], advice: str) -> T:
    """What a run's file holds; raises UsageError that names the file, and ends in ``advice``, where it is no such JSON."""
    try:
        content: Any = json.loads(path.read_bytes())
        if not isinstance(content, sort):
            raise ValueError(f"it holds a {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8
        raise unreadable(path, error, advice) from None
    return content


def unreadable(path: Path, error: object, advice: str) -> UsageError:
    """The error for a run's file that is damaged: its name, what is wrong with it, and what to do."""
    reason = (isinstance(error, OSError) and error.strerror) or error
    return UsageError(f"{path} cannot be read: {cut(str(reason), 200)}; {advice}")


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder too, not only what the files contain."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_name(path: Path, suffix: str = "") -> Path:
    """The first of ``path.suffix``, or ``path.suffix.1``, ``.2`` ... that is not taken; without a suffix they begin at 1."""
    number = 0 if suffix else 1
    while True:
        name = f"{path.name}{suffix}{f'.{number}' if number else ''}"
        if not path.with_name(name).exists():
            return path.with_name(name)
        number += 1


def existing_parent(path: Path) -> Path:
    """The path itself, or the nearest above it that exists."""
    path = path.absolute()
    return next(part for part in (path, *path.parents) if part.exists())


def sqlite_url(path: Path) -> str:
    """SQLAlchemy's URL of a database file, whatever characters are in its path (%, ?, #, braces)."""
    from sqlalchemy import make_url  # a second to import, and only a search has a database

    name = f"file:{quote(str(path.resolve()))}"
    url = f"sqlite:///{name}?uri=true"
    # Versions of SQLAlchemy differ in whether they decode the name before SQLite does.
    return url if make_url(url).database == name else f"sqlite:///{quote(name)}?uri=true"


def new_run_folder(name: str, root: str | Path = "runs") -> Path:
    """``runs/<name>-<date>-<time>``, made unique where two runs start in one second."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(root) / stem
    for number in range(2, 1000):
        if not folder.exists():
            return folder
        folder = Path(root) / f"{stem}-{number}"
    raise UsageError(f"{root} holds a thousand runs of this second")
