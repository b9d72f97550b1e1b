"""Videos by published lists: UCF-101 (and HMDB-51's form of it) with its three folds, Kinetics, and lists of paths with labels.

A video that a list names and that is not there (of Kinetics every year more) is left out and counted.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from evaluators.data.clips.folders import is_video, opener
from evaluators.data.clips.found import Listed, VideosFound
from evaluators.data.clips.videos import has_frames
from evaluators.data.spelling import split_of_file
from spaces.errors import UsageError, shortened

MISSING = "videos of the lists that are not there"
Row = tuple[str, str]  # the video as the list names it, and its label


def is_ucf(folder: Path) -> bool:
    """Whether a folder has the lists of UCF-101 in it, or one level down."""
    return bool(_ucf_lists(folder))


def is_kinetics(folder: Path) -> bool:
    """Whether a folder has lists as .csv of which one is of train."""
    return "train" in _csv_lists(folder)


def open_ucf(folder: Path, fold: int) -> VideosFound:
    """UCF-101: trainlist01.txt ... testlist03.txt, with the videos in CLASS folders anywhere below.

    The groups of its names (g01 to g25) are of one recording each; validation takes whole ones.
    """
    lists = _ucf_lists(folder)
    if not lists:
        raise UsageError(f"{folder} has no trainlist01.txt and testlist01.txt, in it or in a folder of it")
    wanted = {split: lists.get((split, fold)) for split in ("train", "test")}
    if None in wanted.values():
        folds = sorted({number for _, number in lists})
        raise UsageError(f"data.fold {fold}: {folder} has the folds {', '.join(map(str, folds))}")
    rows = {split: _ucf_rows(path) for split, path in wanted.items() if path is not None}
    names = tuple(sorted({label for found in rows.values() for _, label in found}))
    here = _by_name(folder, {Path(name).stem for found in rows.values() for name, _ in found})
    skipped: Counter[str] = Counter()
    listed = {split: _listed(found, names, here, skipped, folder) for split, found in rows.items()}
    taken = f"fold {fold} of the lists in {folder}"
    return VideosFound(taken, names, listed["train"], None, listed["test"], flip=True, skipped=skipped)


def _ucf_lists(folder: Path) -> dict[tuple[str, int], Path]:
    found = {}
    for path in [*folder.glob("*list*.txt"), *folder.glob("*/*list*.txt")]:
        match = re.fullmatch(r"(train|test)list0?(\d+)", path.stem.lower())
        if match:
            found[match[1], int(match[2])] = path
    return found


def _ucf_rows(path: Path) -> list[Row]:
    """CLASS/VIDEO.avi, in lists of train followed by the number of the class."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        name = line.split()[0] if line.split() else ""
        if not name:
            continue
        label, slash, _ = name.replace("\\", "/").rpartition("/")
        if not slash:
            raise UsageError(f"{path}, line {number}: {shortened(line)}; valid: CLASS/VIDEO.avi")
        rows.append((name, label))
    return rows


def open_kinetics(folder: Path) -> VideosFound:
    """Kinetics: train.csv, val.csv (or validate.csv), test.csv with columns label, youtube_id, time_start and time_end.

    Or lists without a header, of a path and a label in each line. Videos may lie anywhere below the folder. Validation of
    Kinetics is what papers test on: it is the test set here where test.csv has no labels or is missing.
    """
    lists = _csv_lists(folder)
    if "train" not in lists:
        raise UsageError(f"{folder} has no train.csv")
    rows = {split: found for split, path in lists.items() if (found := _csv_rows(path))}
    if "train" not in rows:
        raise UsageError(f"{lists['train']} has no videos with a label")
    names = tuple(sorted({label for found in rows.values() for _, label in found}, key=_as_number))
    here = _by_name(folder, {Path(name).stem for found in rows.values() for name, _ in found})
    skipped: Counter[str] = Counter()
    listed = {split: _listed(found, names, here, skipped, folder) for split, found in rows.items()}
    assumed: tuple[str, ...] = ()
    val, test = listed.get("val"), listed.get("test")
    if test is None and val is not None:
        val, test = None, val
        assumed = (f"{lists['val'].name} is the test set, since no other has labels; validation is cut from train",)
    return VideosFound(
        f"the lists in {folder}", names, listed["train"], val, test, flip=True, skipped=skipped, assumed=assumed
    )


def _csv_lists(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("*.csv"), *folder.glob("annotations/*.csv")]):
        split = split_of_file(path.stem)
        if split in found:
            raise UsageError(f"{folder} has both {found[split].name} and {path.name} for {split}; leave one of them")
        if split is not None:
            found[split] = path
    return found


def _csv_rows(path: Path) -> list[Row]:
    """What a list names; lines without a label (of test sets) are left out."""
    text = path.read_text().splitlines()
    first = [word.strip().lower() for word in next(csv.reader(text[:1]), [])]
    if "youtube_id" in first:
        rows = csv.DictReader(text[1:], fieldnames=first)
        return [(_kinetics_name(row, path), row["label"].strip()) for row in rows if (row.get("label") or "").strip()]
    return [_pair(line, path, number) for number, line in enumerate(text, start=1) if line.strip()]


def _kinetics_name(row: Mapping[str, str], path: Path) -> str:
    """ID_000010_000020, as the download scripts call the file."""
    try:
        start, end = (int(float(row[name])) for name in ("time_start", "time_end"))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError(f"{path}: {row.get('youtube_id')!r} has no time_start and time_end") from None
    return f"{row['youtube_id'].strip()}_{start:06d}_{end:06d}"


def _pair(line: str, path: Path, number: int) -> Row:
    """A path and a label, by a comma or by the last blank."""
    name, sep, label = line.strip().rpartition("," if "," in line else " ")
    if not sep or not name.strip():
        raise UsageError(
            f"{path}, line {number}: {shortened(line)}; valid: a path and a label, or the columns of Kinetics"
        )
    return name.strip(), label.strip()


def _as_number(label: str) -> tuple[int, int, str]:
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)


def _by_name(folder: Path, wanted: set[str]) -> dict[str, Path]:
    """Video files and folders of frames below a folder, by their name without suffix; UsageError for two of one name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        stem = path.name if path.is_dir() else path.stem
        if stem in wanted and (is_video(path) or (path.is_dir() and has_frames(path))):
            if stem in found:
                raise UsageError(
                    f"{found[stem]} and {path} are both {stem}, which the lists name once; leave one of them"
                )
            found[stem] = path
    return found


def _listed(
    rows: Iterable[Row], names: tuple[str, ...], here: Mapping[str, Path], skipped: Counter[str], folder: Path
) -> Listed:
    rows = list(rows)
    there = [(here[Path(name).stem], label) for name, label in rows if Path(name).stem in here]
    skipped[MISSING] += len(rows) - len(there)
    if not there:
        raise UsageError(f"none of {len(rows)} videos of a list is below {folder}, first {rows[0][0]}")
    number = {name: index for index, name in enumerate(names)}
    groups = [re.search(r"_g(\d+)_c\d+$", path.stem) for path, _ in there]
    return Listed(
        tuple(opener(path) for path, _ in there),
        np.array([number[label] for _, label in there], dtype=np.int64),
        tuple(str(path) for path, _ in there),
        tuple(group[1] for group in groups if group) if all(groups) else None,
    )
