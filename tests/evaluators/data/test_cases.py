"""Data as people really have them: each case is read as it is meant, or refused in one line that says what is wrong.

Legend: H and W pixels, C channels.
"""

import io
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from evaluators.data import ArraySplit, Data, Split, StreamSplit, load_data
from evaluators.data.batches import make_batches
from evaluators.tasks.classification import Classification
from spaces.errors import UsageError

SIZE = 10, 14  # (H, W)
RAMP = np.linspace(0, 1, 48)[None].repeat(8, 0)
CLASSES = {"names": ["red", "green", "blue"], "_type": "ClassLabel"}
LABELS = [0, 1, 2] * 8


def square(label: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: a bright square in the channel of its class, on noise."""
    image = np.random.default_rng(label).integers(60, 120, (*size, 3)).astype(np.uint8)
    image[2:8, 2:8, label % 3] = 240
    return image


def store(file: Path, picture: np.ndarray | Image.Image, **how: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, **how)


def classes(
    root: Path,
    names: Sequence[str] = ("cat", "dog"),
    count: int = 4,
    suffix: str = ".png",
    make: Callable[[int], np.ndarray | Image.Image] = square,
) -> None:
    """`count` images in a folder for each class."""
    for label, name in enumerate(names):
        for index in range(count):
            store(root / name / f"{index}{suffix}", make(label))


def splits(root: Path, *names: str, **how: Any) -> Path:
    for name in names:
        classes(root / name, **how)
    return root


def png(picture: np.ndarray | Image.Image) -> dict[str, Any]:
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


IMAGES = [png(square(label)) for label in LABELS]


def table(file: Path, features: dict[str, Any] | None = None, **columns: Any) -> str:
    """A parquet file with images and these columns; returns what load_data calls its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = pa.table({"image": IMAGES, **columns})
    described = {"huggingface": json.dumps({"info": {"features": features or {}}})}
    pq.write_table(content.replace_schema_metadata(described), file)
    return f"hf:{file.parent}"


def archive(file: Path, images: np.ndarray, labels: Any, **more: Any) -> str:
    np.savez(file, x_train=images, y_train=np.asarray(labels), **more)
    return f"npz:{file}"


STACK = np.stack([square(label) for label in LABELS])


def refused(spec: str, message: str, **options: Any) -> None:
    """The data, or their test split, are refused in one line that matches."""
    with pytest.raises(UsageError, match=message) as caught:
        load_data(spec, **options).test  # noqa: B018
    assert "\n" not in str(caught.value)


def said(data: Data) -> str:
    return "; ".join(data.summary.assumed)


def levels(data: Data) -> int:
    assert isinstance(data.train, ArraySplit)
    return len(data.train.images_NCHW[0, 0].unique())


# --- which folder is which split --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Test"), ("training", "testing"), ("TRAIN", "Validation"), ("train_set", "test_set"),
        ("Training Images", "eval"), ("train", "valid", "test"), ("train", "dev", "test"), ("01-train", "02-val", "03-test"),
    ],
)  # fmt: skip
def test_splits_are_read_in_any_usual_spelling(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = load_data(f"folder:{splits(tmp_path, *names)}")
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.val)) == ((8, 8) if len(names) == 3 else (6, 2))
    assert len(data.test) == data.summary.splits["test"] == 8


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("val", "test"), r"has test, val, but no train; found: test/ with cat, dog in it"),
        (("train", "Training", "test"), "has both 'Training' and 'train' for train"),
        (("tr", "te"), r"either te, tr or cat, dog are the classes; call the outer folders train"),
        (("cats/train", "cats/test", "dogs/train", "dogs/test"), r"cats has splits in it \(test, train\)"),
        (("train/Animals", "val/Animals"), r"train has only one class folder.*found: Animals/ with cat, dog in it"),
        (("data/images",), "has only one class folder.*found: data/ with images in it"),
    ],
)
def test_folders_that_are_no_splits_are_shown(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    refused(f"folder:{splits(tmp_path, *names)}", message)


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    splits(tmp_path, "train", "test", "unlabelled", "train/cat/close")
    data = load_data(f"folder:{tmp_path}")
    assert "beside the splits are not read: unlabelled" in said(data)
    assert "not classes of their own: cat/close" in said(data)


def test_entries_of_systems_are_skipped_and_counted(tmp_path: Path) -> None:
    splits(tmp_path, "train", "val")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"):
        (tmp_path / "train" / "cat" / name).write_bytes(b"no image")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "#recycle", "lost+found"):
        store(tmp_path / "train" / name / "0.png", square(0))
        store(tmp_path / "train" / "dog" / name / "0.png", square(0))
    store(tmp_path / "__MACOSX" / "cat" / "0.png", square(0))
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    data = load_data(f"folder:{tmp_path}")
    assert data.summary.classes == {"cat": 4, "dog": 4}
    assert data.summary.skipped == {"hidden or system files": 15, "files that are no images": 1}


