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
from evaluators.data.masks.options import (
    MaskFolderOptions,
    MaskTableOptions,
    PublishedOptions,
    SceneOptions,
)
from evaluators.data.masks.prepare import prepare_masks
from evaluators.data.masks.published import open_camvid, open_cityscapes, open_voc
from evaluators.data.masks.source import MasksFound
from evaluators.data.masks.splits import MaskData, MaskSplit, pixels_of
from evaluators.data.masks.summary import MaskSummary
from evaluators.data.masks.tables import open_tables
from evaluators.data.options import read_options
from evaluators.data.parquet import Choice, find_hub, find_tables
from evaluators.data.splits import moments
from spaces.errors import UsageError, unknown

PUBLISHED = {"voc": open_voc, "cityscapes": open_cityscapes, "camvid": open_camvid}


def list_mask_datasets() -> list[str]:
    """Every form that the data of a segmentation can take."""
    return ["cluttered_digits", "folder:PATH", *(f"{name}:PATH" for name in PUBLISHED), "hf:FOLDER", "hf:OWNER/NAME"]


def load_masks(spec: str | Mapping[str, Any], *, seed: int = 0, **options: Any) -> MaskData:
    """The data set named by ``spec`` (list_mask_datasets); where it has no validation split, ``seed`` cuts one from train.

    A mapping holds the name and options: ``{name: "folder:PATH", ignore: 255}``. docs/segmentation.md says which there are.
    Raises UsageError with one line that names the file or the option.
    """
    if isinstance(spec, Mapping):
        if "name" not in spec:
            raise UsageError(f"data needs the key 'name'; valid names: {', '.join(list_mask_datasets())}")
        return load_masks(str(spec["name"]), seed=seed, **{key: spec[key] for key in spec if key != "name"}, **options)
    if spec == "cluttered_digits":
        return _scenes(seed, read_options(SceneOptions, spec, options))
    source, _, rest = spec.partition(":")
    path = Path(rest).expanduser()
    if source == "folder" and rest:
        files = read_options(MaskFolderOptions, spec, options)
        found = open_mask_folder(path, max_pixels=files.max_pixels, skip_unmatched=files.skip_unmatched)
        return prepare_masks(spec, _declared(found, files.declared), files, seed=seed)
    if source in PUBLISHED and rest:
        chosen = read_options(PublishedOptions, spec, options)
        return prepare_masks(spec, PUBLISHED[source](path, max_pixels=chosen.max_pixels), chosen, seed=seed)
    if source == "hf" and rest:
        table = read_options(MaskTableOptions, spec, options)
        choice = Choice(table.mask, table.image, table.config, table.max_pixels)
        if not path.is_dir() and (rest.startswith((".", "/", "~")) or rest.count("/") > 1):
            raise UsageError(f"no such folder: {path}")
        tables = find_tables(path, choice.config) if path.is_dir() else find_hub(rest, choice.config)
        return prepare_masks(spec, _declared(open_tables(tables, choice), table.declared), table, seed=seed)
    raise unknown("data of a segmentation", spec, list_mask_datasets())


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
