"""What leaves a run for others' eyes (reports, cards, exports, messages): without secrets and local paths."""

from __future__ import annotations

import re
from typing import Any

from spaces.secrets import HIDDEN, NAMES_SECRET, without_secrets

_LOCAL = re.compile(r"((?:[a-z]{2,}:)?)(?:file:/*/|~|\.{1,2}/|/|[A-Za-z]:[\\/]).*")


def masked(value: Any) -> Any:
    """The same with its secrets hidden: passwords in URLs, tokens in queries, keys of clouds, and values called so."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: HIDDEN if _is_secret(key, one) else masked(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(masked, value))
    return value


def portable(value: Any) -> Any:
    """``masked``, and of every local path its last part only: ``folder:/home/me/birds`` is ``folder:birds``."""
    if isinstance(value, str):
        found = _LOCAL.fullmatch(value)
        last = re.split(r"[\\/]", value.rstrip("\\/"))[-1] if found else ""
        return masked(found[1] + last.removeprefix(found[1]) if found else value)
    if isinstance(value, dict):
        return {key: HIDDEN if _is_secret(key, one) else portable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(portable, value))
    return value


def _is_secret(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, str) and bool(NAMES_SECRET.fullmatch(key))
