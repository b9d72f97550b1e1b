"""Which column of a table holds the images and which the labels: what its own metadata say, else the only candidate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spaces.errors import UsageError, unknown

IMAGE_NAMES, LABEL_NAMES = ("image", "img", "images"), ("label", "labels", "fine_label")


@dataclass(frozen=True)
class Columns:
    """The columns taken; names: of the classes, from the metadata. assumed: what the table does not say itself."""

    image: str
    label: str
    names: tuple[str, ...] | None
    assumed: tuple[str, ...] = ()


def features_of(schema: pa.Schema) -> Mapping[str, Mapping[str, Any]]:
    """Hugging Face's own description of the columns, as it is kept in the schema; empty without one."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = metadata.get("info", {}).get("features", {})
    except (ValueError, AttributeError) as error:
        raise UsageError(f"the metadata of Hugging Face are broken: {error}") from error
    # A list of one description is how the hub once wrote a list of such values.
    described = {
        name: {"feature": feature} if isinstance(feature, list) else feature for name, feature in features.items()
    }
    return {name: feature for name, feature in described.items() if isinstance(feature, Mapping)}


def find_columns(table: pa.Table, name: str, image: str | None = None, label: str | None = None) -> Columns:
    """The columns of a table; `image` and `label` are the user's choice.

    Raises UsageError that names the candidates and the option where there are several, or none.
    """
    features = features_of(table.schema)
    for column, option in ((image, "image"), (label, "label")):
        if column is not None and column not in table.column_names:
            raise unknown(f"column of {name} in data.{option}:", column, table.column_names)
    image = image_column(table, name, features, image)
    assumed: tuple[str, ...] = ()
    if label is None:
        label, assumed = _label_column(table, name, features, image)
    elif label == image:
        raise UsageError(f"{name}: column {label!r} of data.label holds the images; {_others(table, image)}")
    if table[label].null_count:
        raise UsageError(f"{name}: {table[label].null_count} labels are missing in column {label!r}")
    names = features.get(label, {}).get("names")
    return Columns(image, label, tuple(map(str, names)) if names else None, assumed)


def unfolded(table: pa.Table) -> pa.Table:
    """A table with each ClassLabel of a struct as a column of its own (`annotation.label`), described in the metadata."""
    features = dict(features_of(table.schema))
    for column, feature in list(features.items()):
        if column not in table.column_names or not pa.types.is_struct(table.schema.field(column).type):
            continue
        for name, inner in feature.items():
            if isinstance(inner, Mapping) and inner.get("_type") == "ClassLabel":
                values = pc.struct_field(table[column], name)
                features[f"{column}.{name}"] = inner
                table = table.append_column(f"{column}.{name}", values)
    if len(features) == len(features_of(table.schema)):
        return table
    metadata = {**(table.schema.metadata or {}), b"huggingface": json.dumps({"info": {"features": features}})}
    return table.replace_schema_metadata(metadata)


def labels_of(table: pa.Table, column: str, name: str) -> np.ndarray:
    """The labels of a column, as numbers, booleans or strings. UsageError for other types."""
    values = table[column].combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if _is_string(values.type):
        return np.array(values.to_pylist(), dtype=str)
    if pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False)
    raise UsageError(f"{name}: column {column!r} is {values.type}; valid for labels: whole numbers, strings, booleans")


def is_encoded(kind: pa.DataType) -> bool:
    """A struct of bytes and path, as Hugging Face stores images, or bytes alone."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def array_depth(kind: pa.DataType) -> int:
    """How deep the lists of numbers of a column are: 2 for (H, W), 3 for (H, W, C); 0 for anything else."""
    kind = getattr(kind, "storage_type", kind)
    depth = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return depth if number else 0


def image_column(table: pa.Table, name: str, features: Mapping[str, Mapping[str, Any]], chosen: str | None) -> str:
    valid = [field.name for field in table.schema if is_encoded(field.type) or array_depth(field.type) in (2, 3)]
    if chosen is not None:
        if chosen not in valid:
            raise UsageError(
                f"{name}: column {chosen!r} of data.image holds no images; valid: {', '.join(valid) or 'none'}"
            )
        return chosen
    if not valid:
        raise UsageError(
            f"{name} has no image column (a struct of bytes and path); its columns: {', '.join(table.column_names)}"
        )
    declared = [column for column in valid if features.get(column, {}).get("_type") == "Image"]
    encoded = [column for column in valid if is_encoded(table.schema.field(column).type)]
    for candidates in (declared, encoded, valid):
        if len(candidates) == 1:
            return candidates[0]
        named = [column for known in IMAGE_NAMES for column in candidates if column.lower() == known]
        if named:
            return named[0]
        if candidates:
            raise UsageError(
                f"{name} has {len(candidates)} image columns, {', '.join(candidates)}; name one in data.image"
            )
    raise AssertionError("the last candidates are not empty")


def _label_column(
    table: pa.Table, name: str, features: Mapping[str, Mapping[str, Any]], image: str
) -> tuple[str, tuple[str, ...]]:
    """The ClassLabel of the metadata; else a column that is called label; else the only one that can hold classes."""
    declared = [column for column in table.column_names if features.get(column, {}).get("_type") == "ClassLabel"]
    possible = [field.name for field in table.schema if field.name != image and _can_label(field.type)]
    named = [column for known in LABEL_NAMES for column in table.column_names if column.lower() == known]
    called = [column for column in named if column in possible or pa.types.is_floating(table.schema.field(column).type)]
    if declared:
        preferred = [column for column in called if column in declared]
        rivals = [column for column in called[:1] if column not in declared and not preferred]
        if preferred or (len(declared) == 1 and not rivals):
            chosen = (preferred or declared)[0]
            others = [column for column in declared if column != chosen]
            return chosen, (f"{chosen!r} is the label, and not {_and(others)} (data.label)",) if others else ()
        raise UsageError(f"{name} may have its labels in {_and([*declared, *rivals])}; name one in data.label")
    if len(called) > 1:
        raise UsageError(f"{name} may have its labels in {_and(called)}; name one in data.label")
    if called:
        return called[0], ()
    several = [*named, *(column for column, feature in features.items() if _has_class_label(feature))]
    if several and several[0] in table.column_names:
        kind = table.schema.field(several[0]).type
        raise UsageError(
            f"{name} has labels in column {several[0]!r}, which is {kind}, not one class an image; {_others(table, image)}"
        )
    candidates = [column for column in possible if _repeats(table[column])]
    if not candidates:
        raise UsageError(
            f"{name} has no integer label column, nor one of strings that repeat; its columns: {', '.join(table.column_names)}"
        )
    if len(candidates) > 1:
        raise UsageError(f"{name} may have its labels in {_and(candidates)}; name one in data.label")
    return candidates[0], (f"{candidates[0]!r} is the label: no other column can be one",)


def _has_class_label(feature: object) -> bool:
    """Whether a ClassLabel lies somewhere in the description of a column."""
    if isinstance(feature, Mapping):
        return feature.get("_type") == "ClassLabel" or any(_has_class_label(inner) for inner in feature.values())
    return isinstance(feature, list) and any(_has_class_label(inner) for inner in feature)


def _others(table: pa.Table, image: str) -> str:
    """What can be said in data.label."""
    valid = [field.name for field in table.schema if field.name != image and _can_label(field.type)]
    return f"valid in data.label: {', '.join(valid)}" if valid else "no other column can be data.label"


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _can_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_string(kind)


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether its values are shared by images: names of files and identifiers are not."""
    if pa.types.is_dictionary(column.type):
        return True
    return pc.count_distinct(column).as_py() <= max(2, len(column) // 2)


def _and(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
