"""Keywords that have a new name: the old one still works for a while, and says so."""

import warnings
from typing import TypeVar

T = TypeVar("T")


def renamed(old: str, given: T | None, new: str, value: T) -> T:
    """What a keyword comes to: ``value``, or what was ``given`` by its old name, with a DeprecationWarning to the caller."""
    if given is None:
        return value
    warnings.warn(f"{old} is now called {new}; the old name will go", DeprecationWarning, stacklevel=3)
    return given