# --- classes ----------------------------------------------------------------------------------------------------------


def test_few_and_uneven_classes(tmp_path: Path) -> None:
    for name, count in (("rare", 3), ("few", 5), ("many", 90)):
        classes(tmp_path / "train", [name], count)
    data = load_data(f"folder:{tmp_path}")
    assert torch.bincount(data.val.labels_N).min() >= 1
    assert "classes are uneven (many 90, few 5, rare 3)" in data.summary.warnings[0]
    classes(tmp_path / "train", ["single"], 1)
    data = load_data(f"folder:{tmp_path}")
    assert torch.bincount(data.val.labels_N, minlength=4).tolist()[3] == 0
    assert any("no validation image of single" in warning for warning in data.summary.warnings)
    scorer = Classification(data).scorer()
    scorer.update(torch.eye(4)[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 1]))
    assert scorer.compute()["balanced_accuracy"] == 0.5, "every class counts alike"


@pytest.mark.parametrize(
    ("names", "count", "empty", "message"),
    [
        (["cat"], 4, [], "has only one class folder"),
        (["cat", "dog"], 1, [], "each of 2 classes has one training image"),
        (["cat", "dog"], 4, ["train/owl"], "no training image for class owl"),
        (["cat", "dog"], 4, ["test/Cat"], "no training image for class Cat"),
        (["images", "masks"], 4, [], "images and masks side by side, as for segmentation"),
        (["cat", "dog"], 0, ["train/cat"], r"no images below .*train"),
    ],
)
def test_classes_that_cannot_be_learned(
    tmp_path: Path, names: list[str], count: int, empty: list[str], message: str
) -> None:
    classes(tmp_path / "train", names, count)
    for folder in empty:
        (tmp_path / folder).mkdir(parents=True)
    refused(f"folder:{tmp_path}", message)


