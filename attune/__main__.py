"""The command ``attune``, which is also ``python -m attune`` and ``run_search.py``."""

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


if __name__ == "__main__":
    sys.exit(main())
