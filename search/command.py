"""How a person is told what to run next: a line that can be pasted into a shell, whatever characters are in its paths."""

import shlex
import sys
from pathlib import Path

SCRIPT = "run_search.py"


def command(*words: object) -> str:
    """The command line with these words, quoted where they need it."""
    return shlex.join([*_program(), *map(str, words)])


def program() -> str:
    """How the command line is called here: ``attune``, or ``python run_search.py`` in a checkout without it."""
    return shlex.join(_program())


def _program() -> list[str]:
    installed = Path(sys.argv[0]).stem == "attune" or not Path(SCRIPT).exists()
    return ["attune"] if installed else ["python", SCRIPT]
