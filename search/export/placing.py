"""Putting an export into its folder whole, and never over a file that is not its own.

The files are written into a folder beside their places first. A list of them with their hashes stays in the export: a file of
it whose content is still that one may be replaced by the next export.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from spaces.errors import UsageError

MANIFEST = ".attune-export.json"


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """An empty folder inside of ``folder``, gone at the end; so is ``folder`` where it was made for this and stayed empty.

    Raises UsageError where the folder cannot be made or written.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        inside = Path(tempfile.mkdtemp(prefix=".attune-", dir=folder))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--to {str(folder)!r} cannot be written: {getattr(error, 'strerror', None) or error}"
        ) from None
    try:
        yield inside
    finally:
        shutil.rmtree(inside, ignore_errors=True)
        if new and not any(folder.iterdir()):
            folder.rmdir()


def place(files: Sequence[Path], inside: Path, folder: Path, *, force: bool) -> list[Path]:
    """Move files from the staging folder to their places; returns these.

    Raises UsageError, before anything is moved, for a place that holds what no export wrote or what was changed since.
    """
    known = _known(folder)
    names = list(dict.fromkeys(path.relative_to(inside).as_posix() for path in files))
    for name in names:
        target = folder / name
        if force and not target.is_dir():
            continue
        if target.is_symlink() or (target.exists() and (target.is_dir() or known.get(name) != _hash(target))):
            why = "was changed after it was exported" if name in known else "was not written by an export"
            raise UsageError(f"{target} {why}; choose another folder, or overwrite it with --force")
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():  # replaced, never followed
            target.unlink()
        (inside / name).replace(target)
        known[name] = _hash(target)
    (inside / MANIFEST).write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
    (inside / MANIFEST).replace(folder / MANIFEST)
    return [folder / name for name in names]


def _known(folder: Path) -> dict[str, str]:
    """What earlier exports wrote into a folder: name -> hash; nothing where the list is missing or damaged."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(one) for name, one in found.items()} if isinstance(found, dict) else {}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
