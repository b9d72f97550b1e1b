"""Where Ray's session lies and what it may use; clusters that do not answer are refused in one line and soon."""

import errno
import os
import socket
import time
from pathlib import Path

import pytest

from search.cluster import check_address, session_folder
from search.machine import _cgroup_cpus, usable_cpus
from search.runner import out_of_memory
from search.trainable import full_disk
from spaces.errors import UsageError


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:8265", "takes jobs and no drivers"),
        ("nonsense", "HOST:PORT"),
        ("127.0.0.1:99999", "nothing answers"),
        ("no-such-host.invalid:6379", "nothing answers"),
    ],
)
def test_an_address_that_is_no_cluster_is_one_line(address: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        check_address(address)
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
def test_what_answers_and_is_no_cluster_is_one_line_within_15_seconds() -> None:
    start = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(UsageError, match=r"nothing answers at 127\.0\.0\.1") as refusal:
            check_address(f"127.0.0.1:{silent.getsockname()[1]}")
        assert "\n" not in str(refusal.value)
    assert time.monotonic() - start < 15


def test_the_cpus_are_those_that_the_process_may_use(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    for folder, limit in [("a", "max 100000"), ("a/b", "350000 100000"), ("a/b/c", "max 100000")]:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "cpu.max").write_text(limit)
    (tmp_path / "membership").write_text("0::/a/b/c\n")
    assert _cgroup_cpus(tmp_path / "membership", tmp_path) == [3.5]
    (tmp_path / "cpu,cpuacct" / "job").mkdir(parents=True)
    (tmp_path / "cpu,cpuacct" / "job" / "cpu.cfs_quota_us").write_text("200000")
    (tmp_path / "cpu,cpuacct" / "job" / "cpu.cfs_period_us").write_text("100000")
    (tmp_path / "membership").write_text("4:memory:/job\n3:cpu,cpuacct:/job\n")
    assert _cgroup_cpus(tmp_path / "membership", tmp_path) == [2.0]


def test_sessions_are_short_go_at_the_end_and_those_of_killed_runs_go_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with session_folder() as folder:
        assert len(f"{folder}/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1") <= 107
        dead = folder.with_name("attune-deadbeef")
        dead.mkdir(exist_ok=True)
        (dead / ".lock").touch()
        with session_folder() as other:
            assert folder.exists()
            assert not dead.exists()
    assert not folder.exists()
    assert not other.exists()


def test_a_full_disk_is_known_by_whatever_it_comes_as(tmp_path: Path) -> None:
    hidden = RuntimeError("could not save")
    hidden.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "is full" in (full_disk(hidden, []) or "")
    assert "is full" in (full_disk(RuntimeError("I/O error: No space left on device (os error 28)"), []) or "")
    assert full_disk(RuntimeError("failed writing file"), [tmp_path]) is None  # there is room
    assert full_disk(FileNotFoundError("data.npz"), [tmp_path]) is None


def test_an_end_by_the_memory_monitor_is_known() -> None:
    assert out_of_memory("The actor died because its node was running low on memory: killed by the memory monitor")
    assert not out_of_memory("The actor died because its worker process has died: SIGKILL")
