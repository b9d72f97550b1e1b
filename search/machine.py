"""Where a run is to take place, without Ray: this machine and its share for us, or the address of a cluster."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.config import Config


def address_of(config: Config) -> str | None:
    """The cluster to join; None for this machine alone."""
    return config.ray.address or os.environ.get("RAY_ADDRESS") or None


def usable_cpus() -> int:
    """The CPUs that this process may use: its affinity (taskset, Slurm) and its control group (containers) may be fewer."""
    limits = [float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)]
    limits += _cgroup_cpus(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, math.floor(min(limits) + 1e-9))


_WORK = "import os, numpy; a = numpy.ones((256, 256), 'float32')\nwhile os.getppid() == {}: a @ a"


@contextmanager
def at_work(processes: int) -> Iterator[None]:
    """So many other processes multiply matrices inside, one thread each.

    What is timed inside is as slow as beside other trials, with which a core shares its units, caches and clock.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-c", _WORK.format(os.getpid())]
    others = [subprocess.Popen(command, env={**os.environ, **threads}) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _cgroup_cpus(membership: Path, root: Path) -> list[float]:
    """What the control group of this process and those above it allow, in CPUs (versions 1 and 2)."""
    found = []
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    for _, controllers, path in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        here = top / path.lstrip("/")
        for folder in [here, *here.parents]:
            if folder.is_relative_to(top):
                found += _quota(folder)
    return found


def _quota(folder: Path) -> list[float]:
    """The limit of one control group; empty where it has none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return [int(quota) / int(period)] if quota != "max" and int(quota) > 0 else []
    except (OSError, ValueError):  # not there: not limited
        return []
