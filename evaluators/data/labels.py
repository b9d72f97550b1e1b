"""From labels as they are stored (numbers, strings, booleans) to classes 0 ... K-1 and their names.

Legend: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spaces.errors import UsageError

FEW = 20  # up to so many images, each may have a class of its own


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a data set. values: what stands for class 0, 1 ... in the data; assumed: what the data do not say."""

    names: tuple[str, ...]
    values: np.ndarray
    assumed: tuple[str, ...] = ()

    def encode(self, labels: np.ndarray, where: Callable[[int], str]) -> np.ndarray:
        """Labels (N,) as classes 0 ... K-1, int64. UsageError naming the place of one that is no class."""
        if len(labels) == 0:
            return np.zeros(0, np.int64)
        labels = plain(labels, where(0))
        if labels.dtype.kind != self.values.dtype.kind:
            raise UsageError(
                f"label {labels[0]} of {where(0)} is not of the kind of the training labels; "
                f"valid: {_some([str(value) for value in self.values])}"
            )
        found = np.searchsorted(self.values, labels).clip(0, len(self.values) - 1)
        bad = np.flatnonzero(self.values[found] != labels)
        if len(bad):
            first = int(bad[0])
            valid = (
                f"{self.values[0]} to {self.values[-1]}"
                if self.values.dtype.kind == "i"
                else _some([str(value) for value in self.values])
            )
            raise UsageError(f"label {labels[first]} out of range in {where(first)}; valid: {valid}")
        return found.astype(np.int64)


def plain(labels: np.ndarray, what: str) -> np.ndarray:
    """Labels as int64, booleans or strings. UsageError for numbers with fractions, missing ones and other types."""
    labels = np.asarray(labels)
    if labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f":
        broken = labels[~np.isfinite(labels) | (labels != np.round(labels))]
        if len(broken):
            raise UsageError(
                f"labels of {what} are not classes: {broken[0]} is no whole number (a regression?); "
                "valid: whole numbers, strings or booleans"
            )
        return labels.astype(np.int64)
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8")
    if labels.dtype.kind in "bU":
        return labels
    if labels.dtype.kind == "O" and all(isinstance(value, str) for value in labels):
        return labels.astype(str)
    raise UsageError(f"labels of {what} are {labels.dtype}; valid: whole numbers, strings or booleans")


def find_classes(labels: np.ndarray, names: Sequence[str] | None, where: Callable[[int], str], what: str) -> Classes:
    """The classes of training labels (N,); `names` are those that the data themselves give to 0 ... K-1.

    Numbers from 1 to K are taken for classes too, and that is said. UsageError for what is no set of classes.
    """
    given, labels = np.asarray(labels), plain(labels, what)
    assumed: tuple[str, ...] = (f"labels are whole numbers stored as {given.dtype}",) if given.dtype.kind == "f" else ()
    distinct = np.unique(labels)
    if names is None and len(distinct) > max(FEW, len(labels)) // 2 and len(labels) >= FEW:
        raise UsageError(
            f"{what}: {len(distinct)} different labels for {len(labels)} images ({_some([str(v) for v in distinct])}): "
            "a number to predict or an identifier, not a class; see data.label"
        )
    if labels.dtype.kind != "i":
        if names is not None:
            raise UsageError(f"{what} names its classes, but its labels are {labels.dtype}; valid: whole numbers")
        if labels.dtype.kind == "U" and "" in distinct:
            raise UsageError(f"{what}: an empty label in {where(int(np.flatnonzero(labels == '')[0]))}")
        return _at_least_two(Classes(tuple(str(value) for value in distinct), distinct, assumed), what)
    low, high = int(distinct[0]), int(distinct[-1])
    if names is None:
        if low not in (0, 1) or high - low >= max(2 * len(distinct), FEW):
            raise UsageError(
                f"{what}: labels {_some([str(value) for value in distinct])} are no classes; "
                "valid: 0 to K-1, 1 to K, strings or booleans"
            )
        values = np.arange(low, high + 1)
        names = [str(value) for value in values]
    else:
        from_one = low == 1 and high == len(names)
        values = np.arange(len(names)) + from_one
    if values[0] == 1:
        assumed += (f"labels go from 1 to {high}: class 0 is what the data call 1",)
    classes = Classes(tuple(map(str, names)), values, assumed)
    classes.encode(labels, where)
    return _at_least_two(classes, what)


def check_classes(labels: np.ndarray, class_names: Sequence[str], name: str) -> None:
    """UsageError naming the classes that have no training image. labels: classes 0 ... K-1."""
    counts = np.bincount(labels, minlength=len(class_names))
    empty = [class_names[int(index)] for index in np.flatnonzero(counts == 0)]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        raise UsageError(f"{name}: no training image for class {', '.join(empty[:5])}{more}")


def _at_least_two(classes: Classes, what: str) -> Classes:
    if len(classes.names) < 2:
        raise UsageError(f"{what} has only one class, {classes.names[0]!r}; valid: two or more")
    return classes


def _some(texts: Sequence[str], count: int = 5) -> str:
    shown = ", ".join(text[:40] for text in texts[:count])
    return shown + (f" ... {texts[-1][:40]}" if len(texts) > count else "")
