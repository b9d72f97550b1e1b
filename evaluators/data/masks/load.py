"""Data sets with masks by name, embedded and real, cut into train, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.cluttered import MASK_NAMES, Split, cluttered_masks
from evaluators.data.masks.codes import Declared
from evaluators.data.masks.folders import open_mask_folder
from evaluators.data.masks.options import MaskFolderOptions, MaskTableOptions, PublishedOptions
from evaluators.data.masks.prepare import prepare_masks
from evaluators.data.masks.published import open_camvid, open_cityscapes, open_voc
from evaluators.data.masks.source import MasksFound
from evaluators.data.masks.splits import MaskData, MaskSplit, pixels_of
from evaluators.data.masks.summary import MaskSummary
from evaluators.data.masks.tables import open_tables
from evaluators.data.options import SceneOptions, name_and_options, read_options
from evaluators.data.parquet import Choice, find_tables
from evaluators.data.splits import moments
from spaces.errors import unknown

PUBLISHED = {"voc": open_voc, "cityscapes": open_cityscapes, "camvid": open_camvid}


def list_mask_datasets() -> list[str]:
    """Every form that the data of a segmentation can take."""
    return ["cluttered_digits", "folder:PATH", *(f"{name}:PATH" for name in PUBLISHED), "hf:FOLDER", "hf:OWNER/NAME"]


def load_masks(spec: str | Mapping[str, Any], *, seed: int = 0, **options: Any) -> MaskData:
    """The data set named by ``spec`` (list_mask_datasets); where it has no validation split, ``seed`` cuts one from train.

    A mapping holds the name and options: ``{name: "folder:PATH", ignore: 255}``. docs/segmentation.md says which there are.
    Raises UsageError with one line that names the file or the option.
    """
    name, given = name_and_options(spec, options, list_mask_datasets())
    if name == "cluttered_digits":
        return _scenes(seed, read_options(SceneOptions, name, given))
    source, _, rest = name.partition(":")
    path = Path(rest).expanduser()
    if source == "folder" and rest:
        files = read_options(MaskFolderOptions, name, given)
        found = open_mask_folder(path, max_pixels=files.max_pixels, skip_unmatched=files.skip_unmatched)
        return prepare_masks(name, _declared(found, files.declared), files, seed=seed)
    if source in PUBLISHED and rest:
        chosen = read_options(PublishedOptions, name, given)
        return prepare_masks(name, PUBLISHED[source](path, max_pixels=chosen.max_pixels), chosen, seed=seed)
    if source == "hf" and rest:
        table = read_options(MaskTableOptions, name, given)
        choice = Choice(table.mask, table.image, table.max_pixels)
        found = open_tables(find_tables(rest, table.config), choice)
        return prepare_masks(name, _declared(found, table.declared), table, seed=seed)
    raise unknown("data of a segmentation", name, list_mask_datasets())


def _declared(found: MasksFound, declared: Declared) -> MasksFound:
    return replace(found, declared=declared)


def _scenes(seed: int, options: SceneOptions) -> MaskData:
    """The embedded scenes. Glyphs are split before anything is composed: no glyph is in two splits."""
    scene, sizes = options.scene, {"train": options.train_size, "val": options.val_size, "test": options.test_size}

    def build(split: Split) -> MaskSplit:
        return MaskSplit(*cluttered_masks(split, seed, sizes[split], scene))

    train, val = build("train"), build("val")
    counted = [
        np.stack([pixels_of(mask_HW, len(MASK_NAMES)) for mask_HW in one.masks_NHW.numpy()]) for one in (train, val)
    ]
    mean, std = moments(train.images_NCHW)
    return MaskData(
        name="cluttered_digits",
        train=train,
        val=val,
        class_names=MASK_NAMES,
        in_chans=1,
        size=(scene.canvas, scene.canvas),
        mean=mean,
        std=std,
        flip=False,
        pixels=tuple(counted[0].sum(0).tolist()),
        load_test=lambda: build("test"),
        summary=MaskSummary.of_pixels(
            "cluttered_digits",
            "made from scikit-learn's handwritten digits",
            MASK_NAMES,
            *counted,
            channels=1,
            size=(scene.canvas, scene.canvas),
            test_images=options.test_size,
        ),
    )
