"""The one exception for mistakes of the user: the command line prints its single line and exits with code 2."""

from collections.abc import Iterable
from difflib import get_close_matches

from spaces.secrets import without_secrets

MOST, MOST_OF_A_WORD = 1900, 400  # characters of a message


class UsageError(ValueError):
    """What was asked for is not possible; the message names the offending value and the valid ones.

    It is one line of at most MOST characters, whatever is quoted in it.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(bounded(str(message)))


def bounded(message: str) -> str:
    """A message as one line of at most MOST characters: long words are cut first, so that what stands after them remains."""
    words = (cut(word, MOST_OF_A_WORD) for word in message.split())
    return cut(" ".join(words), MOST)


def cut(text: str, most: int) -> str:
    """A text as one line of at most about so many characters, its secrets hidden: half a password has no mark of one."""
    text = without_secrets(" ".join(text.split()))
    return text if len(text) <= most else f"{text[: most - 20]} ... {text[-14:]}"


def shortened(value: object, most: int = 80) -> str:
    """A value as Python writes it, for a message: quoted, control characters escaped, and cut."""
    try:
        return cut(repr(value), most)
    except (ValueError, RecursionError):  # an integer of thousands of digits has no text
        return f"a {type(value).__name__} that is too long to show"


def unknown(what: str, value: object, valid: Iterable[str]) -> UsageError:
    """The error for a name that is not in a registry: near matches first, then every valid name."""
    names = list(valid)
    wanted = value[-80:] if isinstance(value, str) else ""
    near = [*get_close_matches(wanted, names, n=1), *get_close_matches(wanted.rpartition(".")[2], names, n=1)]
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return UsageError(f"unknown {what} {shortened(value)}{hint}; valid: {', '.join(names) or 'none'}")
