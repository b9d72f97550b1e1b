"""What Attune finds on this machine, a fact a line, as a report of a mistake needs it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attune
from spaces.extras import EXTRAS

ROOM = 2 * 1024**3  # bytes that a run of some size needs


@dataclass(frozen=True)
class Finding:
    """One fact: what was looked at, what was found, and whether a search can work with it."""

    what: str
    found: str
    fine: bool = True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Everything, one after the other; Ray is started once, which takes seconds."""
    found = [
        Finding("python", f"{sys.executable}, {os.cpu_count()} CPUs"),
        Finding("attune", str(Path(attune.__file__).parent)),
        *_devices(),
        *map(_extra, EXTRAS),
    ]
    return [*found, *_folders(), _tried("ray", _ray)]


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look())
    except Exception as error:  # whatever is wrong with a machine is what is asked for
        return Finding(what, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", False)


def _devices() -> Iterator[Finding]:
    def torch_works() -> str:
        import torch

        total = float(torch.ones(4, 4).mm(torch.ones(4, 4)).sum())
        if total != 64:
            raise RuntimeError(f"a product of ones came to {total}, not 64")
        return f"torch {torch.__version__}, {torch.get_num_threads()} threads"

    def gpus() -> str:
        import torch

        count = torch.cuda.device_count()
        for number in range(count):
            torch.ones(1, device=f"cuda:{number}").add_(1).cpu()
        return ", ".join(torch.cuda.get_device_name(number) for number in range(count)) or "none"

    yield _tried("torch", torch_works)
    yield _tried("gpus", gpus)


def _extra(extra: str) -> Finding:
    lacking = [package for package in EXTRAS[extra] if find_spec(package) is None]
    return Finding(f"[{extra}]", f"not installed: {', '.join(lacking)}" if lacking else "installed")


def _folders() -> Iterator[Finding]:
    from spaces.catalogue import cache_folder

    for what, folder in (("here", Path.cwd()), ("cache", cache_folder()), ("temporary", Path(tempfile.gettempdir()))):
        yield _tried(what, lambda folder=folder: _writable(folder))  # type: ignore[misc]


def _writable(folder: Path) -> str:
    """The folder and its room; raises OSError where nothing can be written there, or little."""
    there = next(part for part in (folder, *folder.parents) if part.exists())
    with tempfile.NamedTemporaryFile(dir=there) as file:
        file.write(b"1")
    free = shutil.disk_usage(there).free
    if free < ROOM:
        raise OSError(f"{folder} has {free / 1024**3:.1f} GiB left, a search may want {ROOM / 1024**3:.0f}")
    return f"{folder}, {free / 1024**3:.0f} GiB free"


def _pid() -> int:
    return os.getpid()


def _ray() -> str:
    """Starts Ray as a search does; raises what a search would."""
    from search.cluster import ray_session
    from search.config import validate

    with ray_session(validate({"data": "digits", "space": {"backbone": "attune_tiny"}}, "doctor")):
        import ray

        resources = ray.cluster_resources()
        answer = ray.get(ray.remote(_pid).remote())
    return f"ray {ray.__version__} starts, {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs, worker {answer}"
