"""Writing a found architecture so that it can be used elsewhere, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from search.export.card import model_card
from search.results import Results, load
from search.trainable import weights_path
from spaces import Architecture, build_model
from spaces.errors import UsageError, unknown

SPEC, WEIGHTS, CARD = "architecture.json", "weights.safetensors", "README.md"


@dataclass(frozen=True)
class Subject:
    """What is exported: an architecture, how its network is built, and what a run knows of it.

    ``row`` is the architecture's row of ``Results.summary``, None where no run is behind it.
    """

    arch: Architecture
    spec: dict[str, Any]
    results: Results | None = None
    row: Mapping[str, Any] | None = None

    def model(self) -> nn.Module:
        """The network in eval mode, with its trained weights; fresh ones where no run is behind it."""
        model = build_from_spec(self.spec)
        if self.results is not None:
            path = weights_path(self.results.folder / "weights", self.arch)
            if path is None or not path.exists():
                kept = self.results.config.search.keep_weights
                raise UsageError(
                    f"the weights of {self.arch} were not kept (search.keep_weights: {kept}); choose one of the front,"
                    " or search with keep_weights: all"
                )
            model.load_state_dict(load_file(path))
        return model.eval()


@dataclass(frozen=True)
class Exported:
    """What was written."""

    architecture: str
    accuracy: float | None
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "accuracy": self.accuracy,
            "files": [str(path) for path in self.files],
        }


def export(
    source: str,
    *,
    to: str | Path,
    limits: Mapping[str, Any] | None = None,
    pick: str | None = None,
    formats: Sequence[str] | None = None,
) -> Exported:
    """Write an architecture into the folder ``to``, by default its specification, weights and model card.

    ``source`` is a run directory, from which the most accurate architecture within ``limits``, the one named by ``pick``, or
    else the knee of the front is taken; or an architecture as text, which gets fresh weights.
    Raises UsageError for an unknown format, a run without a fitting architecture, or weights that were not kept.
    """
    wanted = list(formats or FORMATS)
    for name in wanted:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    subject = _subject(source, limits or {}, pick)
    folder = Path(to)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--to {folder} is a file; give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    model = subject.model()
    files = [FORMATS[name](subject, model, folder) for name in wanted]
    accuracy = float(subject.row["accuracy"]) if subject.row is not None else None
    return Exported(str(subject.arch), accuracy, tuple(files))


def load_exported(folder: str | Path) -> nn.Module:
    """The network of an export folder with its weights, in eval mode; raises UsageError where files are missing."""
    folder = Path(folder)
    for name in (SPEC, WEIGHTS):
        if not (folder / name).exists():
            raise UsageError(f"{folder} has no {name}; export with --format spec --format safetensors")
    model = build_from_spec(json.loads((folder / SPEC).read_text()))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


def build_from_spec(spec: Mapping[str, Any]) -> nn.Module:
    """The network that ``architecture.json`` describes, with fresh weights."""
    return build_model(
        Architecture.from_dict(spec["genotype"]),
        spec["num_classes"],
        spec["in_chans"],
        image_size=spec["image_size"],
        identity_init=spec["identity_start"],
        native=spec["native"],
    )


def _subject(source: str, limits: Mapping[str, Any], pick: str | None) -> Subject:
    if not Path(source).exists() and ":" in source:
        if limits or pick:
            raise UsageError("--max and --pick choose within a run; an architecture is exported as it stands")
        arch = Architecture.parse(source)
        return Subject(
            arch, _spec(arch, num_classes=1000, in_chans=3, image_size=224, identity_start=False, native="keep")
        )
    results = load(source)
    row = results.pick(limits, pick)
    config, data = results.config, json.loads((results.folder / "data.json").read_text())
    arch = Architecture.parse(row["architecture"])
    spec = _spec(arch, **data, identity_start=config.space.identity_start, native=config.space.native)
    return Subject(arch, spec, results, {str(key): value for key, value in row.items()})


def _spec(arch: Architecture, **build: Any) -> dict[str, Any]:
    return {"architecture": str(arch), "genotype": arch.to_dict(), **build}


# --- formats: each writes one file and returns its path -------------------------------------------------------------


def _write_spec(subject: Subject, model: nn.Module, folder: Path) -> Path:
    path = folder / SPEC
    path.write_text(json.dumps(subject.spec, indent=2) + "\n")
    return path


def _write_weights(subject: Subject, model: nn.Module, folder: Path) -> Path:
    path = folder / WEIGHTS
    state: dict[str, torch.Tensor] = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path)
    return path


def _write_card(subject: Subject, model: nn.Module, folder: Path) -> Path:
    path = folder / CARD
    path.write_text(model_card(subject.spec, subject.row, subject.results))
    return path


FORMATS: dict[str, Callable[[Subject, nn.Module, Path], Path]] = {
    "spec": _write_spec,
    "safetensors": _write_weights,
    "card": _write_card,
}
