"""Data sets for detection by name: the embedded scenes, and the published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from evaluators.data.boxes.coco import open_coco
from evaluators.data.boxes.hub import BoxChoice, open_tables
from evaluators.data.boxes.objects import Objects
from evaluators.data.boxes.prepare import prepare_boxes
from evaluators.data.boxes.splits import BoxData, BoxSplit
from evaluators.data.boxes.summary import summarise
from evaluators.data.boxes.voc import open_voc
from evaluators.data.boxes.yolo import open_yolo
from evaluators.data.cluttered import Split, cluttered_boxes
from evaluators.data.embedded import CLASS_NAMES
from evaluators.data.options import FolderOptions, Made, SceneOptions, name_and_options, read_options
from evaluators.data.parquet import find_tables
from evaluators.data.splits import moments
from spaces.errors import unknown

LAYOUTS = ("cluttered_digits", "voc:FOLDER", "coco:FOLDER", "yolo:FOLDER", "hf:FOLDER", "hf:OWNER/NAME")


class BoxSceneOptions(SceneOptions):
    """Scenes with boxes; how many there are without being told differs from scenes with masks."""

    train_size: Made = Field(default=1200, description="training pictures")
    val_size: Made = Field(default=300, description="validation pictures")
    test_size: Made = Field(default=600, description="test pictures")


class FileOptions(FolderOptions):
    """Pictures in files."""

    skip_missing: bool = Field(default=False, description="leave out, and count, annotated pictures that are not there")


class VocOptions(FileOptions):
    """Pascal VOC."""

    first_pixel: Literal[0, 1] = Field(default=1, description="what the files count pixels from")


class TableBoxOptions(FolderOptions):
    """Tables of Hugging Face."""

    objects: str | None = Field(default=None, description="the column of boxes and classes")
    image: str | None = Field(default=None, description="the column of images")
    config: str | None = Field(default=None, description="the configuration of a set that has several")
    box_format: Literal["xywh", "xyxy", "cxcywh"] | None = Field(
        default=None, description="what boxes are written as; None: found out"
    )


def load_boxes(spec: str | Mapping[str, Any], *, seed: int = 0, **options: Any) -> BoxData:
    """The detection set named by ``spec`` (LAYOUTS), or by a mapping of its name and options; docs/detection.md has them.

    All is a pure function of the data and the seed; the test split is read when ``.test`` is. Raises UsageError in one line
    that names the file or the option.
    """
    name, given = name_and_options(spec, options, LAYOUTS)
    if name == "cluttered_digits":
        return _scenes(seed, read_options(BoxSceneOptions, name, given))
    source, _, rest = name.partition(":")
    folder = Path(rest).expanduser()
    if source == "voc" and rest:
        voc = read_options(VocOptions, name, given)
        found = open_voc(folder, voc.max_pixels, first_pixel=voc.first_pixel, skip_missing=voc.skip_missing)
        return prepare_boxes(name, found, voc, seed=seed, flip=True)
    if source == "coco" and rest:
        coco = read_options(FileOptions, name, given)
        found = open_coco(folder, coco.max_pixels, skip_missing=coco.skip_missing)
        return prepare_boxes(name, found, coco, seed=seed, flip=True)
    if source == "yolo" and rest:
        yolo = read_options(FolderOptions, name, given)
        return prepare_boxes(name, open_yolo(folder, yolo.max_pixels), yolo, seed=seed, flip=True)
    if source == "hf" and rest:
        table = read_options(TableBoxOptions, name, given)
        choice = BoxChoice(table.objects, table.image, table.box_format, table.max_pixels)
        return prepare_boxes(name, open_tables(find_tables(rest, table.config), choice), table, seed=seed, flip=True)
    raise unknown("data of the task 'detection'", name, LAYOUTS)


def _scenes(seed: int, chosen: SceneOptions) -> BoxData:
    """Cluttered digits with boxes; digits read differently in a mirror, so they are not flipped."""
    scene, size = chosen.scene, (chosen.image_size, chosen.image_size)

    def build(split: Split, count: int) -> BoxSplit:
        images_NCHW, targets = cluttered_boxes(split, seed, count, scene)
        objects = []
        for target in targets:
            boxes_M4 = target["boxes"].numpy()
            areas_M = (boxes_M4[:, 2:] - boxes_M4[:, :2]).prod(1)
            kinds_M = np.zeros(len(boxes_M4), np.uint8)
            objects.append(Objects(boxes_M4, target["labels"].numpy(), kinds_M, areas_M))
        return BoxSplit(tuple(objects), np.full((count, 2), chosen.image_size), images_NCHW)

    train, val = build("train", chosen.train_size), build("val", chosen.val_size)
    mean, std = moments(train.images_NCHW)  # type: ignore[arg-type]  # it is in memory
    summary = summarise(
        "cluttered_digits",
        "made from scikit-learn's handwritten digits",
        CLASS_NAMES,
        train.objects,
        val.objects,
        channels=1,
        size=size,
        own_validation=True,
        test_images=chosen.test_size,
    )
    return BoxData(
        name="cluttered_digits",
        train=train,
        val=val,
        class_names=CLASS_NAMES,
        in_chans=1,
        size=size,
        mean=mean,
        std=std,
        flip=False,
        load_test=lambda: build("test", chosen.test_size),
        summary=summary,
    )
