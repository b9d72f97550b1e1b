"""Matrices that are too long for every change: `make test` runs a sample of each, `make test-matrix` the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def sampled(values: Iterable[Any], sample: Callable[[int, Any], bool]) -> list[Any]:
    """Parameters of a test; those that ``sample(number, value)`` does not take are marked ``matrix``."""
    return [
        value if sample(number, value) else pytest.param(*_listed(value), marks=pytest.mark.matrix)
        for number, value in enumerate(values)
    ]


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def one_in(count: int) -> Callable[[int, Any], bool]:
    """A sample of every so many."""
    return lambda number, value: number % count == 0


def no_one(number: int, value: Any) -> bool:
    """No sample: another test has one."""
    return False
