"""Folders of image files: SPLIT/CLASS/*, CLASS/* and the lists of CUB-200-2011."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from evaluators.data.fine_grained import layout_of
from evaluators.data.pixels import MAX_PIXELS, Picture, open_image
from evaluators.data.source import Found, Opened
from evaluators.data.spelling import is_left_behind, name_splits, roles, split_of
from spaces.errors import UsageError

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".gif", ".avif",
)  # fmt: skip
# Folders that lie beside each other where every image has a mask or boxes instead of a class.
PICTURES = {"images", "image", "imgs", "img", "jpegimages"}
TARGETS = {
    "masks",
    "mask",
    "labels",
    "annotations",
    "annotation",
    "segmentation",
    "segmentations",
    "ground_truth",
    "gt",
}
LEFT_BEHIND, NO_IMAGE, OUTSIDE = "hidden or system files", "files that are no images", "images outside of class folders"


@dataclass(frozen=True, eq=False)
class FileSource:
    """Image files and their labels."""

    files: tuple[Path, ...]
    labels: np.ndarray
    class_names: tuple[str, ...] | None
    max_pixels: int = MAX_PIXELS

    def image(self, index: int) -> Picture:
        return open_image(self.files[index], self.where(index), self.max_pixels)

    def where(self, index: int) -> str:
        return str(self.files[index])


def open_folder(folder: Path, max_pixels: int = MAX_PIXELS) -> Opened:
    """FOLDER/SPLIT/CLASS/* with the splits in any usual spelling, FOLDER/CLASS/*, or the lists of a fine-grained set.

    Those are CUB-200-2011, FGVC-Aircraft, Stanford Cars and Stanford Dogs.

    Hidden and system entries are left out and counted. UsageError where it cannot be told what the folders are.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}")
    if (folder / "train_test_split.txt").is_file():
        return open_cub(folder, max_pixels)
    if (known := layout_of(folder)) is not None:
        return known(folder, partial(FileSource, max_pixels=max_pixels))
    skipped: Counter[str] = Counter()
    called = [entry for entry in _folders(folder) if split_of(entry.name)]
    splits = name_splits((entry.name for entry in called if _folders(entry)), str(folder))
    if not splits:
        if len(called) > 1 and any(split_of(entry.name) == "train" for entry in called):
            names = ", ".join(entry.name for entry in called)
            raise UsageError(
                f"{folder}: {names} hold no class folders; expected {called[0]}/CLASS/*.jpg; {_found(folder)}"
            )
        return _without_splits(folder, skipped, max_pixels)
    if "train" not in splits:
        raise UsageError(f"{folder} has {', '.join(sorted(splits.values()))}, but no train; {_found(folder)}")
    val, test, assumed = roles(splits)
    used = [name for name in (splits["train"], val, test) if name is not None]
    class_names = tuple(sorted({entry.name for name in used for entry in _folders(folder / name)}))
    _count_left_behind(folder, skipped)
    beside = [entry.name for entry in _folders(folder) if entry.name not in used]
    if beside:
        assumed += (f"folders beside the splits are not read: {', '.join(beside[:5])}",)
    _refuse_inner_splits(folder / splits["train"])
    _refuse_targets(folder / splits["train"])
    opened = {name: _read(folder / name, class_names, skipped, max_pixels) for name in used}
    train = opened[splits["train"]]
    _check(train, folder / splits["train"])
    for name in used[1:]:
        if val == name and not opened[name].files:
            raise UsageError(f"no images in class folders below {folder / name}; {_found(folder / name)}")
    assumed += _nested(folder / splits["train"])
    found = Found(f"folders {', '.join(used)} of {folder}", skipped=skipped, assumed=assumed)
    if test is None:
        return Opened(train, found)
    held_out = opened[test]

    def open_test() -> FileSource:
        if not held_out.files:
            raise UsageError(f"no images in class folders below {folder / test}; {_found(folder / test)}")
        return held_out

    return Opened(train, found, opened[val] if val is not None else None, open_test, len(held_out.files))


def _without_splits(folder: Path, skipped: Counter[str], max_pixels: int) -> Opened:
    class_names = tuple(sorted(entry.name for entry in _folders(folder)))
    _refuse_inner_splits(folder)
    _refuse_two_levels(folder)
    _refuse_targets(folder)
    source = _read(folder, class_names, skipped, max_pixels)
    _check(source, folder)
    return Opened(source, Found(f"class folders of {folder}", skipped=skipped, assumed=_nested(folder)))


def _folders(folder: Path) -> list[Path]:
    """Sub-folders by name, without those that systems leave behind."""
    with os.scandir(folder) as entries:  # tells folders from files without asking for each of a million files
        return sorted(folder / entry.name for entry in entries if not is_left_behind(entry.name) and entry.is_dir())


def _count_left_behind(root: Path, skipped: Counter[str]) -> None:
    for entry in root.iterdir():
        if is_left_behind(entry.name):
            skipped[LEFT_BEHIND] += sum(path.is_file() for path in entry.rglob("*")) if entry.is_dir() else 1


def _refuse_inner_splits(root: Path) -> None:
    """UsageError for CLASS/SPLIT/*: read as classes, their test images would be trained on."""
    for entry in _folders(root):
        inner = [child.name for child in _folders(entry) if split_of(child.name)]
        if len({split_of(name) for name in inner}) > 1:
            raise UsageError(
                f"{entry} has splits in it ({', '.join(inner)}); expected SPLIT/CLASS/*.jpg; {_found(root)}"
            )


def _refuse_two_levels(root: Path) -> None:
    """UsageError where all folders have the same folders in them: either level may be the classes, the other one splits."""
    inner = [tuple(child.name for child in _folders(entry)) for entry in _folders(root)]
    if len(inner) > 1 and len(inner[0]) > 1 and len(set(inner)) == 1:
        outer = [entry.name for entry in _folders(root)]
        raise UsageError(
            f"{root}: either {', '.join(outer[:3])} or {', '.join(inner[0][:3])} are the classes; call the outer folders "
            f"train, val and test if they are splits, or put them into {root / 'train'} if they are classes"
        )


def _refuse_targets(root: Path) -> None:
    """UsageError for images and masks side by side: they would be two classes."""
    names = [entry.name for entry in _folders(root)]
    pictures, targets = ([name for name in names if name.lower() in known] for known in (PICTURES, TARGETS))
    if pictures and targets:
        raise UsageError(
            f"{root} has {pictures[0]} and {targets[0]} side by side, as for segmentation or detection; "
            f"expected {root}/CLASS/*.jpg"
        )


def _read(root: Path, class_names: tuple[str, ...], skipped: Counter[str], max_pixels: int) -> FileSource:
    """The images of the class folders of one split, in the order of their paths; what is left out goes into `skipped`."""
    pairs: list[tuple[Path, int]] = []
    _count_left_behind(root, skipped)
    for entry in root.iterdir():
        if entry.is_file() and not is_left_behind(entry.name):
            skipped[OUTSIDE if entry.suffix.lower() in IMAGE_SUFFIXES else NO_IMAGE] += 1
    for label, name in enumerate(class_names):
        for file in sorted((root / name).rglob("*")):
            if any(is_left_behind(part) for part in file.relative_to(root).parts):
                skipped[LEFT_BEHIND] += file.is_file()
            elif file.suffix.lower() in IMAGE_SUFFIXES:
                pairs.append((file, label))
            else:
                skipped[NO_IMAGE] += file.is_file()
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    return FileSource(tuple(file for file, _ in pairs), labels, class_names, max_pixels)


def _check(train: FileSource, root: Path) -> None:
    """UsageError that shows what was found where `root` does not hold two classes with images."""
    if not train.files:
        raise UsageError(
            f"no images below {root}; expected {root}/CLASS/*.jpg ({', '.join(IMAGE_SUFFIXES)}); {_found(root)}"
        )
    if len(train.class_names or ()) < 2:
        raise UsageError(f"{root} has only one class folder; valid: two or more; {_found(root)}")


def _found(root: Path) -> str:
    """What lies in a folder, two levels deep, for an error message."""
    folders = _folders(root)
    shown = []
    for entry in folders[:5]:
        inner = [child.name for child in _folders(entry)]
        shown.append(f"{entry.name}/" + (f" with {', '.join(inner[:5])} in it" if inner else ""))
    more = f" and {len(folders) - 5} more" if len(folders) > 5 else ""
    return f"found: {'; '.join(shown)}{more}" if shown else "found no folders in it"


def _nested(root: Path) -> tuple[str, ...]:
    """The sentence that says that folders inside of class folders are no classes, where there are any."""
    inner = [f"{entry.name}/{child.name}" for entry in _folders(root) for child in _folders(entry)]
    if not inner:
        return ()
    return (f"folders inside of class folders are not classes of their own: {', '.join(inner[:3])} ({len(inner)})",)


def open_cub(folder: Path, max_pixels: int = MAX_PIXELS) -> Opened:
    """CUB-200-2011: images.txt, image_class_labels.txt and train_test_split.txt, one line an image, joined by its number."""
    is_train = _lines(folder, "train_test_split.txt")
    return Opened(
        _cub_split(folder, train=True, max_pixels=max_pixels),
        Found(f"the lists of CUB-200-2011 in {folder}"),
        test=lambda: _cub_split(folder, train=False, max_pixels=max_pixels),
        test_images=sum(value != "1" for value in is_train.values()),
    )


def _lines(folder: Path, name: str) -> dict[str, str]:
    if not (folder / name).is_file():
        raise UsageError(f"{folder} looks like CUB-200-2011, but {name} is missing")
    lines = [line.split(maxsplit=1) for line in (folder / name).read_text().splitlines() if line.strip()]
    broken = next((line for line in lines if len(line) < 2), None)
    if broken:
        raise UsageError(f"{folder / name}: line {broken[0]!r} is not a number and what it stands for")
    return {number: text.strip() for number, text in lines}


def _cub_split(folder: Path, *, train: bool, max_pixels: int) -> FileSource:
    def lookup(table: dict[str, str], key: str, name: str) -> str:
        if key not in table:
            raise UsageError(f"{folder / name} has no line for {key}")
        return table[key]

    paths, classes = _lines(folder, "images.txt"), _lines(folder, "image_class_labels.txt")
    is_train, names = _lines(folder, "train_test_split.txt"), _lines(folder, "classes.txt")
    chosen = [key for key in paths if (lookup(is_train, key, "train_test_split.txt") == "1") == train]
    labels = [lookup(classes, key, "image_class_labels.txt") for key in chosen]
    wrong = next((label for label in labels if not label.isdigit()), None)
    if wrong is not None:
        raise UsageError(f"{folder / 'image_class_labels.txt'}: class {wrong!r} is not a number")
    return FileSource(
        tuple(folder / "images" / paths[key] for key in chosen),
        np.array([int(label) - 1 for label in labels], dtype=np.int64),
        tuple(lookup(names, str(index + 1), "classes.txt") for index in range(len(names))),
        max_pixels,
    )
