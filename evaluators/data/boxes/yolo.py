"""Ultralytics' layout: data.yaml, folders images/ and labels/, a text file a picture.

A line is `class x y width height`: the class's number, the centre and the size as shares of the picture; or a class and the
corners of a polygon. Only the layout is read; nothing of that software is used.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evaluators.data.boxes.objects import SLACK, Marks, no_marks, number
from evaluators.data.boxes.source import BoxesFound, FileBoxes
from evaluators.data.folders import IMAGE_SUFFIXES
from evaluators.data.spelling import is_left_behind, roles
from spaces.errors import UsageError, shortened

POLYGONS = "polygons (taken as the boxes around them)"


def open_yolo(folder: Path, max_pixels: int) -> BoxesFound:
    """FOLDER/data.yaml (or the only YAML with `names`), and the folders or lists that it names as train, val and test.

    Pictures without a text file, or with an empty one, have no objects. Raises UsageError in one line that names the file.
    """
    file, content = _description(folder)
    names = _names(content.get("names"), content.get("nc"), file)
    spelled = {split: content[split] for split in ("train", "val", "test") if content.get(split)}
    if "train" not in spelled:
        raise UsageError(f"{file} does not say where train is")
    root = _root(file, content.get("path"))
    skipped: Counter[str] = Counter()
    val, test, assumed = roles({split: split for split in spelled})

    def files_of(split: str) -> list[Path]:
        return _pictures(root, file, spelled[split], split)

    def read(split: str) -> FileBoxes:
        pictures = files_of(split)
        return FileBoxes(tuple(pictures), tuple(_marks(one, len(names), skipped) for one in pictures), max_pixels)

    used = [split for split in ("train", val, test) if split is not None]
    return BoxesFound(
        read("train"),
        names,
        f"{', '.join(used)} of {file}",
        read(val) if val is not None else None,
        (lambda: read(test)) if test is not None else (lambda: None),
        len(files_of(test)) if test is not None else None,
        skipped,
        assumed,
    )


def _description(folder: Path) -> tuple[Path, dict[str, Any]]:
    if folder.is_file() and folder.suffix in (".yaml", ".yml"):
        candidates = [folder]
    elif folder.is_dir():
        found = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
        candidates = [file for file in found if file.stem == "data"] or found
    else:
        raise UsageError(f"no such folder: {folder}")
    read = []
    for file in candidates:
        try:
            content = yaml.safe_load(file.read_text())
        except (yaml.YAMLError, OSError) as error:
            raise UsageError(f"cannot read {file}: {' '.join(str(error).split())}") from None
        if isinstance(content, dict) and "names" in content:
            read.append((file, content))
    if len(read) != 1:
        what = "several YAML files with names" if read else "no data.yaml with names, train and val"
        raise UsageError(f"{folder} has {what}{': ' + ', '.join(file.name for file, _ in read) if read else ''}")
    return read[0]


def _names(names: Any, count: Any, file: Path) -> tuple[str, ...]:
    """The classes, from a list or from {number: name}."""
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise UsageError(
                f"{file}: names has the numbers {shortened(sorted(names, key=str))}; valid: 0 to {len(names) - 1}"
            )
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UsageError(f"{file}: names = {shortened(names)}; valid: a list of classes, or {{0: name, ...}}")
    if count is not None and count != len(names):
        raise UsageError(f"{file}: nc is {shortened(count)}, but there are {len(names)} names")
    return tuple(map(str, names))


def _root(file: Path, path: Any) -> Path:
    """What relative places are relative to: `path`, or the folder of the file itself."""
    here = file.parent
    if path is None:
        return here
    told = Path(str(path)).expanduser()
    for candidate in (told, here / told) if told.is_absolute() else (here / told,):
        if candidate.is_dir():
            return candidate
    if here.name == told.name or (here / "images").is_dir():
        return here
    raise UsageError(f"{file}: path {shortened(str(path))} is no folder, neither as it is nor in {here}")


def _pictures(root: Path, file: Path, places: Any, split: str) -> list[Path]:
    """The pictures of a split: of folders, or of lists of files."""
    found: list[Path] = []
    for place in places if isinstance(places, list) else [places]:
        told = Path(str(place)).expanduser()
        # Roboflow writes ../train/images for what lies beside the file.
        beside = Path(*[part for part in told.parts if part != ".."])
        candidates = [told] if told.is_absolute() else [root / told, file.parent / told, file.parent / beside]
        there = next((one for one in candidates if one.exists()), None)
        if there is None:
            raise UsageError(
                f"{file}: {split} is {shortened(str(place))}, which is not there; looked for {candidates[0]}"
            )
        if there.is_dir():
            found += [one for one in sorted(there.rglob("*")) if one.suffix.lower() in IMAGE_SUFFIXES]
        else:
            lines = [line.strip() for line in there.read_text().splitlines() if line.strip()]
            found += [_line(there, line, root) for line in lines]
    found = [one for one in found if not is_left_behind(one.name)]
    if not found:
        raise UsageError(f"{file}: {split} has no pictures")
    return found


def _line(file: Path, line: str, root: Path) -> Path:
    told = Path(line)
    for candidate in (told, root / told, file.parent / told):
        if candidate.is_file():
            return candidate
    raise UsageError(f"{file} names {line}, which is not there")


def _label_file(picture: Path) -> Path:
    """images/.../x.jpg -> labels/.../x.txt, the last folder that is called images."""
    parts = list(picture.parts)
    places = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _marks(picture: Path, classes: int, skipped: Counter[str]) -> Marks:
    file = _label_file(picture)
    if not file.is_file():
        skipped["pictures without a file of labels (taken as empty)"] += 1
        return no_marks(str(picture))
    boxes, labels = [], []
    for row, line in enumerate(file.read_text().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{file}:{row}"
        values = [number(word, "a value", where) for word in words]
        label = int(values[0])
        if label != values[0] or not 0 <= label < classes:
            raise UsageError(f"{where}: class {words[0]}; valid: 0 to {classes - 1}")
        shares = values[1:]
        if max(shares, default=0) > 1 + SLACK or min(shares, default=0) < -SLACK:
            raise UsageError(
                f"{where}: {shortened(line)}: values are shares of the picture from 0 to 1; boxes in pixels?"
            )
        if len(shares) == 4:
            x, y, width, height = shares
            boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
        elif len(shares) >= 6 and len(shares) % 2 == 0:
            boxes.append((min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2])))
            skipped[POLYGONS] += 1
        else:
            raise UsageError(f"{where}: {len(words)} values; valid: class x y width height, or a class and a polygon")
        labels.append(label)
    return Marks(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.zeros(len(labels), dtype=np.uint8),
        str(file),
        relative=True,
    )
