"""Hugging Face's parquet with a column of images and one of masks: a local folder, or a data set of the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from evaluators.data.columns import is_encoded
from evaluators.data.masks.source import MasksFound, open_mask
from evaluators.data.parquet import Choice, Tables
from evaluators.data.pixels import MAX_PIXELS, CorruptImage, Picture, open_image
from evaluators.data.source import Found
from evaluators.data.spelling import roles
from spaces.errors import UsageError, unknown

MASK_NAMES = (
    "mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentation_mask", "semantic_mask",
    "segmentation_map", "label_image",
)  # fmt: skip
IMAGE_NAMES = ("image", "img", "images", "pixel_values", "pixels")


@dataclass(frozen=True, eq=False)
class TablePairs:
    """An Arrow table with two columns of encoded pictures."""

    table: pa.Table
    name: str
    image_column: str
    mask_column: str
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def image(self, index: int) -> Picture:
        return open_image(self._content(self.image_column, index), self.where(index), self.max_pixels)

    def where(self, index: int) -> str:
        return f"row {index} of {self.name}"

    def mask(self, index: int) -> Picture:
        return open_mask(self._content(self.mask_column, index), self.mask_where(index), self.max_pixels)

    def mask_where(self, index: int) -> str:
        return f"{self.mask_column!r} in row {index} of {self.name}"

    def _content(self, column: str, index: int) -> bytes | Path:
        cell: Any = self.table[column][index].as_py()
        cell = {"bytes": cell} if isinstance(cell, bytes) else cell or {}
        content: bytes | None = cell.get("bytes")
        path: str | None = cell.get("path")
        if content is None and not path:
            raise CorruptImage(
                f"corrupt image, column {column!r} in row {index} of {self.name}: neither bytes nor path"
            )
        return content if content is not None else Path(str(path))


def open_tables(tables: Tables, choice: Choice) -> MasksFound:
    """The splits of a set of tables; ``choice.label`` names the column of masks. UsageError where a column cannot be told."""
    splits = dict(tables.splits)
    val, test, said = roles(splits)
    table, name = tables.read(splits["train"])
    image, mask = _columns(table, name, choice)

    def source(spelling: str) -> TablePairs:
        own, called = (table, name) if spelling == splits["train"] else tables.read(spelling)
        for column in (image, mask):
            if column not in own.column_names:
                raise UsageError(f"{called} has no column {column!r}, which train has")
        if own[image].null_count or own[mask].null_count:
            raise UsageError(f"{called}: {own[image].null_count + own[mask].null_count} images or masks are missing")
        return TablePairs(own, called, image, mask, choice.max_pixels)

    used = [spelling for spelling in (splits["train"], val, test) if spelling]
    taken = f"{', '.join(used)} of {tables.where}"
    found = Found(taken, mask, image, tables.skipped, tables.assumed + said)
    if test is None:
        return MasksFound(source(splits["train"]), found)
    return MasksFound(
        source(splits["train"]), found, source(val) if val else None, lambda: source(test), tables.rows(test)
    )


def _columns(table: pa.Table, name: str, choice: Choice) -> tuple[str, str]:
    """(column of images, column of masks): the user's choice, else by their names, else of two the one that is left."""
    valid = [field.name for field in table.schema if is_encoded(field.type)]
    for option, column in (("image", choice.image), ("mask", choice.label)):
        if column is not None and column not in valid:
            raise unknown(f"column of {name} in data.{option}:", column, valid)
    if len(valid) < 2:
        raise UsageError(
            f"{name} has {len(valid)} columns of images; valid: one of images and one of masks; "
            f"its columns: {', '.join(table.column_names)}"
        )
    mask = choice.label or _called(MASK_NAMES, [column for column in valid if column != choice.image])
    image = choice.image or _called(IMAGE_NAMES, [column for column in valid if column != mask])
    if mask is None and image is not None and len(rest := [column for column in valid if column != image]) == 1:
        mask = rest[0]
    if image is None and mask is not None and len(rest := [column for column in valid if column != mask]) == 1:
        image = rest[0]
    if image is None or mask is None or image == mask:
        raise UsageError(
            f"{name} has its images and masks in {', '.join(valid)}; name them in data.image and data.mask"
        )
    return image, mask


def _called(names: tuple[str, ...], columns: list[str]) -> str | None:
    """The column with the first of these names."""
    return next((column for known in names for column in columns if column.lower() == known), None)
