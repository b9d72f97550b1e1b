"""weights.safetensors: the weights alone, without pickle. The check loads them into the code that format python writes."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from search.export.files import WEIGHTS, write_weights
from search.export.format import Format, register_format
from search.export.loader import Job
from search.export.subject import Subject


def write(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    return [write_weights(model, folder / WEIGHTS)]


def run(path: Path, job: Job, x_BCHW: Tensor) -> Tensor:
    logits_BK: Tensor = job.module.load(path)(x_BCHW)
    return logits_BK


register_format(Format("safetensors", "weights.safetensors: the weights, without pickle", write, run, default=True))
