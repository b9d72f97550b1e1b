"""What is exported: an architecture, how its network is built, and what a run knows of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from evaluators.training import classifier_prefix
from search.results import Results
from spaces import Architecture, build_model


@dataclass(frozen=True)
class Weights:
    """Where trained weights come from: a file, the seed and epochs behind it, and the accuracy they reached."""

    path: Path
    seed: int
    fidelity: int
    accuracy: float


@dataclass(frozen=True)
class Subject:
    """``row`` is the architecture's row of ``Results.summary``; it, ``results`` and ``weights`` are None where no run is
    behind the export."""

    arch: Architecture
    spec: dict[str, Any]
    results: Results | None = None
    row: Mapping[str, Any] | None = None
    weights: Weights | None = None

    @property
    def model_name(self) -> str:
        """A name for timm and for a Python file."""
        backbone = re.sub(r"\W+", "_", self.arch.backbone.rpartition(":")[2]).removeprefix("attune_").lower()
        return f"attune_{backbone}_{self.arch.key[:8]}"

    @cached_property
    def classifier(self) -> str:
        """The path of the classifier in the network."""
        with torch.device("meta"):
            return classifier_prefix(self.build()).removesuffix(".")

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        return build_from_spec(self.spec)

    def model(self) -> nn.Module:
        """The network in eval mode, with its trained weights where there are any."""
        model = self.build()
        if self.weights is not None:
            model.load_state_dict(load_file(self.weights.path))
        return model.eval()


def make_spec(arch: Architecture, **build: Any) -> dict[str, Any]:
    """The content of architecture.json."""
    return {"architecture": str(arch), "genotype": arch.to_dict(), **build}


def build_from_spec(spec: Mapping[str, Any]) -> nn.Module:
    """The network that ``architecture.json`` describes, with fresh weights."""
    return build_model(
        Architecture.from_dict(spec["genotype"]),
        spec["num_classes"],
        spec["in_chans"],
        image_size=spec["image_size"],
        identity_start=spec["identity_start"],
        native=spec["native"],
    )


def probe_input(subject: Subject, batch: int) -> Tensor:
    """Random images (batch, C, H, W) of the network's size, the same every time."""
    return random_images(batch, subject.spec["in_chans"], subject.spec["image_size"])


def random_images(batch: int, channels: int, size: int) -> Tensor:
    """Normal noise (batch, channels, size, size), the same every time."""
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(0))
