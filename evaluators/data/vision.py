"""torchvision's own data sets, downloaded where they are missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluators.data.pixels import CorruptImage
from evaluators.data.source import Found, Opened, Source
from spaces.errors import UsageError


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
            raise CorruptImage(f"corrupt image {self.where(index)}: {error}") from error

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


def open_set(name: str, root: Path) -> Opened:
    """train and test of one of torchvision's sets."""
    return Opened(
        open_torchvision(name, "train", root),
        Found(f"torchvision's {name} in {root}"),
        test=partial(open_torchvision, name, "test", root),
    )
