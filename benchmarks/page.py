"""How benchmarks write what they found into the documentation."""

from pathlib import Path

import numpy as np


def interval(values: np.ndarray) -> str:
    """Mean and its 95 % bootstrap interval over seeds."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"


def write(path: Path, mark: str, text: str) -> None:
    """Put a text between the marks of a file."""
    before, opening, rest = path.read_text().partition(f"<!-- {mark} -->\n")
    if not opening:
        raise SystemExit(f"{path} has no mark <!-- {mark} -->")
    after = rest.partition("<!-- end -->\n")[2]
    path.write_text(before + opening + text + "<!-- end -->\n" + after)
