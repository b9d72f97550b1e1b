"""What is exported: an architecture, how its network is built, and what a run knows of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.training.checkpoint import load_weights
from search.results import Results
from search.weights import Weights
from spaces import Architecture, NetworkSpec
from spaces.backbones.weights import classifier_prefixes
from spaces.errors import UsageError, shortened
from spaces.heads.base import DenseHead

EIGHT_BITS = (0, 255)


@dataclass(frozen=True)
class Subject:
    """``row`` is the architecture's row of ``Results.evidence`` and ``reason`` what speaks for it; they, ``results`` and
    ``weights`` are None where no run is behind the export. ``plain``: where weights of the plain network come from that all
    but the attention starts with, as in ``NetworkSpec.build``."""

    arch: Architecture
    spec: dict[str, Any]
    results: Results | None = None
    row: Mapping[str, Any] | None = None
    reason: str | None = None
    weights: Weights | None = None
    plain: bool | str | Path = False

    @property
    def model_name(self) -> str:
        """A name for timm and for a Python file."""
        backbone = re.sub(r"[^A-Za-z0-9_]+", "_", self.arch.backbone.rpartition(":")[2]).removeprefix("attune_").lower()
        return f"attune_{backbone}_{self.arch.key[:8]}"

    @cached_property
    def classifier(self) -> str:
        """The path of the classifier in the network."""
        with torch.device("meta"):
            return next(iter(classifier_prefixes(self.build())), "").removesuffix(".")

    @property
    def pixel_span(self) -> tuple[float, float]:
        """The pixel values of the files that are 0 and 1 before mean and deviation: black, and full brightness."""
        low, high = self.spec.get("pixel_span", EIGHT_BITS)
        return low, high

    @cached_property
    def network(self) -> NetworkSpec:
        """What surrounds the architecture."""
        return NetworkSpec.from_dict(self.spec)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the network puts out is called."""
        head = self.network.head
        return head.outputs if isinstance(head, DenseHead) else ("logits",)

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        return self.network.build(self.arch)

    def model(self) -> nn.Module:
        """The network in eval mode, with its trained weights where there are any."""
        model = self.network.build(self.arch, pretrained=self.plain)
        if self.weights is not None:
            load_weights(model, self.weights.path)
        return model.eval()


def make_spec(arch: Architecture, **build: Any) -> dict[str, Any]:
    """The content of architecture.json; raises UsageError for a description of data that is none."""
    _check_description(build)
    return {"architecture": str(arch), "genotype": arch.to_dict(), **build}


def _check_description(build: Mapping[str, Any]) -> None:
    """What a run's data.json says goes into code and pages: refuse what is not of its type, such as text for a number."""
    classes, channels, names = build.get("num_classes"), build.get("in_chans"), build.get("class_names")
    for name, value in (("num_classes", classes), ("in_chans", channels)):
        if type(value) is not int or value < 1:
            raise UsageError(f"{name} = {shortened(value)} in the description of the data; valid: a number from 1")
    for name in ("mean", "std"):
        if (value := build.get(name)) is not None and not (
            isinstance(value, list | tuple) and all(type(one) in (int, float) and math.isfinite(one) for one in value)
        ):
            raise UsageError(f"{name} = {shortened(value)} in the description of the data; valid: finite numbers")
    span = build.get("pixel_span", EIGHT_BITS)
    pair = isinstance(span, list | tuple) and len(span) == 2 and all(type(one) in (int, float) for one in span)
    if not (pair and math.isfinite(span[1] - span[0]) and span[0] < span[1]):
        raise UsageError(f"pixel_span = {shortened(span)} in the description of the data; valid: [black, white]")
    if names is not None and not (isinstance(names, list | tuple) and all(isinstance(one, str) for one in names)):
        raise UsageError(f"class_names = {shortened(names)} in the description of the data; valid: texts")


def build_from_spec(spec: Mapping[str, Any]) -> nn.Module:
    """The network that ``architecture.json`` describes, with fresh weights."""
    return NetworkSpec.from_dict(spec).build(Architecture.from_dict(spec["genotype"]))


def probe_input(subject: Subject, batch: int) -> Tensor:
    """Random images (batch, C, H, W) of the network's size, the same every time."""
    (x_BCHW,) = subject.network.example(batch, seed=0)
    return x_BCHW


@torch.inference_mode()
def outputs(subject: Subject, model: nn.Module, x_BCHW: Tensor) -> dict[str, Tensor]:
    """What a network puts out, by name, in eval mode."""
    result = model.eval()(x_BCHW)
    found = result if isinstance(result, dict) else {subject.outputs[0]: result}
    return {name: found[name].contiguous() for name in subject.outputs}
