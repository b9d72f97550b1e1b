"""The command ``attune``, which is also ``python -m attune`` and ``run_search.py``."""

import atexit
import gc
import sys

from attune.shadows import ShadowedError, refuse


def main() -> int:
    """Run the command line; the exit code is 0 done, 2 the user's mistake, 1 the run failed, 130 interrupted."""
    try:
        refuse()
    except ShadowedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from attune.cli.main import main as run  # after the check, since it imports what may be shadowed

    return run()


def command() -> int:
    """As ``main``, in a process of its own, which spends no time on looking through what torch and timm make for cycles.

    That took a fifth of the seconds of their import, and two more seconds at the end.
    """
    gc.set_threshold(50_000, 50, 50)
    atexit.register(gc.freeze)
    return main()


if __name__ == "__main__":
    sys.exit(command())
