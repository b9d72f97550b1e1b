"""The Ray session of a run: this machine, or a cluster whose workers get this code and the data from the driver."""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout
from ray import _raylet
from ray._private import ray_constants, services, worker
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.command import command
from search.config import Config
from search.machine import address_of, usable_cpus
from spaces.errors import UsageError
from spaces.plugins import source_of

# Ray asks for tokens since 2.52; one before that has neither of these.
_TOKENS = getattr(_raylet, "AuthenticationTokenLoader", None)
_WRONG_TOKEN: tuple[type[Exception], ...] = (getattr(ray.exceptions, "AuthenticationError", ConnectionError),)
_NOT_STARTED: tuple[type[Exception], ...] = (*_WRONG_TOKEN, ConnectionError, RuntimeError)

PACKAGES = ("attune", "spaces", "evaluators", "search")


def on_cluster(config: Config) -> bool:
    """Whether the workers may be on other machines; Ray's own variable counts as `ray.address`."""
    return address_of(config) is not None


@contextmanager
def ray_session(config: Config, folder: Path | None = None) -> Iterator[None]:
    """A Ray session: the given cluster, or one on this machine that ends with the run in ``folder``.

    Workers on other machines need this project's requirements installed; its code is sent to them, and the user's own that
    the configuration names. Raises UsageError in one line for a cluster that does not answer, or not to us.
    """
    if ray.is_initialized():
        yield
        return
    address, root = address_of(config), Path(__file__).parents[1]
    with ExitStack() as stack:
        installed = str(root) in sysconfig.get_paths().values()  # where every process looks, after the standard library
        own = [] if installed else [root]
        stack.enter_context(_importable([*own, *(source_of(module).parent for module in config.brought)]))
        if address is None:
            stack.enter_context(_own_token())
            options: dict[str, Any] = {
                "num_cpus": usable_cpus(),
                "_temp_dir": str(stack.enter_context(session_folder())),
            }
        else:
            check_address(address)
            sources = [root / package for package in PACKAGES] + [source_of(module) for module in config.brought]
            options = {"runtime_env": {"py_modules": list(dict.fromkeys(map(str, sources)))}}
        try:
            ray.init(
                # Without an address Ray would join, or wait for, whatever cluster was last started on this machine.
                address=address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                **options,
            )
        except _NOT_STARTED as error:
            raise _refused(address, error) from None
        stack.callback(ray.shutdown)
        if address is None:
            stack.enter_context(_watching(folder))
        yield


def _refused(address: str | None, error: Exception) -> Exception:
    """What Ray says over many lines, in one."""
    words = " ".join(str(error).split())
    if (_TOKENS and isinstance(error, _WRONG_TOKEN)) or "token" in words.lower():
        return UsageError(
            f"ray.address: the cluster at {address!r} wants another token than this process has; {_TOKEN}"
        )
    if address is not None:
        return UsageError(f"ray.address: no Ray cluster at {address!r}: {words}")
    return RuntimeError(f"Ray does not start on this machine: {words}")


_TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the head's ~/.ray/auth_token, see docs/cluster.md"