@pytest.mark.parametrize(
    ("labels", "names", "assumed"),
    [
        ([CLASSES["names"][label] for label in LABELS], ("blue", "green", "red"), ""),
        ([CLASSES["names"][label].encode() for label in LABELS], ("blue", "green", "red"), ""),
        ([label == 1 for label in LABELS], ("False", "True"), ""),
        ([label + 1 for label in LABELS], ("1", "2", "3"), "labels go from 1 to 3"),
        ([float(label) for label in LABELS], ("0", "1", "2"), "whole numbers stored as float64"),
        ([[label] for label in LABELS], ("0", "1", "2"), ""),
    ],
)
def test_labels_of_many_kinds(tmp_path: Path, labels: list[Any], names: tuple[str, ...], assumed: str) -> None:
    data = load_data(archive(tmp_path / "set.npz", STACK, labels))
    assert data.class_names == names
    assert assumed in said(data)
    assert isinstance(data.train, ArraySplit)
    bright = data.train.images_NCHW[:, :, 4, 4].argmax(1)  # the channel of the class
    for label in data.train.labels_N.unique():
        own = bright[data.train.labels_N == label].unique()
        assert len(own) == (2 if names[int(label)] == "False" else 1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([label + 0.5 for label in LABELS], r"0\.5 is no whole number \(a regression\?\)"),
        ([np.nan if label == 0 else label for label in LABELS], "nan is no whole number"),
        ([label - 1 for label in LABELS], "labels -1, 0, 1 are no classes"),
        ([label * 1000 for label in LABELS], "labels 0, 1000, 2000 are no classes"),
        ([label * 2 for label in LABELS], "no training image for class 1, 3"),
        (list(range(24)), "24 different labels for 24 images .* identifier"),
        ([f"patient {index}" for index in range(24)], "24 different labels for 24 images"),
        ([0] * 24, "has only one class, '0'"),
        (np.array(LABELS, dtype=object), "y_train is an array of Python objects"),
        (np.eye(3)[LABELS], r"y_train is float64 \(24, 3\); valid: one label an image"),
        ([""] + ["a", "b"] * 11 + ["a"], "an empty label in row 0"),
        (LABELS[:-1], "with 23 labels"),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, labels: Any, message: str) -> None:
    refused(archive(tmp_path / "set.npz", STACK, labels), message)


# --- which column is which --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "features", "label"),
    [
        ({"hospital": [0, 1] * 12, "target": LABELS}, {"target": CLASSES}, "target"),
        ({"fold": [0, 1] * 12, "label": [CLASSES["names"][label] for label in LABELS]}, {}, "label"),
        ({"fold": [0, 1] * 12, "Label": [label == 1 for label in LABELS]}, {}, "Label"),
        ({"fold": [0, 1] * 12, "label": [label + 1 for label in LABELS]}, {}, "label"),
        ({"fold": [0, 1] * 12, "label": [float(label) for label in LABELS]}, {}, "label"),
        ({"fold": [0, 1] * 12, "about": [{"kind": label} for label in LABELS]}, {"about": {"kind": CLASSES}}, "about.kind"),
        ({"id": list(range(24)), "diagnosis": LABELS}, {}, "diagnosis"),
        ({"coarse_label": [0, 1] * 12, "fine_label": LABELS}, {"fine_label": CLASSES, "coarse_label": CLASSES}, "fine_label"),
        ({"path": [f"{index}.png" for index in range(24)], "kind": pa.array(["a", "b"] * 12).dictionary_encode()}, {}, "kind"),
    ],
)  # fmt: skip
def test_the_label_is_found(tmp_path: Path, columns: dict[str, Any], features: dict[str, Any], label: str) -> None:
    data = load_data(table(tmp_path / "train.parquet", features, **columns))
    assert data.summary.label == label
    assert data.class_names == (("red", "green", "blue") if features else data.class_names)


@pytest.mark.parametrize(
    ("columns", "features", "message"),
    [
        ({"fold": [0, 1] * 12, "diagnosis": LABELS}, {}, "labels in fold or diagnosis; name one in data.label"),
        ({"label": LABELS, "labels": LABELS}, {}, "labels in label or labels; name one in data.label"),
        ({"left": LABELS, "right": LABELS}, {"left": CLASSES, "right": CLASSES}, "labels in left or right"),
        ({"fold": [0, 1] * 12, "label": [[label] for label in LABELS]}, {}, "'label', which is list.*data.label: fold"),
        ({"fold": [0, 1] * 12, "objects": [[label] for label in LABELS]}, {"objects": [CLASSES]}, "'objects', which is list"),
        ({"fold": [0, 1] * 12, "label": [label / 7 for label in LABELS]}, {}, "no whole number"),
        ({"label": [None, *LABELS[1:]]}, {}, "1 labels are missing in column 'label'"),
        ({"text": [f"a photo of {index}" for index in range(24)]}, {}, "no integer label column"),
    ],
)  # fmt: skip
def test_no_label_is_guessed(tmp_path: Path, columns: dict[str, Any], features: dict[str, Any], message: str) -> None:
    spec = table(tmp_path / "train.parquet", features, **columns)
    refused(spec, message)
    if "fold" in columns:
        assert load_data(spec, label="fold").summary.label == "fold"


