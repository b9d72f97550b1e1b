"""What leaves a run for others' eyes (reports, cards, exports, messages): without secrets and local paths."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"
_WORDS = r"token|secret|passw|pwd|credential|(?:api|access|account|private)[_-]?key|signature|\bsig\b|\bkey\b"
_SECRET_NAME = rf"[\w.-]*(?:{_WORDS})[\w.-]*"
_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@'\"]+(?=@)"), HIDDEN),  # user:password@ of a URL
    (re.compile(rf"([?&;]{_SECRET_NAME}=)[^&;\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), HIDDEN),
    (re.compile(r"\b(?:hf|ghp|gho|ghs|github_pat|glpat|sk|xox[abp])[_-][A-Za-z0-9_-]{16,}\b"), HIDDEN),
)
_NAMES_SECRET = re.compile(_SECRET_NAME, re.IGNORECASE)
_LOCAL = re.compile(r"((?:[a-z]{2,}:)?)(?:file:/*/|~|\.{1,2}/|/|[A-Za-z]:[\\/]).*")


def masked(value: Any) -> Any:
    """The same with its secrets hidden: passwords in URLs, tokens in queries, keys of clouds, and values called so."""
    if isinstance(value, str):
        for pattern, instead in _SECRETS:
            value = pattern.sub(instead, value)
        return value
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
    return isinstance(key, str) and isinstance(value, str) and bool(_NAMES_SECRET.fullmatch(key))
