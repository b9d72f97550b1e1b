"""How runs end with real workers: Ctrl-C, SIGTERM, and Ray's own death."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from search.store import read_journal

ROOT = Path(__file__).parents[2]


class Searches:
    """Searches that would take days, in a folder; each is started in a process of its own."""

    def __init__(self, folder: Path) -> None:
        raw = {"data": "digits", "space": {"backbone": "attune_tiny", "attentions": ["none", "se"]}}
        raw |= {"training": {"preset": "short", "epochs": 100000}, "search": {"sampler": "random", "trials": 4}}
        (folder / "config.yaml").write_text(yaml.safe_dump(raw))
        self.folder = folder

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "run_search.py"), "search", *words]
        return subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE)

    def started(self, name: str, *, until: str) -> subprocess.Popen[str]:
        """A new one in the folder ``name``, in which there is a file ``until`` by now."""
        process = self.start(str(self.folder / "config.yaml"), "--run", str(self.folder / name))
        for _ in range(2400):
            if any(self.folder.glob(f"{name}/{until}")):
                return process
            time.sleep(0.1)
        raise AssertionError("not in four minutes")


@pytest.fixture
def searches(tmp_path: Path) -> Searches:
    return Searches(tmp_path)


@pytest.mark.slow
def test_sigterm_is_ctrl_c_and_twice_is_at_once(searches: Searches, tmp_path: Path) -> None:
    process = searches.started("first", until="config.yaml")
    process.send_signal(signal.SIGINT)  # Ray is about to start
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "--resume" in err or "interrupted" in err

    process = searches.started("second", until="checkpoints/*.pt")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("interrupted"):
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped\n" in err
    assert f"--resume {tmp_path}/second" in err
    assert "Traceback" not in err
    assert not read_journal(tmp_path / "second")  # it stopped in the middle of evaluations


@pytest.mark.matrix
@pytest.mark.slow
def test_the_death_of_the_raylet_is_one_line_and_the_search_goes_on(searches: Searches, tmp_path: Path) -> None:
    process = searches.started("run", until="checkpoints/*.pt")
    raylet = next(one for one in psutil.Process(process.pid).children() if one.name() == "raylet")
    raylet.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert (
        f"died; everything that was finished is kept; go on with python run_search.py search --resume {tmp_path}/run"
        in err
    )

    process = searches.start("--resume", str(tmp_path / "run"), "--set", "loggers=[]")
    assert process.stderr is not None
    assert any("trials at once" in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
