"""Whether what was written is the model: each file is loaded in a fresh process without Attune and its logits compared."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from search.export.files import WEIGHTS, write_weights
from search.export.format import Format, Written, find_format
from search.export.source import model_source
from search.export.subject import outputs, probe_input
from spaces.attention import attention_type
from spaces.backbones import zoo

PROBE = 3  # images, one more than the exporters saw
LOADER = Path(__file__).with_name("loader.py")


class ExportError(RuntimeError):
    """A file that was written does not give the model's logits."""


@dataclass(frozen=True)
class Check:
    """The largest difference of the logits, divided by the largest logit where that exceeds 1; 0 is equality to the bit."""

    format: str
    difference: float
    allowed: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check(exports: Sequence[Written]) -> list[list[Check]]:
    """Load every format of every export in one fresh process and compare the logits of a few random images.

    The process does not see Attune, but for the formats that only Attune reads; those come last. It finds a user's own module
    where that brings a backbone, which is never copied, and for Attune's own formats all that a user brings.
    Raises ExportError where something cannot be loaded, and for the first format whose logits differ too much.
    """
    formats = {name: find_format(name) for written in exports for name in written.files}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        request = {
            "threads": torch.get_num_threads(),
            "root": str(Path(__file__).parents[2]),
            "formats": {name: _form(form) for name, form in formats.items()},
            "exports": [_export(written, scratch / str(number)) for number, written in enumerate(exports)],
            "backbones": _located(_backbones(exports)),
            "attentions": _located(_attentions(exports)),
        }
        (scratch / "request.json").write_text(json.dumps(request))
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        process = subprocess.run(
            [sys.executable, "-P", str(LOADER), "request.json"],
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
        )
        if process.returncode != 0:
            raise ExportError(f"what was written cannot be loaded: {process.stderr.strip().splitlines()[-1]}")
        found = json.loads((scratch / "differences.json").read_text())
    checked = []
    for written, differences in zip(exports, found, strict=True):
        checks = [Check(name, value, formats[name].tolerance) for name, value in differences.items()]
        for one in checks:
            if not one.difference <= one.allowed:
                raise ExportError(
                    f"{written.subject.arch}: the logits of format {one.format} differ by {one.difference:.3g} "
                    f"from the model's, more than {one.allowed:g}"
                )
        checked.append(checks)
    return checked


def _backbones(exports: Sequence[Written]) -> set[str]:
    """The modules from outside that define a backbone."""
    names = {written.subject.arch.backbone for written in exports}
    return {zoo.module_of(name) for name in names if zoo.is_outside(name)}


def _attentions(exports: Sequence[Written]) -> set[str]:
    """The modules from outside that build attention."""
    placements = {placement for written in exports for placement in written.subject.arch.placements}
    types = [attention_type(placement.type) for placement in placements if not placement.is_none]
    return {module for entry in types if entry.outside for module in entry.modules if not module.startswith("spaces.")}


def _located(modules: set[str]) -> dict[str, str]:
    """The folder that each module is found in by its full name."""
    found = {}
    for module in sorted(modules):
        package = importlib.import_module(module.partition(".")[0])
        inside = getattr(package, "__path__", None)
        found[module] = str(Path(next(iter(inside))).parent if inside else Path(str(package.__file__)).parent)
    return found


def _form(form: Format) -> dict[str, Any]:
    """How the fresh process reads a format."""
    return {
        "function": form.run.__name__,
        "source": inspect.getsource(form.run),
        "needs_attune": form.needs_attune,
    }


def _export(written: Written, scratch: Path) -> dict[str, Any]:
    """What the fresh process needs to know of one export; what the formats left out is written into a scratch folder."""
    scratch.mkdir()
    subject, folder = written.subject, written.folder.resolve()
    x_BCHW = probe_input(subject, PROBE)
    save_file({"images": x_BCHW, **outputs(subject, written.model, x_BCHW)}, scratch / "probe.safetensors")
    source = folder / f"{subject.model_name}.py"
    if not source.exists():  # a format may hold no network of its own: weights alone are loaded into this code
        source = scratch / source.name
        source.write_text(model_source(subject))
    weights = folder / WEIGHTS
    if not weights.exists():
        weights = write_weights(written.model, scratch / WEIGHTS)
    return {
        "name": subject.model_name,
        "source": str(source),
        "weights": str(weights),
        "probe": str(scratch / "probe.safetensors"),
        "files": {name: str(paths[0].resolve()) for name, paths in written.files.items()},
    }


@torch.inference_mode()
def logits(model: nn.Module, x_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, K), in eval mode."""
    result: Tensor = model.eval()(x_BCHW)
    return result.contiguous()
