"""Hugging Face's tables with boxes: a column of pictures, and a column of objects with ``bbox`` and ``category`` lists.

Published sets write boxes as (x, y, width, height) or as corners and do not say which. What the numbers themselves rule out is
not taken; where they allow both, ``box_format`` has to say.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from evaluators.data.boxes.objects import CROWD, ORDINARY, Marks, number
from evaluators.data.boxes.source import BoxesFound, header_size
from evaluators.data.columns import features_of, image_column
from evaluators.data.parquet import Tables
from evaluators.data.pixels import MAX_PIXELS, CorruptImage, Picture, open_image
from evaluators.data.spelling import roles
from spaces.errors import UsageError, shortened, unknown

BOX_NAMES = ("bbox", "boxes", "bboxes", "box")
CLASS_NAMES = ("category", "categories", "label", "labels", "category_id", "class", "classes")
FORMATS = ("xywh", "xyxy", "cxcywh")
SIZES = ("height", "width")


@dataclass(frozen=True)
class BoxChoice:
    """What the user said of the columns: ``objects`` and ``image`` name them, ``box_format`` is one of FORMATS."""

    objects: str | None = None
    image: str | None = None
    box_format: str | None = None
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, eq=False)
class TableBoxes:
    """Pictures in a table."""

    table: pa.Table
    name: str
    image_column: str
    found: tuple[Marks, ...]
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.found)

    def marks(self, index: int) -> Marks:
        return self.found[index]

    def size(self, index: int) -> tuple[int, int]:
        content = self._content(index)
        return header_size(io.BytesIO(content) if isinstance(content, bytes) else content, self.where(index))

    def image(self, index: int) -> Picture:
        return open_image(self._content(index), self.where(index), self.max_pixels)

    def where(self, index: int) -> str:
        return f"row {index} of {self.name}"

    def _content(self, index: int) -> bytes | Path:
        cell = self.table[self.image_column][index].as_py()
        cell = {"bytes": cell} if isinstance(cell, bytes) else cell or {}
        if cell.get("bytes") is not None:
            content: bytes = cell["bytes"]
            return content
        if not cell.get("path"):
            raise CorruptImage(f"corrupt image {self.where(index)}: neither bytes nor path")
        return Path(cell["path"])


@dataclass(frozen=True)
class _Row:
    boxes: list[list[float]]
    classes: list[Any]
    kinds: list[int]
    areas: list[float]
    declared: tuple[int, int] | None
    where: str


def open_tables(tables: Tables, choice: BoxChoice) -> BoxesFound:
    """The splits of a set of tables; raises UsageError in one line for what cannot be told."""
    splits = dict(tables.splits)
    val, test, said = roles(splits)
    table, name = tables.read(splits["train"])
    pictures = image_column(table, name, features_of(table.schema), choice.image)
    column, boxes, classes, names = _columns(table, name, choice.objects)
    rows = list(_rows(table, name, column, boxes, classes))
    box_format, guessed = _format(rows, choice.box_format, name)
    if names is None:
        names = _names(rows, name)

    def source(read: pa.Table, called: str, found: Sequence[_Row]) -> TableBoxes:
        return TableBoxes(
            read, called, pictures, tuple(_marks(row, names, box_format) for row in found), choice.max_pixels
        )

    def other(split: str) -> TableBoxes:
        read, called = tables.read(split)
        for wanted in (pictures, column):
            if wanted not in read.column_names:
                raise UsageError(f"{called} has no column {wanted!r}, which train has")
        if _columns(read, called, column)[3] not in (None, names):
            raise UsageError(f"the class names of {called} are not those of train")
        return source(read, called, list(_rows(read, called, column, boxes, classes)))

    used = [one for one in (splits["train"], val, test) if one]
    return BoxesFound(
        source(table, name, rows),
        names,
        f"{', '.join(used)} of {tables.where}",
        other(val) if val else None,
        (lambda: other(test)) if test else (lambda: None),
        tables.rows(test) if test else None,
        tables.skipped,
        (*tables.assumed, *said, *guessed),
    )


def _columns(table: pa.Table, name: str, wanted: str | None) -> tuple[str, str, str, tuple[str, ...] | None]:
    """(the column of objects, its boxes, its classes, the classes' names where the table has them)."""
    possible: dict[str, tuple[str, str]] = {}
    for one in table.schema:
        inner = _fields(one.type)
        box = next((key for key in BOX_NAMES if key in inner), None)
        label = next((key for key in CLASS_NAMES if key in inner), None)
        if box is not None and label is not None:
            possible[one.name] = (box, label)
    if wanted is not None:
        if wanted not in possible:
            raise unknown(f"column of {name} in data.objects:", wanted, possible)
        column = wanted
    elif len(possible) == 1:
        (column,) = possible
    elif possible:
        raise UsageError(f"{name} may have its boxes in {' or '.join(possible)}; name one in data.objects")
    else:
        raise UsageError(
            f"{name} has no column of objects with bbox and category; its columns: {', '.join(table.column_names)}"
        )
    box, label = possible[column]
    found = _class_label(_described(features_of(table.schema).get(column, {}), label))
    return column, box, label, tuple(map(str, found)) if found else None


def _fields(kind: pa.DataType) -> list[str]:
    """The fields of a struct, or of a list of them."""
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return [kind.field(index).name for index in range(kind.num_fields)] if pa.types.is_struct(kind) else []


def _described(feature: Any, key: str) -> Any:
    """What the metadata say of a field, however they nest lists and structs."""
    while isinstance(feature, (Mapping, list)):
        if isinstance(feature, list):
            feature = feature[0] if feature else None
        elif key in feature:
            return feature[key]
        else:
            feature = feature.get("feature")
    return None


def _class_label(feature: Any) -> list[str] | None:
    while isinstance(feature, (Mapping, list)):
        if isinstance(feature, list):
            feature = feature[0] if feature else None
        elif feature.get("_type") == "ClassLabel":
            names: list[str] | None = feature.get("names")
            return names
        else:
            feature = feature.get("feature")
    return None


def _rows(table: pa.Table, name: str, column: str, box: str, label: str) -> Iterator[_Row]:
    sizes = [table[key].to_pylist() if key in table.column_names else [None] * len(table) for key in SIZES]
    for index, cell in enumerate(table[column].to_pylist()):
        where = f"row {index} of {name}"
        things = cell or []
        if isinstance(cell, Mapping):  # one list for each field, as Hugging Face keeps a sequence of structs
            lists = {key: value for key, value in cell.items() if isinstance(value, list)}
            if len({len(value) for value in lists.values()}) > 1:
                raise UsageError(f"{where}: the lists of {column} have different lengths")
            count = len(lists.get(box, ()))
            things = [{key: value[at] for key, value in lists.items()} for at in range(count)]
        boxes = []
        for thing in things:
            if not isinstance(thing[box], list) or len(thing[box]) != 4 or thing[label] is None:
                raise UsageError(f"{where}: {box} = {shortened(thing[box])}, {label} = {shortened(thing[label])}")
            boxes.append([number(value, box, where) for value in thing[box]])
        height, width = sizes[0][index], sizes[1][index]
        declared = (height, width) if isinstance(height, int) and isinstance(width, int) and height and width else None
        yield _Row(
            boxes,
            [thing[label] for thing in things],
            [CROWD if thing.get("iscrowd") or thing.get("is_crowd") else ORDINARY for thing in things],
            [number(thing.get("area") or 0, "area", where) for thing in things],
            declared,
            where,
        )


def _format(rows: Sequence[_Row], wanted: str | None, name: str) -> tuple[str, tuple[str, ...]]:
    """(the format of the boxes, what was assumed)."""
    if wanted is not None:
        return wanted, ()
    boxes_M4 = np.array([box for row in rows for box in row.boxes], dtype=np.float64).reshape(-1, 4)
    if len(boxes_M4) == 0:
        raise UsageError(f"{name}: no object is marked in any training picture")
    if boxes_M4.max() <= 1:
        raise UsageError(f"{name}: boxes are shares of the picture and not pixels, which is not read from tables")
    areas_M = np.array([area for row in rows for area in row.areas])
    product_M, corners_M = boxes_M4[:, 2] * boxes_M4[:, 3], (boxes_M4[:, 2:] - boxes_M4[:, :2]).prod(1)
    has_area = (areas_M > 0).all()
    as_product, as_corners = (
        bool(has_area and np.isclose(areas_M, one, rtol=0.02).all()) for one in (product_M, corners_M)
    )
    if as_product != as_corners:
        chosen = "xywh" if as_product else "xyxy"
        return chosen, (f"boxes are {chosen}, which their own areas say (data.box_format)",)
    if (boxes_M4[:, 2:] < boxes_M4[:, :2]).any():
        return "xywh", ("boxes are (x, y, width, height), since some cannot be corners (data.box_format)",)
    unknown_size = (np.inf, np.inf)
    limits_M2 = np.array([row.declared[::-1] if row.declared else unknown_size for row in rows for _ in row.boxes])
    if (boxes_M4[:, :2] + boxes_M4[:, 2:] > limits_M2 + 1).any():
        return "xyxy", ("boxes are corners, since as (x, y, width, height) some leave their picture (data.box_format)",)
    raise UsageError(
        f"{name}: boxes may be (x, y, width, height) or corners; set data.box_format: {', '.join(FORMATS)}"
    )


def _names(rows: Sequence[_Row], name: str) -> tuple[str, ...]:
    """The classes of train without metadata: its words, or numbers from 0."""
    found = {value for row in rows for value in row.classes}
    if all(isinstance(value, str) for value in found):
        return tuple(sorted(found))
    if all(isinstance(value, int) for value in found) and found and min(found) >= 0:
        return tuple(str(value) for value in range(max(found) + 1))
    raise UsageError(f"{name}: classes {shortened(sorted(map(str, found))[:5])}; valid: words, or numbers from 0")


def _marks(row: _Row, names: tuple[str, ...], box_format: str) -> Marks:
    labels = []
    for value in row.classes:
        label = names.index(value) if value in names else value
        if not isinstance(label, int) or not 0 <= label < len(names):
            raise UsageError(f"{row.where}: class {shortened(value)}; valid: {', '.join(names[:20])}")
        labels.append(label)
    boxes_M4 = np.array(row.boxes, dtype=np.float64).reshape(-1, 4)
    if box_format == "cxcywh":
        boxes_M4 = np.concatenate([boxes_M4[:, :2] - boxes_M4[:, 2:] / 2, boxes_M4[:, 2:]], axis=1)
    if box_format != "xyxy":
        if (boxes_M4[:, 2:] < 0).any():
            raise UsageError(f"{row.where}: a box has a width or height below 0; see data.box_format")
        boxes_M4 = np.concatenate([boxes_M4[:, :2], boxes_M4[:, :2] + boxes_M4[:, 2:]], axis=1)
    return Marks(
        boxes_M4,
        np.array(labels, dtype=np.int64),
        np.array(row.kinds, dtype=np.uint8),
        row.where,
        row.declared,
        areas_M=np.array(row.areas, dtype=np.float64),
    )
