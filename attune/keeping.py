"""Objects of a notebook (networks, training functions, data) written into a run, so that workers and later sessions have them.

Each becomes a small package in ``RUN/objects`` whose name holds a digest of it: ``module:NAME_DIGEST:network`` then names it
wherever a configuration or an architecture does, and another object never passes for it.
"""

from __future__ import annotations

import copy
import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import cloudpickle
import numpy as np
import torch
from torch import nn

from attune import kept
from attune.digests import digest_of, is_users
from search.files import write_whole
from spaces.backbones.insertion import on_meta
from spaces.errors import UsageError, shortened
from spaces.objects import describe_and_shape
from spaces.plugins import OBJECTS, importable


def keep_network(
    model: nn.Module, folder: Path, input_size: tuple[int, ...] | int | None
) -> tuple[str, tuple[int, ...], int | None]:
    """Write a network; returns its name for a configuration, the (C, H, W) that it takes, and how many outputs it has.

    Raises UsageError for a network without stages, or one that cannot be pickled.
    """
    _, shape = describe_and_shape(model, input_size)
    if any(one.device.type != "cpu" for one in model.parameters()):
        model = copy.deepcopy(model).cpu()
    content = {
        "network": model,
        "outputs": (outputs := _outputs(model, shape)),
        "channels": shape[0],
        "input_size": shape if input_size is not None else None,
    }
    digest, classes = digest_of([model, outputs, shape]), {type(module) for module in model.modules()}
    return _write(folder, type(model).__name__, digest, content, classes) + ":network", shape, outputs


def keep_function(function: Callable[..., Any], folder: Path) -> tuple[str, str]:
    """Write a training function; returns its name for a configuration, and a text that changes with it (its ``identity``).

    Raises UsageError for one that cannot be pickled.
    """
    declared = getattr(function, "identity", None)
    digest = digest_of(function if declared is None else str(declared))
    name = getattr(function, "__name__", type(function).__name__)
    return _write(folder, name, digest, function, [function]) + ":function", str(declared or digest)


def _outputs(model: nn.Module, shape: tuple[int, ...]) -> int | None:
    """K where a network puts out (B, K), else None."""
    with torch.no_grad(), torch.device("meta"):
        found = on_meta(model).eval()(torch.empty(1, *shape))
    return int(found.shape[1]) if isinstance(found, torch.Tensor) and found.ndim == 2 else None


def _write(folder: Path, name: str, digest: str, content: Any, made_by: Iterable[Any]) -> str:
    """Write the package of an object, unless it is there; returns ``module:PACKAGE``."""
    word = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_") or "object"
    package = folder / OBJECTS / f"{word}_{digest}"
    if not (package / "object.pkl").exists():
        pickled = _pickled(content, made_by, name)
        package.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept.__file__, package / "__init__.py")
        write_whole(package / "object.pkl", pickled)  # last: with it the package is whole
    importable(folder / OBJECTS)
    return f"module:{package.name}"


def _pickled(content: Any, made_by: Iterable[Any], what: str) -> bytes:
    """As cloudpickle does, with the code of the user's own modules inside: another machine, or another day, has others."""
    modules = {getattr(one, "__module__", None) or type(one).__module__ for one in made_by}
    with ExitStack() as stack:
        for name in modules:
            if is_users(name) and name != "__main__":
                stack.enter_context(_by_value(sys.modules[name]))
        try:
            return bytes(cloudpickle.dumps(content))
        except Exception as error:  # whatever an object's own way of pickling raises
            raise UsageError(
                f"{what} cannot be sent to the processes that evaluate: {type(error).__name__}: {error}; valid: what "
                "pickles, or a module:package.file:name that makes it"
            ) from error


@contextmanager
def _by_value(module: ModuleType) -> Iterator[None]:
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


# --- data ---------------------------------------------------------------------------------------------------------------


