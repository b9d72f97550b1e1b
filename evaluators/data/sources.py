"""The sources of images: Hugging Face parquet, folders, torchvision's sets and .npz files.

Nothing is decoded before it is asked for.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from evaluators.data.splits import Source
from spaces.errors import UsageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
# A local parquet folder larger than this is memory-mapped through Hugging Face's Arrow cache instead of being read whole.
MAPPED_BYTES = 2 * 1024**3


def open_image(file: Path | io.BytesIO, where: str) -> Image.Image:
    """A fully decoded image; a broken one raises UsageError naming its file."""
    try:
        with Image.open(file) as image:
            image.load()
            return image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"corrupt image {where}: {error}".replace("\n", " ")) from error


@dataclass(frozen=True, eq=False)
class TableSource:
    """An Arrow table in the way Hugging Face stores images: a struct of bytes and path, and an integer label."""

    table: pa.Table
    name: str
    image_column: str
    labels: np.ndarray
    class_names: tuple[str, ...] | None

    def image(self, index: int) -> Image.Image:
        cell = self.table[self.image_column][index].as_py() or {}
        if cell.get("bytes") is None and not cell.get("path"):
            raise UsageError(f"corrupt image {self.where(index)}: neither bytes nor path")
        content = cell.get("bytes")
        return open_image(Path(cell["path"]) if content is None else io.BytesIO(content), self.where(index))

    def where(self, index: int) -> str:
        return f"row {index} of {self.name}"


def table_source(table: pa.Table, name: str) -> TableSource:
    """Finds the image and the label column of a table, and the class names in Hugging Face's own metadata."""
    images = [
        field.name
        for field in table.schema
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    integers = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    if not images:
        raise UsageError(
            f"{name} has no image column (a struct of bytes and path); its columns: {', '.join(table.column_names)}"
        )
    label = next((column for column in ("label", "labels", "fine_label") if column in integers), None) or next(
        iter(integers), None
    )
    if label is None:
        raise UsageError(f"{name} has no integer label column; its columns: {', '.join(table.column_names)}")
    if table[label].null_count:
        raise UsageError(f"{name}: {table[label].null_count} labels are missing in column {label!r}")
    metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(label, {})
    names = feature.get("names")
    return TableSource(
        table, name, images[0], table[label].to_numpy().astype(np.int64), tuple(map(str, names)) if names else None
    )


def open_parquet(folder: Path, split: str) -> Source | None:
    """The parquet files of one split, found by their names (`train-00000-of-00001.parquet`, `data/train.parquet` ...)."""
    names = ("train",) if split == "train" else ("test", "validation", "val", "valid")
    files = sorted(folder.rglob("*.parquet"))
    for name in names:
        chosen = [file for file in files if file.stem.split("-")[0] == name or file.parent.name == name]
        if chosen:
            label = f"{folder.name}/{name}"
            if sum(file.stat().st_size for file in chosen) > MAPPED_BYTES:
                import datasets

                loaded = datasets.load_dataset("parquet", data_files=[str(file) for file in chosen], split="train")
                return table_source(loaded.data.table, label)
            try:
                return table_source(pa.concat_tables([pq.read_table(file) for file in chosen]), label)
            except (pa.ArrowInvalid, OSError) as error:
                raise UsageError(f"cannot read the parquet files of {folder}: {error}".splitlines()[0]) from error
    if split == "train":
        raise UsageError(f"no train*.parquet below {folder}")
    return None


def open_hub(name: str, split: str) -> Source | None:
    """A data set of the Hugging Face hub by name, downloaded into the hub's own cache."""
    import datasets

    try:
        available = datasets.get_dataset_split_names(name)
        wanted = ("train",) if split == "train" else ("test", "validation", "valid", "val")
        chosen = next((candidate for candidate in wanted if candidate in available), None)
        if chosen is None:
            return None
        loaded = datasets.load_dataset(name, split=chosen)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"hf:{name} is neither a folder nor a data set of the hub: {str(error).splitlines()[0]}"
        ) from error
    return table_source(loaded.data.table, f"{name}/{chosen}")


