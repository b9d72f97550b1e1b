"""How benchmarks write what they found into their pages in docs/benchmarks/."""

import argparse
from pathlib import Path

import numpy as np

PAGES = Path(__file__).parent.parent / "docs" / "benchmarks"


def interval(values: np.ndarray) -> str:
    """Mean and its 95 % bootstrap interval over seeds."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"


def add_option(parser: argparse.ArgumentParser, page: str) -> None:
    """``--markdown`` writes what was measured between the marks of ``page``, ``--markdown FILE`` between those of a file."""
    parser.add_argument(
        "--markdown",
        nargs="?",
        type=Path,
        const=PAGES / page,
        metavar="FILE",
        help=f"write what was measured between the marks of a page, by default docs/benchmarks/{page}",
    )


def read(path: Path, mark: str) -> str:
    """What stands between the marks of a file."""
    return _parts(path, mark)[1]


def write(path: Path, mark: str, text: str) -> None:
    """Put a text between the marks of a file."""
    before, _, after = _parts(path, mark)
    path.write_text(before + text + after)


def _parts(path: Path, mark: str) -> tuple[str, str, str]:
    """What stands before, between and behind the marks, which belong to the outer parts."""
    opening, end = f"<!-- {mark} -->\n", "<!-- end -->\n"
    before, found, rest = path.read_text().partition(opening)
    text, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path} has no mark <!-- {mark} --> with <!-- end --> behind it")
    return before + opening, text, end + after
