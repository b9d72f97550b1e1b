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


@pytest.mark.slow
def test_sigterm_is_ctrl_c_twice_is_at_once_and_the_death_of_the_raylet_is_one_line(tmp_path: Path) -> None:
    raw = {"data": "digits", "space": {"backbone": "attune_tiny", "attentions": ["none", "se"]}}
    raw |= {"training": {"preset": "short", "epochs": 100000}, "search": {"sampler": "random", "trials": 4}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, str(ROOT / "run_search.py"), "search", str(tmp_path / "config.yaml"), "--run"]

    def started(name: str, *, until: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([*command, str(tmp_path / name)], cwd=ROOT, text=True, stderr=subprocess.PIPE)
        for _ in range(2400):
            if any(tmp_path.glob(f"{name}/{until}")):
                return process
            time.sleep(0.1)
        raise AssertionError("not in four minutes")

    process = started("first", until="config.yaml")
    process.send_signal(signal.SIGINT)  # Ray is about to start
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "--resume" in err or "interrupted" in err

    process = started("second", until="checkpoints/*.pt")
    raylet = next(one for one in psutil.Process(process.pid).children() if one.name() == "raylet")
    raylet.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert (
        f"died; everything that was finished is kept; go on with python run_search.py search --resume {tmp_path}/second"
        in err
    )

    command[2:-1] = ["search", "--resume", str(tmp_path / "second"), "--set", "loggers=[]"]
    process = subprocess.Popen(command[:-1], cwd=ROOT, text=True, stderr=subprocess.PIPE)
    assert process.stderr is not None
    time.sleep(1)
    for line in process.stderr:
        if "trials at once" in line:
            break
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
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