def keep_data(data: Any, folder: Path) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Write a data set of the user's own as one .npz file; returns the section `data`, and (C, H, W) of a picture.

    ``data``: a Dataset or a DataLoader of (picture, class), arrays (pictures, classes), a pair of such for training and test,
    or three with validation between. It is read once. A network sees numbers with a fraction as the data give them; whole ones
    are normalised.
    Raises UsageError for what is none, and for pictures of different sizes.
    """
    several = isinstance(data, tuple | list) and len(data) in SPLITS and not any(map(_is_cell, data))
    splits = dict(zip(SPLITS[len(data)], data, strict=True)) if several else {"train": data}
    arrays: dict[str, np.ndarray] = {}
    for split, given in splits.items():
        arrays[f"x_{split}"], arrays[f"y_{split}"] = _arrays(given)
    names = getattr(getattr(splits["train"], "dataset", splits["train"]), "classes", None)
    if isinstance(names, tuple | list) and names:
        arrays["class_names"] = np.array([str(name) for name in names])
    digest = hashlib.blake2b(digest_size=4)
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape} {array.dtype} ".encode())
        digest.update(np.ascontiguousarray(array).data if array.dtype.kind != "U" else repr(array.tolist()).encode())
    file = folder / OBJECTS / f"data_{digest.hexdigest()}.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.partial")
        with open(partial, "wb") as out:
            np.savez(out, **cast("dict[str, Any]", arrays))
        partial.replace(file)
    pictures = [array for name, array in arrays.items() if name.startswith("x_")]
    height, width, channels = pictures[0].shape[1:]
    section: dict[str, Any] = {"name": f"npz:{file.resolve()}"}
    if pictures[0].dtype.kind == "f":
        section |= _as_given(
            min(float(one.min()) for one in pictures), max(float(one.max()) for one in pictures), channels
        )
    return section, (channels, height, width)


SPLITS = {2: ("train", "test"), 3: ("train", "val", "test")}  # as everywhere: one that is held out is for the test


def _is_cell(one: Any) -> bool:
    """Whether this is an array or a row of the data, and not a whole split."""
    return hasattr(one, "dtype") or (isinstance(one, tuple | list) and len(one) == 2 and not hasattr(one[1], "__len__"))


def _as_given(low: float, high: float, channels: int) -> dict[str, Any]:
    """Options by which a network sees numbers between these as they are: stored on [0, 1], and scaled back."""
    low, high = min(low, 0.0), max(high, 1.0)
    return {"max": [low, high], "mean": [-low / (high - low)] * channels, "std": [1 / (high - low)] * channels}


def _arrays(given: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, H, W, C) and classes (N,)."""
    if isinstance(given, tuple | list) and len(given) == 2 and all(hasattr(one, "dtype") for one in given):
        images = torch.as_tensor(given[0]).cpu().numpy() if isinstance(given[0], torch.Tensor) else np.asarray(given[0])
        return _channels_last(images, isinstance(given[0], torch.Tensor)), np.asarray(torch.as_tensor(given[1]).cpu())
    rows = getattr(given, "dataset", given)  # of a DataLoader
    if not (hasattr(rows, "__getitem__") and hasattr(rows, "__len__")) or isinstance(rows, str | dict):
        raise UsageError(
            f"data {shortened(given)} is a {type(given).__name__}; valid: a name, a folder, a Dataset of (picture, class), "
            "arrays (pictures, classes), a pair of these for training and test, or three with validation between"
        )
    pictures: list[np.ndarray] = []
    classes: list[int] = []
    for index in range(len(rows)):
        row = rows[index]
        if not isinstance(row, tuple | list) or len(row) != 2:
            raise UsageError(f"row {index} of the data is {shortened(row)}; valid: (picture, class)")
        tensor = isinstance(row[0], torch.Tensor)
        picture = row[0].detach().cpu().numpy() if tensor else np.asarray(row[0])
        picture = _channels_last(picture[None], tensor)[0]
        if pictures and picture.shape != pictures[0].shape:
            raise UsageError(
                f"row {index} of the data is {picture.shape[0]}x{picture.shape[1]} with {picture.shape[2]} channels, row 0 "
                f"{pictures[0].shape[0]}x{pictures[0].shape[1]} with {pictures[0].shape[2]}; valid: pictures of one size, or "
                "'folder:PATH', which is read in any"
            )
        pictures.append(picture)
        classes.append(int(row[1]))
    if not pictures:
        raise UsageError("the data have no rows; valid: at least one of each class")
    return np.stack(pictures), np.array(classes, dtype=np.int64)


def _channels_last(images: np.ndarray, first: bool) -> np.ndarray:
    """(N, H, W), (N, H, W, C) or, of tensors, (N, C, H, W), as (N, H, W, C)."""
    if images.ndim == 3:
        return images[..., None]
    if images.ndim != 4:
        raise UsageError(
            f"pictures have the shape {images.shape[1:]}; valid: (H, W), (H, W, C), and of tensors (C, H, W)"
        )
    return np.moveaxis(images, 1, -1) if first else images
