"""Hugging Face's parquet: a local folder of it, or a data set of the hub."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluators.data.arrays import as_picture
from evaluators.data.columns import array_depth, features_of, find_columns, labels_of, unfolded
from evaluators.data.folders import LEFT_BEHIND
from evaluators.data.pixels import MAX_PIXELS, CorruptImage, Picture, open_image
from evaluators.data.source import Found, Opened
from evaluators.data.spelling import is_left_behind, name_splits, roles, split_of, split_of_file
from spaces.errors import UsageError
from spaces.extras import need

# A local parquet folder larger than this is memory-mapped through Hugging Face's Arrow cache instead of being read whole.
MAPPED_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Choice:
    """What the user said of the columns, and the largest image that is decoded."""

    label: str | None = None
    image: str | None = None
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, eq=False)
class TableSource:
    """An Arrow table in the way Hugging Face stores images: a struct of bytes and path (or an array), and a label."""

    table: pa.Table
    name: str
    image_column: str
    labels: np.ndarray
    class_names: tuple[str, ...] | None
    max_pixels: int = MAX_PIXELS

    def image(self, index: int) -> Picture:
        column, where = self.table[self.image_column], self.where(index)
        cell = column[index].as_py()
        if array_depth(column.type) and cell is not None:
            return _array(cell, column.type, where)
        cell = {"bytes": cell} if isinstance(cell, bytes) else cell or {}
        content: bytes | None = cell.get("bytes")
        path: str | None = cell.get("path")
        if content is not None:
            return open_image(content, where, self.max_pixels)
        if not path:
            raise CorruptImage(f"corrupt image {where}: neither bytes nor path")
        return open_image(Path(path), where, self.max_pixels)

    def where(self, index: int) -> str:
        return f"row {index} of {self.name}"


def _array(cell: list[object], kind: pa.DataType, where: str) -> Picture:
    """Lists of numbers, (H, W) or (H, W, C), as a picture."""
    kind = getattr(kind, "storage_type", kind)
    while not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        kind = kind.value_type
    try:
        return as_picture(np.array(cell, dtype=kind.to_pandas_dtype()), where)
    except UsageError:
        raise
    except (ValueError, TypeError) as error:
        raise CorruptImage(f"corrupt image {where}: {error}".replace("\n", " ")) from error


def table_source(table: pa.Table, name: str, choice: Choice) -> tuple[TableSource, tuple[str, str, tuple[str, ...]]]:
    """The source, and (label column, image column, what was assumed)."""
    table = unfolded(table)
    columns = find_columns(table, name, choice.image, choice.label)
    labels = labels_of(table, columns.label, name)
    source = TableSource(table, name, columns.image, labels, columns.names, choice.max_pixels)
    return source, (columns.label, columns.image, columns.assumed)


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a data set by split, each read when it is asked for; whatever they hold.

    splits: {split: how the data set spells it}. read: a spelling's table, and what messages call it. rows: their number where
    it is known without that. where: what the data set is called.
    """

    splits: Mapping[str, str]
    read: Callable[[str], tuple[pa.Table, str]]
    rows: Callable[[str], int | None]
    where: str
    skipped: Counter[str]
    assumed: tuple[str, ...]


def find_tables(place: str, config: str | None) -> Tables:
    """The tables of a folder of parquet files, or else of OWNER/NAME on the Hugging Face hub.

    Raises UsageError for several configurations where ``config`` names none, and where no table is of a train split.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        return _in_folder(folder, config)
    if place.startswith((".", "/", "~")) or place.count("/") > 1:
        raise UsageError(f"no such folder: {folder}")
    return _on_hub(place, config)


def open_tables(tables: Tables, choice: Choice) -> Opened:
    """The images and labels of a set of tables; raises UsageError where they cannot be told."""
    splits = dict(tables.splits)
    val, test, said = roles(splits)
    train, (label, image, guessed) = table_source(*tables.read(splits["train"]), choice)
    # The other splits have the columns of train, whatever else they have.
    same = Choice(label, image, choice.max_pixels)
    used = [name for name in (splits["train"], val, test) if name]
    taken = f"{', '.join(used)} of {tables.where}"
    found = Found(taken, label, image, tables.skipped, tables.assumed + said + guessed)
    if test is None:
        return Opened(train, found)
    return Opened(
        train,
        found,
        table_source(*tables.read(val), same)[0] if val else None,
        lambda: table_source(*tables.read(test), same)[0],
        tables.rows(test),
    )


def _in_folder(folder: Path, config: str | None) -> Tables:
    """The parquet files below a folder, by the splits in their names (`train-00000-of-00001.parquet`, `data/test.parquet`)."""
    skipped: Counter[str] = Counter()
    files = []
    for file in sorted(folder.rglob("*.parquet")):
        if any(is_left_behind(part) for part in file.relative_to(folder).parts):
            skipped[LEFT_BEHIND] += 1
        else:
            files.append(file)
    files, assumed = _of_config(folder, files, config)
    by_name: dict[str, list[Path]] = defaultdict(list)  # the spelling of the split -> its files
    for file in files:
        spelling = _split_name(file)
        if spelling is None:
            skipped["parquet files of no split"] += 1
        else:
            by_name[spelling].append(file)
    splits = name_splits(by_name, str(folder))
    if "train" not in splits:
        shown = ", ".join(str(file.relative_to(folder)) for file in files[:5]) or "no parquet file"
        raise UsageError(f"no train*.parquet below {folder}; found: {shown}")
    for spelling in splits.values():
        _check_shards(folder, by_name[spelling], spelling)
    return Tables(
        splits,
        lambda name: (_read_files(folder, by_name[name]), f"{folder.name}/{name}"),
        lambda name: sum(_rows(file) for file in by_name[name]),
        str(folder),
        skipped,
        assumed,
    )


def _split_name(file: Path) -> str | None:
    """The split of a file by its name, else by its folder's."""
    return split_of_file(file.stem) or split_of(file.parent.name)


