"""COCO's JSON: one file a split, boxes as (x, y, width, height) in pixels, category numbers with gaps.

Lin et al., Microsoft COCO: Common Objects in Context, 2014. Also what Roboflow and others export in that form.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.boxes.objects import CROWD, ORDINARY, Marks, number
from evaluators.data.boxes.source import BoxesFound, FileBoxes
from evaluators.data.spelling import is_left_behind, name_splits, roles, split_of, split_of_file
from spaces.errors import UsageError, shortened


@dataclass(frozen=True)
class _Split:
    """One file: its pictures, what is marked in them, and its categories, number -> name, in the order of the numbers."""

    file: Path
    source: FileBoxes
    categories: tuple[tuple[int, str], ...]


def open_coco(folder: Path, max_pixels: int, *, skip_missing: bool = False) -> BoxesFound:
    """FOLDER/annotations/instances_SPLIT.json beside FOLDER/SPLIT or FOLDER/images, or SPLIT/_annotations.coco.json.

    Raises UsageError in one line that names the file.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}")
    skipped: Counter[str] = Counter()
    files = _files(folder, skipped)
    splits = name_splits(files, str(folder))
    if "train" not in splits:
        shown = (
            ", ".join(str(file.relative_to(folder)) for file in sorted(folder.rglob("*.json"))[:5]) or "no JSON file"
        )
        raise UsageError(
            f"{folder}: expected annotations/instances_train.json or train/_annotations.coco.json; found: {shown}"
        )
    val, test, assumed = roles(splits)

    def read(name: str) -> _Split:
        return _read(folder, files[name], max_pixels, skip_missing, skipped)

    train = read(splits["train"])
    names = [name for _, name in train.categories]
    if not names:
        raise UsageError(f"{train.file} has no categories")

    def same(name: str) -> FileBoxes:
        found = read(name)
        if found.categories != train.categories:
            raise UsageError(
                f"{found.file} has other categories than {train.file}: {shortened(dict(found.categories))} and "
                f"{shortened(dict(train.categories))}"
            )
        return found.source

    used = [name for name in (splits["train"], val, test) if name is not None]
    return BoxesFound(
        train.source,
        tuple(names),
        f"{', '.join(used)} of {folder}",
        same(val) if val is not None else None,
        (lambda: same(test)) if test is not None else (lambda: None),
        None,
        skipped,
        assumed,
    )


