"""What an architecture can be written as: each writer leaves files in a folder and returns their paths."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from search.export.card import model_card
from search.export.source import model_source, pretrained_config
from search.export.subject import Subject

SPEC, WEIGHTS, HUB_WEIGHTS, HUB_CONFIG, CARD = (
    "architecture.json",
    "weights.safetensors",
    "model.safetensors",
    "config.json",
    "README.md",
)
PROGRAM, ONNX = "model.pt2", "model.onnx"
OPSET = 20  # affine grids and three-dimensional sampling are operators of their own from here on

Writer = Callable[[Subject, nn.Module, Path], list[Path]]


def probe_input(subject: Subject, batch: int) -> Tensor:
    """Random images (batch, C, H, W) of the network's size, the same every time."""
    return _random_images(batch, *_size(subject))


def _random_images(batch: int, channels: int, size: int) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(0))


def _size(subject: Subject) -> tuple[int, int]:
    return subject.spec["in_chans"], subject.spec["image_size"]


def write_spec(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    """architecture.json: the architecture, and what its network is built with."""
    return [_text(folder / SPEC, json.dumps(subject.spec, indent=2) + "\n")]


def write_weights(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    """weights.safetensors."""
    return [_weights(model, folder / WEIGHTS)]


def write_python(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    """One readable file that builds the network and registers it with timm, and its weights."""
    return [_text(folder / f"{subject.model_name}.py", model_source(subject)), _weights(model, folder / WEIGHTS)]


def write_program(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    """model.pt2: torch.export's program, weights included, for any number of images."""
    path = folder / PROGRAM
    with _quiet():
        torch.export.save(_program(model, _size(subject)), path)
    return [path]


def write_onnx(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    """model.onnx: weights included, for any number of images, and checked by ONNX itself."""
    import onnx

    path = folder / ONNX
    with _quiet():
        torch.onnx.export(
            _program(model, _size(subject)),
            (),
            path,
            input_names=["images"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    onnx.checker.check_model(str(path), full_check=True)
    return [path]


def write_hub(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    """The files of a Hugging Face model repository that timm's `local-dir:` and `hf-hub:` read (README.md is the card)."""
    config = pretrained_config(subject)
    del config["num_classes"]
    content = {
        "architecture": subject.model_name,
        "num_classes": subject.spec["num_classes"],
        "label_names": subject.spec.get("class_names", []),
        "pretrained_cfg": config,
        "attune": subject.spec,
    }
    return [
        _text(folder / HUB_CONFIG, json.dumps(content, indent=2) + "\n"),
        _weights(model, folder / HUB_WEIGHTS),
        _text(folder / f"{subject.model_name}.py", model_source(subject)),
    ]


FORMATS: dict[str, Writer] = {
    "spec": write_spec,
    "safetensors": write_weights,
    "python": write_python,
    "timm": write_python,
    "torch-export": write_program,
    "onnx": write_onnx,
    "hf": write_hub,
}
DEFAULT_FORMATS = ("spec", "safetensors", "python")


def write_card(subject: Subject, folder: Path) -> Path:
    """README.md, which every export gets."""
    return _text(folder / CARD, model_card(subject))


@lru_cache(maxsize=1)
def _program(model: nn.Module, size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The traced network, which torch-export and onnx share."""
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(model, (_random_images(2, *size),), dynamic_shapes=({0: batch},))


def _text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def _weights(model: nn.Module, path: Path) -> Path:
    state: dict[str, Tensor] = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporters print their progress and warn about their own insides; what goes wrong they raise.

    Without gradients, which nothing here needs, they trace half as much.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