def test_which_column_holds_the_images(tmp_path: Path) -> None:
    mask = [png(np.zeros(SIZE, np.uint8))] * 24
    data = load_data(table(tmp_path / "masks" / "train.parquet", mask=mask, label=LABELS))
    assert (data.summary.image, data.in_chans) == ("image", 3)
    file = tmp_path / "eyes" / "train.parquet"
    file.parent.mkdir()
    pq.write_table(pa.table({"left": IMAGES, "right": mask, "label": LABELS}), file)
    refused(f"hf:{file.parent}", "has 2 image columns, left, right; name one in data.image")
    assert load_data(f"hf:{file.parent}", image="left").in_chans == 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["full/train-00000-of-00001", "small/train-00000-of-00001"], "2 configurations, full, small; name one in data.config"),
        (["train", "small/train"], r"2 configurations, small, \.; name one in data.config"),
        (["train_full", "train_small"], "not parts of one: train_full.parquet, train_small.parquet"),
        (["train-00000-of-00001", "train"], "not parts of one"),
        (["train-00000-of-00002"], "1 of the 2 files of train"),
        (["0000"], "no train.*found: 0000.parquet"),
    ],
)  # fmt: skip
def test_files_that_are_not_one_data_set(tmp_path: Path, files: list[str], message: str) -> None:
    for file in files:
        table(tmp_path / f"{file}.parquet", label=LABELS)
    refused(f"hf:{tmp_path}", message)


def test_files_that_are_one_data_set(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001"):
        for config in ("full", "small"):
            table(tmp_path / config / f"{name}.parquet", label=LABELS)
    data = load_data(f"hf:{tmp_path}", config="full")
    assert (len(data.train), len(data.val), len(data.test)) == (48, 24, 24)


def test_splits_must_agree_on_their_classes(tmp_path: Path) -> None:
    """The number 0 has to mean the same in all of them."""
    table(tmp_path / "train.parquet", {"label": CLASSES}, label=LABELS)
    other = {**CLASSES, "names": ["blue", "green", "red"]}
    spec = table(tmp_path / "test.parquet", {"label": other}, label=LABELS)
    refused(spec, "class names of test are not those of train: class 0 is 'blue' there and 'red' in train")
    table(tmp_path / "train-1.parquet", {"label": other}, label=LABELS)
    refused(spec, "describes its columns or classes otherwise")


# --- pixels -----------------------------------------------------------------------------------------------------------


def raw_tiff(pixels: np.ndarray) -> bytes:
    """(H, W, C) as an uncompressed TIFF of one strip, as Pillow cannot write it."""
    height, width, bands = pixels.shape
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    bits = 8 * pixels.dtype.itemsize
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, bands), (278, height)]
    tags += [(279, pixels.nbytes), (339, kind)]
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(content)) + content + struct.pack("<H", len(tags)) + entries + bytes(4)
    )