def _check_shards(folder: Path, files: list[Path], split: str) -> None:
    """UsageError unless the files of a split are the parts of one whole: `train_full` and `train_small` share images."""
    wholes: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for file in files:
        numbered = re.sub(r"-\d+-of-(\d+).*", r"-of-\1", file.stem)
        by_name = (
            re.sub(r"[-_.]?\d+$", "", file.stem) if split_of_file(file.stem) else ""
        )  # else the folder is the split
        wholes[file.parent, by_name if numbered == file.stem else numbered].append(file)
    if len(wholes) > 1:
        shown = ", ".join(str(parts[0].relative_to(folder)) for parts in list(wholes.values())[:3])
        raise UsageError(
            f"{folder} has several files for {split} that are not parts of one: {shown}; leave one of them"
        )
    ((_, name), parts), *_ = wholes.items()
    whole = re.search(r"-of-(\d+)$", name)
    if whole and len(parts) != int(whole[1]):
        raise UsageError(f"{folder} has {len(parts)} of the {int(whole[1])} files of {split}: {parts[0].name} ...")


def _of_config(folder: Path, files: list[Path], wanted: str | None) -> tuple[list[Path], tuple[str, ...]]:
    """The files of one configuration: those of one folder, not counting folders that are called after a split or `data`."""
    by_config: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        parts = [part for part in file.relative_to(folder).parts[:-1] if not split_of(part) and part != "data"]
        if _split_name(file) is not None:
            by_config["/".join(parts)].append(file)
    names = [name or "." for name in by_config]
    if wanted is not None:
        key = "" if wanted == "." else wanted
        if key not in by_config:
            raise UsageError(
                f"{folder} has no configuration {wanted!r} (data.config); valid: {', '.join(names) or 'none'}"
            )
        return by_config[key], ()
    if len(by_config) > 1:
        raise UsageError(f"{folder} has {len(names)} configurations, {', '.join(names[:8])}; name one in data.config")
    return files, ()


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"cannot read {file}: {error}".splitlines()[0]) from error


def _rows(file: Path) -> int:
    try:
        return pq.read_metadata(file).num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"cannot read {file}: {error}".splitlines()[0]) from error


def _read_files(folder: Path, files: list[Path]) -> pa.Table:
    described = [features_of(_schema(file)) for file in files]
    different = next((file for file, features in zip(files, described, strict=True) if features != described[0]), None)
    if different is not None:
        raise UsageError(f"{different} describes its columns or classes otherwise than {files[0]}")
    if sum(file.stat().st_size for file in files) > MAPPED_BYTES:
        need("data", f"{folder}, which is too large for memory,")
        import datasets

        return datasets.load_dataset("parquet", data_files=[str(file) for file in files], split="train").data.table
    try:
        return pa.concat_tables([pq.read_table(file) for file in files])
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"cannot read the parquet files of {folder}: {' '.join(str(error).split())}") from error


def _on_hub(name: str, wanted: str | None) -> Tables:
    """A data set of the Hugging Face hub by name, downloaded into the hub's own cache."""
    need("data", f"hf:{name} is no folder here, and a data set of the hub")
    import datasets

    try:
        configs = datasets.get_dataset_config_names(name)
        config, assumed = _hub_config(name, configs, wanted)
        splits = name_splits(datasets.get_dataset_split_names(name, config), f"hf:{name}")
    except UsageError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"hf:{name} is neither a folder nor a data set of the hub: {reason}") from error
    if "train" not in splits:
        raise UsageError(
            f"hf:{name} has no train split; its splits: {', '.join(splits.values()) or 'none that is known'}"
        )

    def read(split: str) -> tuple[pa.Table, str]:
        try:
            loaded = datasets.load_dataset(name, config, split=split)
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(f"cannot read split {split} of hf:{name}: {str(error).splitlines()[0]}") from error
        return loaded.data.table, f"{name}/{split}"

    return Tables(splits, read, lambda split: None, f"the hub's {name}", Counter(), assumed)


def _hub_config(name: str, configs: list[str], wanted: str | None) -> tuple[str | None, tuple[str, ...]]:
    if wanted is not None:
        if wanted not in configs:
            raise UsageError(f"hf:{name} has no configuration {wanted!r} (data.config); valid: {', '.join(configs)}")
        return wanted, ()
    if len(configs) > 1:
        if "default" in configs:
            return "default", (f"configuration 'default' of {', '.join(configs[:8])} (data.config)",)
        raise UsageError(
            f"hf:{name} has {len(configs)} configurations, {', '.join(configs[:8])}; name one in data.config"
        )
    return None, ()
