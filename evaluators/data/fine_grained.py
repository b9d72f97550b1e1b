"""The layouts of fine-grained sets, known by their own files: FGVC-Aircraft, Stanford Cars and Stanford Dogs.

(CUB-200-2011 is in ``folders``.) Each has its published split into train and test; FGVC-Aircraft has a validation split too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.source import Found, Opened
from evaluators.data.spelling import is_left_behind
from spaces.errors import UsageError

# Makes the source of one split: files, labels from 0, names of the classes.
Make = Callable[[tuple[Path, ...], np.ndarray, tuple[str, ...]], Any]
Split = tuple[tuple[Path, ...], np.ndarray]


def layout_of(folder: Path) -> Callable[[Path, Make], Opened] | None:
    """What reads a folder, where its files say that it is one of these sets."""
    if (_aircraft_home(folder) / "images_variant_train.txt").is_file():
        return open_aircraft
    if _cars_lists(folder):
        return open_cars
    if (folder / "train_list.mat").is_file() and (folder / "Images").is_dir():
        return open_dogs
    return None


# --- FGVC-Aircraft ----------------------------------------------------------------------------------------------------


def open_aircraft(folder: Path, make: Make) -> Opened:
    """fgvc-aircraft-2013b: images_variant_train.txt, _val.txt, _test.txt, lines of an image and its variant (100 classes)."""
    home = _aircraft_home(folder)
    rows = {split: _variants(home / f"images_variant_{split}.txt") for split in ("train", "val", "test")}
    names = tuple(sorted({name for found in rows.values() for _, name in found}))
    number = {name: index for index, name in enumerate(names)}

    def source(split: str) -> Any:
        files = tuple(home / "images" / f"{image}.jpg" for image, _ in rows[split])
        return make(files, np.array([number[name] for _, name in rows[split]], dtype=np.int64), names)

    found = Found(f"the variants of FGVC-Aircraft in {home}")
    return Opened(source("train"), found, source("val"), partial(source, "test"), len(rows["test"]))


def _aircraft_home(folder: Path) -> Path:
    return folder / "data" if (folder / "data").is_dir() else folder


def _variants(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise UsageError(f"{path.parent} looks like FGVC-Aircraft, but {path.name} is missing")
    rows = [line.strip().split(maxsplit=1) for line in path.read_text().splitlines() if line.strip()]
    broken = next((row for row in rows if len(row) < 2), None)
    if broken:
        raise UsageError(f"{path}: line {broken[0]!r} is not an image and its variant")
    return [(image, name) for image, name in rows]


# --- Stanford Cars and Dogs, whose lists are of Matlab ----------------------------------------------------------------


def open_cars(folder: Path, make: Make) -> Opened:
    """cars_train/ and cars_test/ with devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat and cars_meta.mat."""
    lists = _cars_lists(folder)
    names = tuple(map(str, _matlab(lists["meta"])["class_names"].tolist()))

    def split(key: str, home: str) -> Split:
        rows = np.atleast_1d(_matlab(lists[key])["annotations"])
        files = tuple(folder / home / str(row["fname"]) for row in rows)
        return files, np.array([int(row["class"]) - 1 for row in rows], dtype=np.int64)

    train = make(*split("train", "cars_train"), names)
    found = Found(f"the lists of Stanford Cars in {folder}")
    if "test" not in lists:
        return Opened(train, found)
    test = split("test", "cars_test")
    return Opened(train, found, None, lambda: make(*test, names), len(test[0]))


def _cars_lists(folder: Path) -> dict[str, Path]:
    """train, test and meta: the .mat files where they usually lie; empty unless train and meta are there."""
    places = (folder, folder / "devkit", folder / "car_devkit" / "devkit")
    files = {"train": "cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat", "meta": "cars_meta.mat"}
    found = {key: home / name for key, name in files.items() for home in places if (home / name).is_file()}
    return found if {"train", "meta"} <= set(found) else {}


def open_dogs(folder: Path, make: Make) -> Opened:
    """Images/BREED/*.jpg with train_list.mat and test_list.mat."""
    names = tuple(
        entry.name
        for entry in sorted((folder / "Images").iterdir())
        if entry.is_dir() and not is_left_behind(entry.name)
    )
    number = {name: index for index, name in enumerate(names)}

    def split(name: str) -> Split:
        if not (folder / name).is_file():
            raise UsageError(f"{folder} looks like Stanford Dogs, but {name} is missing")
        paths = [str(path) for path in np.atleast_1d(_matlab(folder / name)["file_list"]).tolist()]
        breeds = [path.partition("/")[0] for path in paths]
        lost = next((breed for breed in breeds if breed not in number), None)
        if lost is not None:
            raise UsageError(f"{folder / name} names {lost!r}, which is no folder of {folder / 'Images'}")
        return tuple(folder / "Images" / path for path in paths), np.array(
            [number[breed] for breed in breeds], dtype=np.int64
        )

    train, test = split("train_list.mat"), split("test_list.mat")
    found = Found(f"the lists of Stanford Dogs in {folder}")
    return Opened(make(*train, names), found, None, lambda: make(*test, names), len(test[0]))


def _matlab(path: Path) -> dict[str, Any]:
    """The variables of a .mat file; UsageError where it is broken."""
    from scipy.io import loadmat  # here because few need it

    try:
        read: dict[str, Any] = loadmat(str(path), squeeze_me=True)
    except Exception as error:  # scipy has several of its own, and NumPy's
        raise UsageError(
            f"cannot read {path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    return read