@pytest.mark.parametrize(
    ("pixels", "suffix", "span"),
    [
        ((RAMP * 65535).astype(np.uint16), ".png", (0, 65535)),
        ((RAMP * 4095).astype(np.uint16), ".tif", (0, 4095)),
        ((RAMP * 1023).astype(np.uint16), ".png", (0, 1023)),
        ((RAMP * 100_000).astype(np.int32), ".tif", (0, 100_000)),
        ((RAMP * 3000 - 1000).astype(np.int32), ".tif", (-1000, 2000)),
        (RAMP.astype(np.float32), ".tif", (0, 1)),
        ((RAMP * 255).astype(np.float32), ".tif", (0, 255)),
        ((RAMP * 2 - 1).astype(np.float32), ".tif", (-1, 1)),
        ((RAMP * 255).astype(np.uint8), ".png", None),
    ],
)
def test_the_ramp_survives(tmp_path: Path, pixels: np.ndarray, suffix: str, span: tuple[float, float] | None) -> None:
    splits(tmp_path, "train", "test", suffix=suffix, make=lambda _: pixels)
    data = load_data(f"folder:{tmp_path}")
    assert data.span == span
    assert levels(data) >= 40
    assert isinstance(data.train, ArraySplit)
    full = 255 if span is None else 1
    assert np.abs(data.train.images_NCHW[0, 0].float().numpy() / full - RAMP).max() < 0.01
    assert data.mean[0] == pytest.approx(0.5, abs=0.01)
    assert span is None or f"from {span[0]:g} to {span[1]:g} are scaled to [0, 1] (read from the data" in said(data)
    if span is None:
        return
    streamed = load_data(f"folder:{tmp_path}", image_size=list(RAMP.shape), stream=True)
    pictures = [next(iter(make_batches(of.val, of, 1, torch.device("cpu"), workers=0)))[0] for of in (data, streamed)]
    assert torch.allclose(*pictures, atol=0.02)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64", "float16", "float32", ">u2"])
def test_the_ramp_survives_in_arrays(tmp_path: Path, dtype: str) -> None:
    full = 1 if "float" in dtype else 4095
    pixels = np.broadcast_to((RAMP * full).astype(dtype), (24, *RAMP.shape))
    data = load_data(archive(tmp_path / "set.npz", pixels, LABELS))
    assert (data.span, levels(data)) == ((0, full), 48)
    file = tmp_path / "train.parquet"
    kind = pa.list_(pa.list_(pa.from_numpy_dtype(np.dtype(dtype).newbyteorder("="))))
    cells = pa.array([list(map(list, image.astype(dtype.strip(">")))) for image in pixels], kind)
    pq.write_table(pa.table({"image": cells, "label": LABELS}), file)
    assert load_data(f"hf:{tmp_path}").mean == data.mean


def test_bits_of_colour_survive(tmp_path: Path) -> None:
    """16 bits a channel, of which Pillow alone keeps 8; and pictures of 16 bits in a table."""
    colour = np.stack([RAMP, RAMP[:, ::-1], RAMP / 256], 2)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for index in range(3):
                file = tmp_path / "tiff" / split / name / f"{index}.tif"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(raw_tiff((colour * 65535).astype(np.uint16)))
    data = load_data(f"folder:{tmp_path / 'tiff'}")
    assert isinstance(data.train, ArraySplit)
    assert np.abs(data.train.images_NCHW[0].float().numpy().transpose(1, 2, 0) - colour).max() < 0.001
    assert len(data.train.images_NCHW[0, 2].unique()) >= 40
    deep = [png((RAMP * 65535).astype(np.uint16))] * 24
    assert load_data(table(tmp_path / "hf" / "train.parquet", image=deep, label=LABELS)).span == (0, 65535)


def test_full_brightness_can_be_said(tmp_path: Path) -> None:
    splits(tmp_path, "train", "test", suffix=".tif", make=lambda _: (RAMP * 4095).astype(np.uint16))
    spec = f"folder:{tmp_path}"
    data = load_data(spec, max=65535)
    assert (data.span, data.mean[0]) == ((0, 65535), pytest.approx(0.031, abs=0.001))
    assert "(data.max)" in said(data)
    assert load_data(spec, max=[1000, 3000]).span == (1000, 3000)
    assert "the images go beyond it, to 409" in said(load_data(spec, max=2000))
    refused(spec, "far beyond the 0 to 0.001 of data.max", max=0.001)
    for wrong in (0, -1, "x", True, [3, 1], [1, 2, 3], float("nan")):
        refused(spec, "valid: the value of full brightness above 0", max=wrong)


@pytest.mark.parametrize("value", [np.uint8(7), np.uint16(700), np.uint16(0), np.float32(0.5)])
def test_images_without_variance(tmp_path: Path, value: np.generic) -> None:
    splits(tmp_path, "train", "test", suffix=".tif", make=lambda _: np.full(SIZE, value))
    refused(f"folder:{tmp_path}", "all training images are one even grey")