def check_address(address: str, seconds: float = 5) -> None:
    """Raise UsageError where nothing answers at the address of a cluster, or something that is none.

    Ray itself would try for minutes.
    """
    if address.startswith(("http://", "https://")):
        raise UsageError(
            f"ray.address {address!r} is that of Ray's dashboard, which takes jobs and no drivers; valid: auto, or HOST:PORT "
            "of the cluster's head, as in HOST:6379"
        )
    if address == "local":
        return
    found = (ray_address() or "") if address == "auto" else address.removeprefix("ray://")
    host, _, port = found.rpartition(":")
    if not host or not port.isdecimal():
        what = (
            "no cluster was started on this machine"
            if address == "auto"
            else "valid: auto, or HOST:PORT as in HOST:6379"
        )
        raise UsageError(f"ray.address {address!r}: {what}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
            pass
        if not address.startswith("ray://"):
            _ask_head(found, seconds)
    except (OSError, OverflowError) as error:
        raise UsageError(f"ray.address {address!r}: nothing answers at {found} ({error})") from None


def ray_address() -> str | None:
    """The cluster that was started on this machine, as `auto` finds it."""
    try:
        return (Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster").read_text().strip() or None
    except OSError:
        return next(iter(services.find_gcs_addresses()), None)


def _ask_head(address: str, seconds: float) -> None:
    """Ask in a process of its own, since Ray's client cannot be told to give up; raises UsageError or OSError."""
    ask = "GcsClient(address=sys.argv[1]).internal_kv_keys(b'session_name', b'session')"
    code = f"import sys; from ray._raylet import GcsClient; {ask}"
    try:
        command = [sys.executable, "-c", code, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * seconds, check=False)
    except subprocess.TimeoutExpired:
        raise OSError("it is no Ray cluster of this version") from None
    if done.returncode:
        said = done.stdout + done.stderr
        if "token" in said.lower() or "authenticat" in said.lower():
            raise UsageError(
                f"ray.address: the cluster at {address!r} wants another token than this process has; {_TOKEN}"
            )
        raise OSError((said.strip().splitlines() or ["it is no Ray cluster"])[-1])


@contextmanager
def _own_token() -> Iterator[None]:
    """A token for a session of this machine alone: else Ray writes one into the home, which then shuts out other homes."""
    if _TOKENS is None or any(
        name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    ):
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        yield
    finally:
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
            os.environ.pop(name, None)
        _TOKENS.instance().reset_cache()
        _raylet.Config.initialize("")  # type: ignore[attr-defined]


# What Ray puts behind its folder: /session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1
_BEHIND = 70
_SOCKET = 107  # bytes that the path of a socket may have


@contextmanager
def session_folder() -> Iterator[Path]:
    """A folder for Ray's session that is short enough for its sockets and goes when the run is over.

    Those that killed runs have left go too: a lock says whether a run still lives.
    """
    places = [os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    for place in filter(None, places):
        if len(os.fsencode(place)) + len("/attune-12345678") + _BEHIND <= _SOCKET and os.access(
            place, os.W_OK | os.X_OK
        ):
            break
    else:
        raise UsageError(
            f"no folder for Ray's sockets: {', '.join(filter(None, places))} are not writable or longer than "
            f"{_SOCKET - _BEHIND - 16} bytes; set RAY_TMPDIR to a shorter one"
        )
    for left in Path(place).glob("attune-????????"):
        _remove_dead(left)
    folder = Path(tempfile.mkdtemp(prefix="attune-", dir=place))
    with FileLock(folder / ".lock"):
        yield folder
    shutil.rmtree(
        folder, ignore_errors=True
    )  # Ray's last processes may still write their logs; the next run takes the rest


def _remove_dead(folder: Path) -> None:
    """Remove the session of a run that was killed; another user's, and one that lives, stay."""
    try:
        if (folder / ".lock").exists() and folder.stat().st_uid == os.getuid():
            with FileLock(folder / ".lock", timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
    except (OSError, Timeout):  # it lives, or is gone
        return


@contextmanager
def _watching(folder: Path | None) -> Iterator[None]:
    """Ends this process with one line where Ray's own processes die: without them it would wait, or vanish, without a word."""
    processes = {
        name: one.process
        for name in (ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_GCS_SERVER)
        for one in worker._global_node.all_processes.get(name, [])
    }
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            dead = next((name for name, process in processes.items() if process.poll() is not None), None)
            if dead and not over.is_set():
                way = f"; go on with {command('search', '--resume', folder)}" if folder else ""
                os.write(2, f"failed: Ray's {dead} died; everything that was finished is kept{way}\n".encode())
                os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _importable(folders: Sequence[Path]) -> Iterator[None]:
    """Let the processes that are started inside import from these folders, wherever the driver was started."""
    before = os.environ.get("PYTHONPATH")
    paths = [*map(str, folders), *([before] if before else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def trial_resources(config: Config) -> tuple[dict[str, float], int]:
    """What one trial occupies, and how many run at once; raises UsageError where not even one fits.

    On a cluster `resources.concurrency` may be more than fits now: Ray's autoscaler, or nodes that join, make room.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": config.resources.cpus, "GPU": _gpu_share(config, nodes)}
    fits = sum(_fitting(node, wanted) for node in nodes)
    asked = config.resources.concurrency
    concurrency = (asked or fits) if on_cluster(config) else min(fits, asked or fits)
    if concurrency < 1:
        have = {name: sum(node.get(name, 0) for node in nodes) for name in wanted}
        raise UsageError(
            f"one trial wants {wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs on one machine, but there are "
            f"{have['CPU']:g} CPUs and {have['GPU']:g} GPUs on {len(nodes)}"
        )
    return {"cpu": wanted["CPU"], **({"gpu": wanted["GPU"]} if wanted["GPU"] else {})}, concurrency


def _gpu_share(config: Config, nodes: list[dict[str, float]]) -> float:
    """The configured share of a GPU; without one, every CPU slot of the machines that have GPUs gets its part."""
    if config.resources.gpus is not None:
        return config.resources.gpus
    with_gpus = [node for node in nodes if node.get("GPU", 0)]
    slots = sum(node.get("CPU", 0) // config.resources.cpus for node in with_gpus)
    return min(1.0, sum(node["GPU"] for node in with_gpus) / max(1.0, slots)) if with_gpus else 0.0


def _fitting(node: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """How many trials fit on one machine."""
    return int(min(math.floor(node.get(name, 0) / share + 1e-9) for name, share in wanted.items() if share))


def actor_here(cls: type, **options: Any) -> Any:
    """An actor without a share of CPU on the driver's machine, which lives as long as the run does."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(cls).options(num_cpus=0, scheduling_strategy=here, **options).remote()
