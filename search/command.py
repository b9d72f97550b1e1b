"""How a person is told what to run next: a line that can be pasted into a shell, whatever characters are in its paths."""

import shlex


def command(*words: object) -> str:
    """The command line with these words, quoted where they need it."""
    return shlex.join(["python", "run_search.py", *map(str, words)])
