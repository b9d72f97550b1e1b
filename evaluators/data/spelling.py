"""Names of splits in their usual spellings, and entries that systems leave behind: read by all sources alike."""

from __future__ import annotations

import re
from collections.abc import Iterable

from spaces.errors import UsageError

SPLITS = ("train", "val", "test")
_SPELLINGS = {
    "train": "train|training",
    "val": "val|valid|validate|validation|dev|development",
    "test": "test|testing|eval|evaluation",
}  # as the Hugging Face hub reads them
# `Train`, `training_set`, `test images`, `01-val` ... ; letters alone decide
_PATTERNS = {split: re.compile(rf"({words})(set|sets|data|images|imgs|split)?") for split, words in _SPELLINGS.items()}
_SYSTEM = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found",
    "__pycache__", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot",
}  # fmt: skip


def split_of(name: str) -> str | None:
    """train, val or test, where a name stands for one of them; else None."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    return next((split for split, pattern in _PATTERNS.items() if pattern.fullmatch(letters)), None)


def split_of_file(stem: str) -> str | None:
    """The split that a file's name tells: its first word (`train-00000-of-00001`), or the only word that is one."""
    words = [split_of(word) for word in re.split(r"[-_. ]+", stem)]
    found = {word for word in words if word is not None}
    return words[0] or (found.pop() if len(found) == 1 else None)


def is_left_behind(name: str) -> bool:
    """Whether a file or folder is hidden or of a system (`.DS_Store`, `._x.png`, `__MACOSX`, `.ipynb_checkpoints`)."""
    return name.startswith(".") or name.lower() in _SYSTEM


def name_splits(names: Iterable[str], where: str) -> dict[str, str]:
    """{split: its name}; UsageError where two names stand for one split."""
    found: dict[str, str] = {}
    for name in sorted(names):
        split = split_of(name)
        if split is None:
            continue
        if split in found:
            raise UsageError(f"{where} has both {found[split]!r} and {name!r} for {split}; leave one of them")
        found[split] = name
    return found


def roles(names: dict[str, str]) -> tuple[str | None, str | None, tuple[str, ...]]:
    """(name of validation, name of test, what was assumed) of a set with a train split.

    Validation is the set's own only where it has a test split besides: a single held-out split is the test set.
    """
    if "test" in names:
        return names.get("val"), names["test"], ()
    if "val" in names:
        held_out = names["val"]
        return None, held_out, (f"{held_out} is the test set, since there is no other; validation is cut from train",)
    return None, None, ()
