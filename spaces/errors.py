"""The one exception for mistakes of the user: the command line prints its single line and exits with code 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class UsageError(ValueError):
    """What was asked for is not possible; the message names the offending value and the valid ones."""


def unknown(what: str, value: object, valid: Iterable[str]) -> UsageError:
    """The error for a name that is not in a registry: near matches first, then every valid name."""
    names = list(valid)
    near = get_close_matches(str(value).rpartition(".")[2], names, n=1)  # of a key the last part
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return UsageError(f"unknown {what} {value!r}{hint}; valid: {', '.join(names)}")