def _files(folder: Path, skipped: Counter[str]) -> dict[str, Path]:
    """{the spelling of a split: its file}; UsageError where two files are of one split."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.rglob("*.json")):
        if any(is_left_behind(part) for part in file.relative_to(folder).parts):
            continue
        name = file.stem if split_of_file(file.stem) else file.parent.name
        split = split_of_file(file.stem) or split_of(file.parent.name)
        if split is None:
            skipped["JSON files of no split"] += 1
        else:
            found[split].append(file)
    files: dict[str, Path] = {}
    for split, candidates in found.items():
        instances = [file for file in candidates if file.stem.startswith("instances")] or candidates
        if len(instances) > 1:
            shown = ", ".join(str(file.relative_to(folder)) for file in instances[:4])
            raise UsageError(f"{folder} has several JSON files for {split}: {shown}; leave one of them")
        skipped["JSON files of no split"] += len(candidates) - 1
        name = instances[0].stem if split_of(instances[0].stem) else split
        files[name] = instances[0]
    return files


def _read(folder: Path, file: Path, max_pixels: int, skip_missing: bool, skipped: Counter[str]) -> _Split:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError) as error:
        raise UsageError(f"cannot read {file}: {error}") from None
    parts = [content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations", "categories")]
    if not all(isinstance(part, list) and all(isinstance(one, dict) for one in part) for part in parts):
        raise UsageError(f"{file} is not COCO's form: it needs the lists images, annotations and categories")
    images, annotations, categories = parts
    named = sorted((int(_key(one, "id", file)), str(_key(one, "name", file))) for one in categories or [])
    if len({number for number, _ in named}) != len(named):
        raise UsageError(f"{file} has two categories of one number")
    index_of = {number: index for index, (number, _) in enumerate(named)}
    marked: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    known = {_key(one, "id", file) for one in images or []}
    if len(known) != len(images or []):
        raise UsageError(f"{file} has two pictures of one id")
    for one in annotations or []:
        picture = _key(one, "image_id", file)
        if picture not in known:
            raise UsageError(
                f"{file}: annotation {one.get('id')} is of picture {shortened(picture)}, which is not there"
            )
        marked[picture].append(one)
    root = _root(folder, file, [str(_key(one, "file_name", file)) for one in images or []])
    pictures, marks = [], []
    for one in images or []:
        picture = root / str(one["file_name"])
        if not picture.is_file():
            if not skip_missing:
                raise UsageError(f"{file} names {picture}, which is not there; data.skip_missing: true leaves such out")
            skipped["annotated pictures that are missing (data.skip_missing)"] += 1
            continue
        pictures.append(picture)
        marks.append(_marks(one, marked[one["id"]], index_of, file))
    if not pictures:
        raise UsageError(f"{file} has no pictures")
    _refuse_relative(marks, file)
    return _Split(file, FileBoxes(tuple(pictures), tuple(marks), max_pixels), tuple(named))


def _key(one: dict[str, Any], key: str, file: Path) -> Any:
    if key not in one:
        raise UsageError(f"{file}: an entry has no {key}: {shortened(one)}")
    return one[key]


def _root(folder: Path, file: Path, names: list[str]) -> Path:
    """The folder of a split's pictures: the first usual one that has one of them."""
    stem = file.stem.removeprefix("instances_")
    split = split_of_file(file.stem) or split_of(file.parent.name) or ""
    candidates = [folder / stem, folder / "images" / stem, folder / split, folder / "images" / split]
    candidates += [folder / "images", file.parent, folder]
    for candidate in candidates:
        if any((candidate / name).is_file() for name in names[:100]):
            return candidate
    shown = ", ".join(dict.fromkeys(str(one) for one in candidates))
    raise UsageError(f"none of the pictures of {file} is there, {shortened(names[:1])}; looked in {shown}")


def _marks(image: dict[str, Any], annotations: list[dict[str, Any]], index_of: dict[int, int], file: Path) -> Marks:
    boxes, labels, kinds, areas = [], [], [], []
    for one in annotations:
        where = f"{file}, annotation {one.get('id')}"
        box = one.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise UsageError(f"{where}: bbox = {shortened(box)}; valid: [x, y, width, height] in pixels")
        left, top, width, height = (number(value, "bbox", where) for value in box)
        if width < 0 or height < 0:
            raise UsageError(
                f"{where}: bbox {shortened(box)} has a width or height below 0; COCO's are [x, y, width, height]"
            )
        category = one.get("category_id")
        if category not in index_of:
            raise UsageError(f"{where}: category {shortened(category)} is not among the file's categories")
        boxes.append((left, top, left + width, top + height))
        labels.append(index_of[category])
        kinds.append(CROWD if one.get("iscrowd") else ORDINARY)
        areas.append(number(one.get("area") or 0, "area", where))
    size = (int(image.get("height") or 0), int(image.get("width") or 0))
    return Marks(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.array(kinds, dtype=np.uint8),
        f"{file}, picture {image['file_name']}",
        size if min(size) > 0 else None,
        areas_M=np.array(areas, dtype=np.float64),
    )


def _refuse_relative(marks: list[Marks], file: Path) -> None:
    """UsageError where no box reaches beyond 1: those are shares of the picture, and not pixels."""
    highest = max((float(one.boxes_M4.max()) for one in marks if len(one.boxes_M4)), default=2.0)
    if highest <= 1:
        raise UsageError(
            f"{file}: no box reaches beyond pixel 1, so they are shares of the picture; COCO's are in pixels"
        )
