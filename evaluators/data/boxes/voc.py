"""Pascal VOC: one XML file a picture (Everingham et al., The Pascal Visual Object Classes Challenge, 2010).

Its devkit counts pixels from 1 and both ends of a box belong to it: pixels 1 to 10 are the box (0, 10).
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np

from evaluators.data.boxes.objects import DIFFICULT, ORDINARY, Marks, number
from evaluators.data.boxes.source import BoxesFound, FileBoxes
from evaluators.data.folders import IMAGE_SUFFIXES
from evaluators.data.spelling import is_left_behind, name_splits, roles
from spaces.errors import UsageError, shortened

Named = tuple[Marks, tuple[str, ...], Path]  # marks whose labels are places in these names; the picture


def open_voc(folder: Path, max_pixels: int, *, first_pixel: int = 1, skip_missing: bool = False) -> BoxesFound:
    """FOLDER/Annotations/*.xml, FOLDER/JPEGImages, and the lists of FOLDER/ImageSets/Main; without lists all are train.

    ``first_pixel``: 1 as VOC's devkit counts, or 0 where the files do. Raises UsageError in one line that names the file.
    """
    if not (folder / "Annotations").is_dir() or not (folder / "JPEGImages").is_dir():
        inner = sorted(str(found.parent) for found in folder.glob("*/Annotations"))
        inner += sorted(str(found.parent) for found in folder.glob("*/*/Annotations"))
        hint = f"; did you mean {inner[0]}?" if inner else ""
        raise UsageError(f"{folder}: expected the folders Annotations and JPEGImages{hint}")
    pictures = {
        file.stem: file
        for file in sorted((folder / "JPEGImages").iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES and not is_left_behind(file.name)
    }
    skipped: Counter[str] = Counter()
    lists = folder / "ImageSets" / "Main"
    splits = name_splits((file.stem for file in lists.glob("*.txt")), str(lists)) if lists.is_dir() else {}

    def read(name: str) -> list[Named]:
        found = [
            _read(folder, one, pictures, first_pixel, skip_missing, skipped) for one in _listed(lists, folder, name)
        ]
        return [one for one in found if one is not None]

    assumed: tuple[str, ...] = ()
    if not splits:
        everything = sorted(
            file.stem for file in (folder / "Annotations").glob("*.xml") if not is_left_behind(file.name)
        )
        if not everything:
            raise UsageError(f"{folder / 'Annotations'} has no XML file")
        all_found = [_read(folder, one, pictures, first_pixel, skip_missing, skipped) for one in everything]
        train, val, test = [one for one in all_found if one is not None], None, None
        assumed += (
            f"there are no lists in {lists}: all annotated pictures are train, and validation is cut from them",
        )
        used = ["all"]
    elif "train" not in splits:
        raise UsageError(f"{lists} has no list train.txt; found: {', '.join(sorted(splits.values()))}")
    else:
        val, test, said = roles(splits)
        assumed += said
        train = read(splits["train"])
        used = [name for name in (splits["train"], val, test) if name is not None]
        unlisted = len(pictures) - len({one for name in used for one in _listed(lists, folder, name)})
        if unlisted > 0:
            skipped["pictures in none of the lists that are read"] += unlisted
    class_names = tuple(sorted({name for _, names, _ in train for name in names}))
    if not class_names:
        raise UsageError(f"{folder}: no object is marked in any training picture")

    def source(named: list[Named]) -> FileBoxes:
        marks = tuple(_encoded(one, names, class_names) for one, names, _ in named)
        return FileBoxes(tuple(file for _, _, file in named), marks, max_pixels)

    own = source(read(val)) if val is not None else None
    if first_pixel == 1:
        assumed += ("boxes count pixels from 1 and both ends belong to them, as in VOC's devkit (data.first_pixel)",)
    return BoxesFound(
        source(train),
        class_names,
        f"{', '.join(used)} of {folder}",
        own,
        (lambda: source(read(test))) if test is not None else (lambda: None),
        len(_listed(lists, folder, test)) if test is not None else None,
        skipped,
        assumed,
    )


def _listed(lists: Path, folder: Path, name: str) -> list[str]:
    """The names in a list; a line may go on with 1, 0 or -1, as those of single classes do."""
    found = []
    for line in (lists / f"{name}.txt").read_text().splitlines():
        text = line.strip()
        if text:
            found.append(text if (folder / "Annotations" / f"{text}.xml").is_file() else text.split()[0])
    twice = next((one for one, times in Counter(found).items() if times > 1), None)
    if twice is not None:
        raise UsageError(f"{lists / name}.txt lists {twice} twice")
    if not found:
        raise UsageError(f"{lists / name}.txt is empty")
    return found


def _read(
    folder: Path, name: str, pictures: dict[str, Path], first_pixel: int, skip_missing: bool, skipped: Counter[str]
) -> Named | None:
    """One picture; None for a picture that is missing and may be."""
    file = folder / "Annotations" / f"{name}.xml"
    try:
        root = ElementTree.parse(file).getroot()
    except FileNotFoundError:
        raise UsageError(f"there is no {file}, which a list of {folder / 'ImageSets' / 'Main'} names") from None
    except (ElementTree.ParseError, OSError) as error:
        raise UsageError(f"cannot read {file}: {error}") from None
    told = root.findtext("filename") or ""
    picture = pictures.get(name) or pictures.get(Path(told).stem)
    if picture is None:
        if skip_missing:
            skipped["annotated pictures that are missing (data.skip_missing)"] += 1
            return None
        raise UsageError(f"{folder / 'JPEGImages'} has no picture for {file}; data.skip_missing: true leaves such out")
    boxes, names, kinds = [], [], []
    for index, thing in enumerate(root.iter("object"), 1):
        where = f"{file}, object {index}"
        label, box = (thing.findtext("name") or "").strip(), thing.find("bndbox")
        if not label or box is None:
            raise UsageError(f"{where} has no {'name' if not label else 'bndbox'}")
        corners = [number(box.findtext(corner), corner, where) for corner in ("xmin", "ymin", "xmax", "ymax")]
        if first_pixel == 1 and 0 <= min(corners) < 1:
            raise UsageError(
                f"{where}: coordinate {min(corners):g}, but VOC counts pixels from 1; "
                "set data.first_pixel: 0 where a set counts from 0"
            )
        if first_pixel == 1 and corners[0] != corners[2] and corners[1] != corners[3]:
            first = (0, 1) if corners[0] < corners[2] else (2, 1)
            corners[first[0]] -= 1
            corners[1 if corners[1] < corners[3] else 3] -= 1
        boxes.append(corners)
        names.append(label)
        kinds.append(DIFFICULT if (thing.findtext("difficult") or "0").strip() == "1" else ORDINARY)
    marks = Marks(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.arange(len(names)),
        np.array(kinds, dtype=np.uint8),
        str(file),
        _declared(root, file),
    )
    return marks, tuple(names), picture


def _declared(root: ElementTree.Element, file: Path) -> tuple[int, int] | None:
    """(H, W) of the picture; None where the file says nothing, or zero as some tools write."""
    height, width = root.findtext("size/height"), root.findtext("size/width")
    if height is None or width is None:
        return None
    found = int(number(height, "height", str(file))), int(number(width, "width", str(file)))
    return found if min(found) > 0 else None


def _encoded(marks: Marks, names: tuple[str, ...], class_names: tuple[str, ...]) -> Marks:
    """The marks with classes as numbers; raises UsageError for a class that train does not have."""
    unknown = next((name for name in names if name not in class_names), None)
    if unknown is not None:
        raise UsageError(
            f"{marks.where}: class {shortened(unknown)} is in no training picture; valid: {', '.join(class_names)}"
        )
    labels_M = np.array([class_names.index(name) for name in names], dtype=np.int64)
    return Marks(marks.boxes_M4, labels_M, marks.kinds_M, marks.where, marks.declared)
