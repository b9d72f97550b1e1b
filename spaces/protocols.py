"""Whether a thing offers what a protocol asks for, on every version of Python, and also behind one that passes calls on."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from typing_extensions import TypeIs  # comes with torch and pydantic

P = TypeVar("P")


def offers(thing: Any, protocol: type[P]) -> TypeIs[P]:
    """Whether a thing has every method and attribute of a protocol.

    ``isinstance`` asks the class from Python 3.12 on, so it does not see what ``__getattr__`` gives.
    """
    return all(hasattr(thing, name) for name in _members(protocol))


def _members(protocol: type) -> set[str]:
    homes = [home for home in protocol.__mro__ if home not in (object, Protocol, Generic)]
    named = {name for home in homes for name in (*vars(home), *getattr(home, "__annotations__", {}))}
    return {name for name in named if not name.startswith("_")}