@dataclass(frozen=True, eq=False)
class FileSource:
    """Image files and their labels."""

    files: tuple[Path, ...]
    labels: np.ndarray
    class_names: tuple[str, ...] | None

    def image(self, index: int) -> Image.Image:
        return open_image(self.files[index], self.where(index))

    def where(self, index: int) -> str:
        return str(self.files[index])


def open_folder(folder: Path, split: str) -> Source | None:
    """ImageNet's layout (FOLDER/train/CLASS/*, FOLDER/test or val), CUB-200-2011's, or FOLDER/CLASS/* without a test split."""
    if not folder.is_dir():
        raise UsageError(f"no such folder: {folder}")
    if (folder / "train_test_split.txt").is_file():
        return open_cub(folder, split)
    if (folder / "train").is_dir():
        held_out = next((folder / name for name in ("test", "val", "validation") if (folder / name).is_dir()), None)
        root = folder / "train" if split == "train" else held_out
        folders = [folder / "train", *([held_out] if held_out else [])]
        class_names = tuple(sorted({entry.name for part in folders for entry in part.iterdir() if entry.is_dir()}))
    else:
        root = folder if split == "train" else None
        class_names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    if root is None:
        return None
    files = [
        (file, label)
        for label, name in enumerate(class_names)
        for file in sorted((root / name).rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not files:
        raise UsageError(f"no images below {root}; expected {root}/CLASS/*.jpg ({', '.join(IMAGE_SUFFIXES)})")
    return FileSource(tuple(file for file, _ in files), np.array([label for _, label in files]), class_names)


def open_cub(folder: Path, split: str) -> Source:
    """CUB-200-2011: images.txt, image_class_labels.txt and train_test_split.txt, one line an image, joined by its number."""

    def read(name: str) -> dict[str, str]:
        if not (folder / name).is_file():
            raise UsageError(f"{folder} looks like CUB-200-2011, but {name} is missing")
        lines = [line.split(maxsplit=1) for line in (folder / name).read_text().splitlines() if line.strip()]
        broken = next((line for line in lines if len(line) < 2), None)
        if broken:
            raise UsageError(f"{folder / name}: line {broken[0]!r} is not a number and what it stands for")
        return {number: text.strip() for number, text in lines}

    def lookup(table: dict[str, str], key: str, name: str) -> str:
        if key not in table:
            raise UsageError(f"{folder / name} has no line for {key}")
        return table[key]

    paths, classes, is_train = read("images.txt"), read("image_class_labels.txt"), read("train_test_split.txt")
    names = read("classes.txt")
    chosen = [key for key in paths if (lookup(is_train, key, "train_test_split.txt") == "1") == (split == "train")]
    labels = [lookup(classes, key, "image_class_labels.txt") for key in chosen]
    wrong = next((label for label in labels if not label.isdigit()), None)
    if wrong is not None:
        raise UsageError(f"{folder / 'image_class_labels.txt'}: class {wrong!r} is not a number")
    return FileSource(
        tuple(folder / "images" / paths[key] for key in chosen),
        np.array([int(label) - 1 for label in labels]),
        tuple(lookup(names, str(index + 1), "classes.txt") for index in range(len(names))),
    )


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images that are already arrays, as an .npz file holds them: (N, H, W) or (N, H, W, C) uint8."""

    images_NHWC: np.ndarray
    labels: np.ndarray
    name: str
    class_names: tuple[str, ...] | None = None

    def image(self, index: int) -> Image.Image:
        pixels = self.images_NHWC[index]
        return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)

    def where(self, index: int) -> str:
        return f"row {index} of {self.name}"


def open_npz(file: Path, split: str) -> Source | None:
    """`x_train`, `y_train`, `x_test`, `y_test` (Keras), or `train_images`, `train_labels` ... (MedMNIST)."""
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    with np.load(file, allow_pickle=False) as arrays:
        keys = next(
            (
                pair
                for pair in ((f"x_{split}", f"y_{split}"), (f"{split}_images", f"{split}_labels"))
                if set(pair) <= set(arrays)
            ),
            None,
        )
        if keys is None:
            if split == "train":
                raise UsageError(
                    f"{file} has no x_train and y_train (or train_images, train_labels); it has: {', '.join(arrays)}"
                )
            return None
        images, labels = arrays[keys[0]], arrays[keys[1]].reshape(-1).astype(np.int64)
        names = tuple(map(str, arrays["class_names"])) if "class_names" in arrays else None
    shape_ok = images.ndim in (3, 4) and (images.ndim == 3 or images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or not shape_ok or len(images) != len(labels):
        raise UsageError(
            f"{file}: {keys[0]} is {images.dtype} {images.shape} with {len(labels)} labels; "
            "valid: uint8 (N, H, W) or (N, H, W, 1 or 3) with N labels"
        )
    return ArraySource(images, labels, f"{file} {keys[0]}", names)


@dataclass(frozen=True)
class TorchvisionSet:
    """How one of torchvision's classes names its splits and its labels."""

    build: str
    argument: str = "split"
    train: object = "train"
    test: object = "test"
    labels: str = "targets"


TORCHVISION = {
    "fashion_mnist": TorchvisionSet("FashionMNIST", "train", True, False),
    "cifar10": TorchvisionSet("CIFAR10", "train", True, False),
    "cifar100": TorchvisionSet("CIFAR100", "train", True, False),
    "svhn": TorchvisionSet("SVHN", labels="labels"),
    "flowers102": TorchvisionSet("Flowers102", labels="_labels"),
    "oxford_pets": TorchvisionSet("OxfordIIITPet", train="trainval", labels="_labels"),
    "aircraft": TorchvisionSet("FGVCAircraft", train="trainval", labels="_labels"),
    "stanford_cars": TorchvisionSet("StanfordCars", labels="_samples"),
}


@dataclass(frozen=True, eq=False)
class TorchvisionSource:
    """One of torchvision's data sets; it decodes its own images."""

    dataset: Any
    labels: np.ndarray
    name: str
    class_names: tuple[str, ...] | None

    def image(self, index: int) -> Image.Image:
        try:
            return self.dataset[index][0]
        except (OSError, SyntaxError, ValueError) as error:
            raise UsageError(f"corrupt image {self.where(index)}: {error}") from error

    def where(self, index: int) -> str:
        kept = (getattr(self.dataset, name, None) for name in ("_image_files", "_images", "_samples"))
        files = next((found for found in kept if found), None)
        if files is None:
            return f"row {index} of {self.name}"
        return str(files[index][0] if isinstance(files[index], tuple) else files[index])


def open_torchvision(name: str, split: str, root: Path) -> Source:
    """Downloads into `root` when the set is not there yet."""
    from torchvision import datasets  # here because it takes seconds to import

    how = TORCHVISION[name]
    arguments = {how.argument: how.train if split == "train" else how.test}
    build = partial(getattr(datasets, how.build), root=str(root), **arguments)
    try:
        try:
            dataset = build(download=False)
        except (OSError, RuntimeError):  # not there; StanfordCars refuses to be asked for a download where it is
            dataset = build(download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{name} is not in {root} and cannot be downloaded: {str(error).splitlines()[0]}") from error
    labels = getattr(dataset, how.labels)
    if how.labels == "_samples":  # Stanford Cars keeps (file, label) pairs
        labels = [label for _, label in labels]
    names = getattr(dataset, "classes", None)
    return TorchvisionSource(
        dataset, np.asarray(labels, dtype=np.int64), f"{name}/{split}", tuple(map(str, names)) if names else None
    )