@pytest.mark.parametrize("odd", ["train", "val", "test"])
def test_splits_of_different_scales(tmp_path: Path, odd: str) -> None:
    """Fractions up to 1 beside values up to 255: one of them would be black, or far beyond white."""
    parts = {"train": STACK / 255, "val": STACK / 255, "test": STACK / 255}
    parts[odd] = STACK.astype(np.float32)
    more = {f"{axis}_{split}": part for split in ("val", "test") for axis, part in (("x", parts[split]), ("y", LABELS))}
    refused(
        archive(tmp_path / "set.npz", parts["train"], LABELS, **more), "where the data set spans 0 to (1|255); bring"
    )


def test_fractions_beside_whole_numbers(tmp_path: Path) -> None:
    splits(tmp_path, "train", "test", suffix=".tif", make=lambda _: RAMP.astype(np.float32))
    store(tmp_path / "train" / "dog" / "9.tif", (RAMP * 65535).astype(np.uint16))
    refused(f"folder:{tmp_path}", "some training images have values from 0 to 1 where the data set spans 0 to 65535")


def test_colour_where_any_image_has_it(tmp_path: Path) -> None:
    splits(tmp_path, "train", "val")
    store(tmp_path / "train" / "cat" / "0.png", Image.fromarray(square(0)).convert("L"))
    data = load_data(f"folder:{tmp_path}")
    assert data.in_chans == 3
    assert "grey ones are repeated" in said(data)
    assert load_data(f"folder:{tmp_path}", channels=1).in_chans == 1
    for file in (tmp_path / "train").rglob("*.png"):
        store(file, Image.open(file).convert("L"))
    refused(f"folder:{tmp_path}", "has colours where the training images have none; set data.channels to 1 or 3")


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [("1", ".png", 1), ("L", ".jpg", 1), ("LA", ".png", 1), ("P", ".png", 3), ("P", ".gif", 3), ("RGBA", ".png", 3),
     ("RGBA", ".tif", 4), ("CMYK", ".jpg", 3), ("CMYK", ".tif", 3), ("YCbCr", ".jpg", 3), ("LAB", ".tif", 3)],
)  # fmt: skip
def test_modes_of_pictures(tmp_path: Path, mode: str, suffix: str, channels: int) -> None:
    def make(label: int) -> Image.Image:
        picture = Image.fromarray(square(label)).convert(mode)
        if mode in ("LA", "RGBA"):
            picture.putalpha(Image.fromarray((RAMP[: SIZE[0], : SIZE[1]] * 255).astype(np.uint8)).resize(SIZE[::-1]))
        return picture

    splits(tmp_path, "train", suffix=suffix, make=make)
    data = load_data(f"folder:{tmp_path}")
    assert data.in_chans == channels
    assert isinstance(data.train, ArraySplit)
    if channels >= 3:
        for image, label in zip(data.train.images_NCHW, data.train.labels_N, strict=True):
            assert image[:3, 4, 4].argmax() == label, "colours are kept"
    assert ("transparency of 8 images is ignored" in said(data)) == (mode in ("LA", "RGBA") and suffix == ".png")
    if mode in ("LA", "RGBA"):
        assert load_data(f"folder:{tmp_path}", channels=len(mode)).in_chans == len(mode)


