"""Data sets by name, embedded and real, cut into train, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluators.data import embedded
from evaluators.data.arrays import open_npz
from evaluators.data.folders import open_folder
from evaluators.data.options import (
    ArrayOptions,
    ClutterOptions,
    DigitsOptions,
    DownloadOptions,
    FolderOptions,
    TableOptions,
    name_and_options,
    read_options,
)
from evaluators.data.parquet import Choice, find_tables, open_tables
from evaluators.data.real import prepare
from evaluators.data.splits import ArraySplit, Data, Split, StreamSplit
from evaluators.data.summary import Summary
from evaluators.data.vision import TORCHVISION, open_set
from spaces.errors import unknown

__all__ = ["ArraySplit", "Data", "Split", "StreamSplit", "Summary", "list_datasets", "load_data"]

# Sets whose classes change when the image is mirrored: digits and letters read differently, asymmetric garments do not.
NO_FLIP = ("svhn",)


def list_datasets() -> list[str]:
    """Every form that the `spec` of load_data can take."""
    return ["cluttered_digits", "digits", *TORCHVISION, "hf:FOLDER", "hf:OWNER/NAME", "folder:PATH", "npz:FILE"]


def load_data(spec: str | Mapping[str, Any], *, seed: int = 0, **options: Any) -> Data:
    """The data set named by `spec` (list_datasets), with its validation split cut from train by `seed`.

    A mapping holds the name and options: `{name: "hf:FOLDER", train_size: 10000}`. docs/data.md says which there are.

    Everything returned is a pure function of the data and the seed; the test split is not decoded before `.test` is read.
    `Data.summary` says what was taken, left out and assumed.
    Raises UsageError with one line that names the file or the option.
    """
    name, given = name_and_options(spec, options, list_datasets())
    if name == "cluttered_digits":
        chosen = read_options(ClutterOptions, name, given)
        clutter = embedded.Clutter(
            chosen.image_size, chosen.glyph, chosen.fragments, chosen.fragment, chosen.contrast, chosen.noise
        )
        sizes = {"train_size": chosen.train_size, "val_size": chosen.val_size, "test_size": chosen.test_size}
        return embedded.cluttered_digits(seed, **sizes, clutter=clutter)
    if name == "digits":
        return embedded.digits(seed, image_size=read_options(DigitsOptions, name, given).image_size)
    return _real(name, seed, given)


def _real(spec: str, seed: int, given: Mapping[str, Any]) -> Data:
    """Images of somebody else's, by the kind of their source."""
    source, _, rest = spec.partition(":")
    path = Path(rest).expanduser()
    flip = spec not in NO_FLIP
    if source == "hf" and rest:
        table = read_options(TableOptions, spec, given)
        choice = Choice(table.label, table.image, table.max_pixels)
        return prepare(spec, open_tables(find_tables(rest, table.config), choice), table, seed=seed, flip=flip)
    if source == "folder" and rest:
        files = read_options(FolderOptions, spec, given)
        return prepare(spec, open_folder(path, files.max_pixels), files, seed=seed, flip=flip)
    if source == "npz" and rest:
        arrays = read_options(ArrayOptions, spec, given)
        return prepare(spec, open_npz(path), arrays, seed=seed, flip=flip)
    if spec in TORCHVISION:
        download = read_options(DownloadOptions, spec, given)
        return prepare(spec, open_set(spec, Path(download.root).expanduser()), download, seed=seed, flip=flip)
    raise unknown("data", spec, list_datasets())
