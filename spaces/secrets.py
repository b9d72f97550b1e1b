"""How secrets look in texts that others may see."""

from __future__ import annotations

import re

HIDDEN = "***"
_SECRET_WORDS = r"token|secret|passw|pwd|credential|(?:api|access|account|private)[_-]?key|signature|\bsig\b|\bkey\b"
_SECRET_NAME = rf"[\w.-]*(?:{_SECRET_WORDS})[\w.-]*"
_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@'\"]+(?=@)"), HIDDEN),  # user:password@ of a URL
    (re.compile(rf"([?&;]{_SECRET_NAME}=)[^&;\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), HIDDEN),
    (re.compile(r"\b(?:hf|ghp|gho|ghs|github_pat|glpat|sk|xox[abp])[_-][A-Za-z0-9_-]{16,}\b"), HIDDEN),
)
NAMES_SECRET = re.compile(_SECRET_NAME, re.IGNORECASE)


def without_secrets(text: str) -> str:
    """The same with its secrets hidden: passwords in URLs, tokens in queries, keys of clouds."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
