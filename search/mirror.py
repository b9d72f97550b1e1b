"""Copies of a run directory on a shared folder or an object store, so that a run outlives the machine of its driver."""

from __future__ import annotations

import logging
import stat
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec

from search.public import masked
from spaces.errors import UsageError, shortened

log = logging.getLogger(__name__)

SHARE = 0.05  # of the time may be spent on copying
LEFT_OUT = ("ray/", ".")  # Ray's own files are of no use to a resumed run


class Mirror:
    """Keeps ``url/NAME OF THE FOLDER`` like a run directory; any URL that fsspec opens, or a path."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, f"{url.rstrip('/')}/{folder.name}"
        self._files, self._root = open_url(self.url)
        self._sent: dict[str, tuple[int, int]] = {}
        self._next = 0.0

    def push(self, *, now: bool = False) -> None:
        """Copy what changed since the last time, unless that was a moment ago; ``now`` copies in any case.

        A storage that does not answer in between is said and tried again; with ``now`` its error is raised.
        """
        if not now and time.monotonic() < self._next:
            return
        start = time.monotonic()
        try:
            self._copy()
        except OSError as error:
            if now:
                raise
            log.warning("%s cannot be written, trying again later: %s", masked(self.url), masked(str(error)))
        took = time.monotonic() - start
        self._next = time.monotonic() + max(1.0, took / SHARE)

    def _copy(self) -> None:
        here: dict[str, tuple[int, int]] = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not name.startswith(LEFT_OUT):
                here[name] = (path.stat().st_mtime_ns, path.stat().st_size)
        for name, stamp in here.items():
            if self._sent.get(name) != stamp:
                target = f"{self._root}/{name}"
                self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(self.folder / name), target)
                self._sent[name] = stamp
        for name in set(self._sent) - set(here):
            self._files.rm_file(f"{self._root}/{name}")
            del self._sent[name]


def fetch(url: str, folder: Path) -> None:
    """Copy a run directory from its mirror.

    Raises UsageError where there is none, where the folder is taken, and for a file whose name would lie outside of the folder
    or that is a link: what comes from elsewhere may have been made by anyone. Nothing is written then.
    """
    files, root = open_url(url)
    if not files.exists(f"{root}/config.yaml"):
        raise UsageError(f"{shortened(masked(url), 200)} holds no run")
    if folder.name in ("", ".", "..") or folder.is_symlink():
        raise UsageError(f"{shortened(masked(url), 200)} does not end in the name of a run")
    if folder.exists():
        raise UsageError(f"{folder} is there already; resume it, or move it away to fetch {masked(url)}")
    wanted = [
        (source, _inside(source, root, url))
        for source, about in files.find(root, detail=True).items()
        if not _refuse_link(files, source, root, about, url)
    ]
    for source, name in wanted:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{shortened(masked(url), 200)} holds {shortened(name)}, which lies outside of the run")
        files.get_file(source, str(target))


def _inside(source: str, root: str, url: str) -> str:
    """The name of a file within its run; raises UsageError for one that leads out of it."""
    name = source.removeprefix(root).removeprefix("/") if source.startswith(f"{root}/") else source
    parts = name.replace("\\", "/").split("/")
    if not source.startswith(f"{root}/") or any(
        part in ("", ".", "..") or "\0" in part or ":" in part for part in parts
    ):
        raise UsageError(f"{shortened(masked(url), 200)} holds {shortened(name)}, which lies outside of the run")
    return name


def _refuse_link(files: fsspec.AbstractFileSystem, source: str, root: str, about: Mapping[str, Any], url: str) -> bool:
    """Raise UsageError for a file that is a link, or that is neither file nor link (a device, a pipe); else False."""
    linked = bool(about.get("islink")) or about.get("type") not in ("file", None)
    archive = getattr(files, "tar", None)
    mode = about.get("external_attr", 0) >> 16 if isinstance(about.get("external_attr"), int) else about.get("mode", 0)
    if isinstance(mode, int) and stat.S_ISLNK(mode):
        linked = True
    if isinstance(archive, tarfile.TarFile):
        linked = linked or not archive.getmember(source).isreg()
    if linked:
        raise UsageError(
            f"{shortened(masked(url), 200)} holds {shortened(source.removeprefix(root))}, which is a link; valid: files"
        )
    return False


def open_url(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL and the path in it; raises UsageError for one that fsspec cannot open."""
    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UsageError(f"ray.storage {shortened(masked(url), 200)}: {masked(' '.join(str(error).split()))}") from None
    return files, root.rstrip("/")
