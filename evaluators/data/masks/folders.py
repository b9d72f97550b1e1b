"""Folders of images beside folders of masks: SPLIT/images + SPLIT/masks, images/SPLIT + masks/SPLIT, or split lists."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from evaluators.data.folders import IMAGE_SUFFIXES, LEFT_BEHIND, NO_IMAGE, PICTURES, TARGETS
from evaluators.data.masks.codes import Declared
from evaluators.data.masks.source import FilePairs, MasksFound
from evaluators.data.source import Found
from evaluators.data.spelling import SPLITS, is_left_behind, name_splits, roles, split_of
from spaces.errors import UsageError

IMAGES, MASKS = PICTURES, TARGETS | {"segmentationclass", "gtfine", "labels_png"}


def open_mask_folder(folder: Path, *, max_pixels: int, skip_unmatched: bool) -> MasksFound:
    """FOLDER/SPLIT/images and masks, FOLDER/images/SPLIT and masks/SPLIT, or FOLDER/images and masks with SPLIT.txt or without.

    Raises UsageError that shows what was found, and that names an image without a mask and a mask without an image.
    """
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}")
    skipped: Counter[str] = Counter()

    def read(images: Path, masks: Path) -> FilePairs:
        return matched(images, masks, skipped, max_pixels=max_pixels, skip_unmatched=skip_unmatched)

    beside = _sides(folder)
    if beside is None:
        return _by_split(folder, skipped, read)
    images, masks = beside
    splits = name_splits((entry.name for entry in _folders(images)), str(images))
    if "train" in splits:
        others = {split_of(entry.name): entry.name for entry in _folders(masks)}

        def read_split(name: str) -> FilePairs:
            other = others.get(split_of(name))
            if other is None:
                raise UsageError(f"{images / name} has no masks: there is no {masks / name}")
            return read(images / name, masks / other)

        return found_of(folder, splits, read_split, skipped)
    lists = {split: file for split in SPLITS for file in [_list_of(folder, split)] if file is not None}
    pairs = read(images, masks)
    if not lists:
        if not len(pairs):
            raise UsageError(f"no images below {images}")
        return MasksFound(pairs, Found(f"{images.name} and {masks.name} of {folder}", skipped=skipped))
    if "train" not in lists:
        raise UsageError(f"{folder} has {', '.join(file.name for file in lists.values())}, but no train.txt")
    return found_of(
        folder,
        {split: file.name for split, file in lists.items()},
        lambda name: _listed(pairs, images, lists, name),
        skipped,
    )


def found_of(
    folder: Path,
    splits: dict[str, str],
    read: Callable[[str], FilePairs],
    skipped: Counter[str],
    declared: Declared | None = None,
    said: Sequence[str] = (),
) -> MasksFound:
    """The splits by their roles; a split is read by its own spelling, and test only when it is asked for."""
    val, test, assumed = roles(splits)
    used = [name for name in (splits["train"], val, test) if name is not None]
    train = read(splits["train"])
    if not len(train):
        raise UsageError(f"no images for {splits['train']} in {folder}")
    held_out = read(test) if test is not None else None

    def open_test() -> FilePairs | None:
        if held_out is not None and not len(held_out):
            raise UsageError(f"no images for {test} in {folder}")
        return held_out

    own = read(val) if val is not None else None
    found = Found(f"{', '.join(used)} of {folder}", skipped=skipped, assumed=(*assumed, *said))
    number = len(held_out) if held_out is not None else None
    return MasksFound(train, found, own, open_test, number, declared or Declared())


def _by_split(folder: Path, skipped: Counter[str], read: Callable[[Path, Path], FilePairs]) -> MasksFound:
    """FOLDER/SPLIT/images and FOLDER/SPLIT/masks; a split without masks is not read, and that is said."""
    sides = {entry.name: _sides(entry) for entry in _folders(folder) if split_of(entry.name)}
    splits = name_splits((name for name, found in sides.items() if found is not None), str(folder))
    if "train" not in splits:
        raise UsageError(
            f"{folder}: expected train/images and train/masks, images/train and masks/train, or images and masks; "
            f"found: {shown_folders(folder)}"
        )
    said = [f"{name} has no masks and is not read" for name, found in sides.items() if found is None]

    def read_split(name: str) -> FilePairs:
        both = sides[name]
        assert both is not None
        return read(*both)

    return found_of(folder, splits, read_split, skipped, said=said)


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if not is_left_behind(entry.name) and entry.is_dir())


def _sides(folder: Path) -> tuple[Path, Path] | None:
    """The folder of images and that of masks which lie in a folder; UsageError where there are several of one kind."""
    found = []
    for what, known in (("images", IMAGES), ("masks", MASKS)):
        named = [entry for entry in _folders(folder) if entry.name.lower() in known]
        if len(named) > 1:
            names = ", ".join(entry.name for entry in named)
            raise UsageError(f"{folder} has {len(named)} folders that may hold the {what}, {names}; leave one of them")
        found += named
    return (found[0], found[1]) if len(found) == 2 else None


def matched(images: Path, masks: Path, skipped: Counter[str], *, max_pixels: int, skip_unmatched: bool) -> FilePairs:
    """The pairs of one split, by their paths without ending, in order.

    A mask may be called as its image with something added that is the same for all (`x_mask.png`). UsageError for what has no
    counterpart, unless that is to be skipped and counted.
    """
    pictures, targets = _files(images, skipped), _files(masks, skipped)
    ending = ""
    if pictures and not pictures.keys() & targets.keys():
        some = next(iter(pictures))
        endings = [name[len(some) :] for name in targets if name.startswith(some)]
        ending = next((one for one in endings if all(name.endswith(one) for name in targets)), "")
    targets = {name.removesuffix(ending): file for name, file in targets.items()}
    lonely = [pictures[name] for name in pictures if name not in targets]
    loose = [targets[name] for name in targets if name not in pictures]
    if (lonely or loose) and not skip_unmatched:
        what, files, folder = ("image", lonely, masks) if lonely else ("mask", loose, images)
        more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
        other = "mask" if lonely else "image"
        raise UsageError(
            f"{what} {files[0]}{more} has no {other} of its name in {folder}; data.skip_unmatched: true leaves such files out"
        )
    skipped["images without a mask"] += len(lonely)
    skipped["masks without an image"] += len(loose)
    both = [name for name in pictures if name in targets]
    return FilePairs(tuple(pictures[name] for name in both), tuple(targets[name] for name in both), max_pixels)


def _files(root: Path, skipped: Counter[str]) -> dict[str, Path]:
    """{path below root without ending: file}, in order. UsageError where two files have one name."""
    found: dict[str, Path] = {}
    for file in sorted(root.rglob("*")):
        if not file.is_file():
            continue
        if any(is_left_behind(part) for part in file.relative_to(root).parts):
            skipped[LEFT_BEHIND] += 1
        elif file.suffix.lower() not in IMAGE_SUFFIXES:
            skipped[NO_IMAGE] += 1
        else:
            name = str(file.relative_to(root).with_suffix(""))
            if name in found:
                raise UsageError(f"{found[name]} and {file} have one name; leave one of them")
            found[name] = file
    return found


def _list_of(folder: Path, split: str) -> Path | None:
    """The list of a split, SPLIT.txt in the folder or in one of its own for lists."""
    for where in (folder, folder / "splits", folder / "lists", folder / "ImageSets"):
        if where.is_dir():
            files = sorted(file for file in where.glob("*.txt") if split_of(file.stem) == split)
            if len(files) > 1:
                raise UsageError(f"{where} has several lists for {split}: {', '.join(file.name for file in files)}")
            if files:
                return files[0]
    return None


def _listed(pairs: FilePairs, images: Path, lists: dict[str, Path], name: str) -> FilePairs:
    """The pairs that a list names, with or without ending, as a path below the images or from the data set's folder."""
    file = next(file for file in lists.values() if file.name == name)
    rows = {str(path.relative_to(images).with_suffix("")): row for row, path in enumerate(pairs.images)}
    chosen = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        path = Path(words[0].lstrip("/"))
        whole = str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else str(path)
        row = rows.get(whole, rows.get(whole.removeprefix(f"{images.name}/")))
        if row is None:
            raise UsageError(f"{file}, line {number}: there is no image {words[0]} with a mask in {images}")
        chosen.append(row)
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"{file} names an image twice")
    return FilePairs(
        tuple(pairs.images[row] for row in chosen), tuple(pairs.masks[row] for row in chosen), pairs.max_pixels
    )


def shown_folders(folder: Path) -> str:
    """What lies in a folder, for an error message."""
    names = [
        entry.name + ("/" if entry.is_dir() else "")
        for entry in sorted(folder.iterdir())
        if not is_left_behind(entry.name)
    ]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"