@pytest.mark.parametrize("bands", [2, 4, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_many_bands(tmp_path: Path, bands: int, dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (24, *SIZE, bands)).astype(dtype)
    data = load_data(archive(tmp_path / "set.npz", pixels, LABELS))
    assert data.in_chans == len(data.mean) == bands
    refused(archive(tmp_path / "set.npz", pixels.transpose(0, 3, 1, 2), LABELS), r"looks like \(C, H, W\)")
    for index, image in enumerate(pixels):
        file = tmp_path / "train" / str(LABELS[index]) / f"{index}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw_tiff(image))
    read = load_data(f"folder:{tmp_path}", val_size=3)
    assert isinstance(read.train, ArraySplit)
    assert (read.in_chans, read.span) == (bands, data.span)
    first = read.train.images_NCHW[0].float().numpy().transpose(1, 2, 0) * (1 if data.span is None else data.span[1])
    assert np.abs(pixels - first).max((1, 2, 3)).min() <= (0 if dtype == np.uint8 else 32), "it is one of those stored"
    refused(f"folder:{tmp_path}", f"has {bands} channels where {bands + 1} are needed", channels=bands + 1)


# How EXIF's orientations 1 to 8 are seen.
SEEN: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud,
    lambda a: a.swapaxes(0, 1), lambda a: np.rot90(a, -1), lambda a: np.rot90(a, 2).swapaxes(0, 1), np.rot90,
]  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_are_turned_as_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    deep = (RAMP * 65535).astype(np.uint16)
    for stored in (square(0), deep):
        exif = Image.Exif()
        exif[274] = orientation
        for name in ("cat", "dog"):
            for index in range(2):
                store(tmp_path / "train" / name / f"{index}{suffix}", stored, exif=exif)
        data = load_data(f"folder:{tmp_path}")
        assert isinstance(data.train, ArraySplit)
        seen = SEEN[orientation - 1](stored)
        assert data.size == seen.shape[:2]
        found = data.train.images_NCHW[0].float().numpy().transpose(1, 2, 0) * (65535 if stored is deep else 1)
        assert np.abs(found - seen.reshape(found.shape)).max() <= (40 if stored is deep else 0)


# --- files that are wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_truncated_image(tmp_path: Path, split: str, suffix: str, stream: bool) -> None:
    splits(tmp_path, "train", "val", "test", suffix=suffix)
    broken = tmp_path / split / "dog" / f"1{suffix}"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) * 2 // 3])
    options: dict[str, Any] = {"image_size": list(SIZE), "stream": stream}
    if split == "test" or not stream:  # streams find it while training
        refused(f"folder:{tmp_path}", f"corrupt image {broken}", **options)
    if split == "test":  # a score is that of all test images
        refused(f"folder:{tmp_path}", f"corrupt image {broken}", skip_corrupt=True, **options)
    else:
        data = load_data(f"folder:{tmp_path}", skip_corrupt=True, **options)
        assert (len(data.train), len(data.val)) == ((7, 8) if split == "train" else (8, 7))
        assert data.summary.skipped == {"corrupt images": 1}
        assert any("1 corrupt images were left out" in warning for warning in data.summary.warnings)
    broken.write_bytes(whole)
    data = load_data(f"folder:{tmp_path}", **options)
    parts: list[Split] = [data.train, data.val, data.test]
    assert [len(part) for part in parts] == [8, 8, 8]


def test_a_mended_test_image_is_read_by_the_same_data(tmp_path: Path) -> None:
    splits(tmp_path, "train", "test")
    broken = tmp_path / "test" / "cat" / "0.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    data = load_data(f"folder:{tmp_path}")
    with pytest.raises(UsageError, match=f"corrupt image {broken}"):
        data.test  # noqa: B018
    broken.write_bytes(whole)
    assert len(data.test) == 8


def test_an_archive_that_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "set.npz"
    archive(file, STACK, LABELS)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no archive"):
        file.write_bytes(content)
        refused(f"npz:{file}", r"cannot read .*: it is no whole \.npz file")
    file.write_bytes(whole[:5000] + bytes(50) + whole[5050:])
    refused(f"npz:{file}", "cannot read x_train of")


