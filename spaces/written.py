"""Placements as canonical texts hold them, read without what they build: whoever only reads a run does without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from spaces.attention.genes import GENES, Value

SITES = ("slot", "block", "stage")  # of a backbone's stages


@dataclass(frozen=True)
class Written:
    """One placement of a canonical text: its type, the genes that it spells out, and its site; ``str`` gives the text."""

    text: str
    type: str
    values: tuple[tuple[str, Value], ...]
    site: str | None

    @property
    def genes(self) -> dict[str, Any]:
        return dict(self.values)

    @property
    def is_none(self) -> bool:
        return self.type == "none"

    def __str__(self) -> str:
        return self.text


NOTHING = Written("none", "none", (), None)


def placements_of(text: str) -> tuple[Written, ...]:
    """The placements of a canonical text, as the store holds it."""
    return tuple(_read(word) for word in text.rpartition(":")[2].split(","))


def all_placements(texts: Iterable[str]) -> list[tuple[Written, ...]]:
    """The placements of canonical texts, as many of each: texts leave out what a head's last stages do not get."""
    found = [placements_of(str(text)) for text in texts]
    most = max(map(len, found), default=0)
    return [(*one, *[NOTHING] * (most - len(one))) for one in found]


def is_plain(text: str) -> bool:
    """Whether a canonical text is that of a backbone without attention."""
    return all(placement.is_none for placement in placements_of(text))


def key_of(text: str) -> str:
    """``Architecture.key`` of a canonical text: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _read(word: str) -> Written:
    body, _, site = word.partition("@")
    type_, *words = body.split("-")
    values = [(gene.name, value) for one in words for gene in GENES if (value := gene.read(one)) is not None]
    return Written(word, type_, tuple(values), site or None)
