"""architecture.json: the architecture, and what its network is built with. Only Attune reads it."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor, nn

from search.export.files import SPEC, write_text
from search.export.format import Format, register_format
from search.export.loader import Job
from search.export.subject import Subject


def write(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    return [write_text(folder / SPEC, json.dumps(subject.spec, indent=2) + "\n")]


def run(path: Path, job: Job, x_BCHW: Tensor) -> Tensor:
    import json

    from safetensors.torch import load_file

    from search.export.subject import build_from_spec

    model = build_from_spec(json.loads(path.read_text()))
    model.load_state_dict(load_file(job.weights))
    logits_BK: Tensor = model.eval()(x_BCHW)
    return logits_BK


register_format(
    Format("spec", "architecture.json: the architecture for Attune", write, run, default=True, needs_attune=True)
)