def test_keys_of_an_archive(tmp_path: Path) -> None:
    file = tmp_path / "set.npz"
    np.savez(
        file,
        Train_images=STACK,
        Train_labels=LABELS,
        X_dev=STACK,
        Y_dev=LABELS,
        test_images=STACK,
        test_labels=LABELS,
        fold=LABELS,
    )
    data = load_data(f"npz:{file}")
    assert (len(data.train), len(data.val), len(data.test)) == (24, 24, 24)
    assert "arrays that are not read: fold" in said(data)
    refused(archive(file, STACK, LABELS, train_images=STACK, train_labels=LABELS), "has both x_train and train_images")
    refused(archive(file, STACK * 1j, LABELS), "x_train is complex128")
    refused(archive(file, np.where(STACK == 240, np.nan, STACK / 255), LABELS), "not finite")


def test_an_image_of_too_many_pixels(tmp_path: Path) -> None:
    splits(tmp_path, "train", "test")
    huge = tmp_path / "train" / "cat" / "huge.png"
    Image.new("1", (20_000, 9_000)).save(huge)  # 22 kB, 180 million pixels
    message = r"huge.png has 20000x9000 = 180000000 pixels, more than data.max_pixels = 178956970"
    refused(f"folder:{tmp_path}", message, image_size=8)
    refused(f"folder:{tmp_path}", message, image_size=8, skip_corrupt=True)
    huge.unlink()
    refused(f"folder:{tmp_path}", "set data.max_pixels: 140 or more to read it", max_pixels=139)
    assert len(load_data(f"folder:{tmp_path}", max_pixels=140).test) == 8


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "own", "cut"),
    [
        ({"val_size": 0.25}, (8, 2), (6, 2)),
        ({"val_size": 3}, (8, 3), (5, 3)),
        ({"val_size": 8}, (8, 8), "valid: 1 to 7"),
        ({"val_size": 90}, "more than there are, all 8 images are taken", "valid: 1 to 7"),
        ({"val_size": 0}, "val_size 0 leaves no image", "val_size 0 leaves no image"),
        ({"train_size": 0}, "train_size 0 leaves no image", "train_size 0 leaves no image"),
        ({"train_size": 7}, (7, 8), "more than there are, all 6 images are taken"),
        ({"train_size": 0.5}, (4, 8), (3, 2)),
    ],
)
def test_sizes_of_splits(
    tmp_path: Path, option: dict[str, Any], own: tuple[int, int] | str, cut: tuple[int, int] | str
) -> None:
    """With a validation split of its own, and with one cut from train: the numbers, what is said, or why it is refused."""
    splits(tmp_path / "own", "train", "val", "test")
    splits(tmp_path / "cut", "train", "test")
    for name, wanted in (("own", own), ("cut", cut)):
        spec = f"folder:{tmp_path / name}"
        if isinstance(wanted, tuple):
            data = load_data(spec, **option)
            assert (len(data.train), len(data.val)) == wanted
        elif "all" in wanted:
            assert wanted in said(load_data(spec, **option))
        else:
            refused(spec, wanted, **option)


@pytest.mark.parametrize("wrong", [-1, 1.0, 0.0, True, "3", float("nan")])
def test_sizes_that_are_none(tmp_path: Path, wrong: object) -> None:
    for option in ("train_size", "val_size"):
        refused(f"folder:{splits(tmp_path, 'train')}", "valid: a number of images, or a share", **{option: wrong})


def test_sizes_of_images(tmp_path: Path) -> None:
    spec = f"folder:{splits(tmp_path, 'train', 'test')}"
    for stream in (False, True):
        data = load_data(spec, image_size=[6, 9], stream=stream)
        assert data.size == (6, 9)
        assert isinstance(data.train, StreamSplit) == stream
        x_BCHW, _ = next(iter(make_batches(data.test, data, 4, torch.device("cpu"), workers=0)))
        assert x_BCHW.shape[1:] == (3, 6, 9)
    refused(spec, "image size 1000000 is 1000000000000 pixels; valid: up to 16777216", image_size=1_000_000)
    store(tmp_path / "test" / "cat" / "0.png", square(0, (12, 12)))
    refused(spec, r"images differ in size .*; set image_size")
