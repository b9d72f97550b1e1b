"""Copies of a run directory on a shared folder or an object store, so that a run outlives the machine of its driver."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import fsspec

from spaces.errors import UsageError

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
            log.warning("%s cannot be written, trying again later: %s", self.url, error)
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
    """Copy a run directory from its mirror; raises UsageError where there is none, or where the folder is taken."""
    files, root = open_url(url)
    if not files.exists(f"{root}/config.yaml"):
        raise UsageError(f"{url!r} holds no run")
    if folder.exists():
        raise UsageError(f"{folder} is there already; resume it, or move it away to fetch {url}")
    for source in files.find(root):
        target = folder / source[len(root) :].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(source, str(target))


def open_url(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL and the path in it; raises UsageError for one that fsspec cannot open."""
    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UsageError(f"ray.storage {url!r}: {' '.join(str(error).split())}") from None
    return files, root.rstrip("/")
