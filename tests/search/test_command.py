"""What a person is told to run next can be pasted."""

import shlex
from pathlib import Path

from search.command import command


def test_a_path_of_any_characters_comes_out_of_a_shell_as_it_was() -> None:
    for name in ("runs/plain", "runs/my search", "runs/it's $HOME", 'runs/"a"; b', "runs/#1&2"):
        line = command("analyze", Path(name), "--confirm", 3)
        assert shlex.split(line) == ["python", "run_search.py", "analyze", name, "--confirm", "3"]
    assert command("export", "runs/a", "--max", "flops=1.02x") == "python run_search.py export runs/a --max flops=1.02x"
