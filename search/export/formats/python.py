"""One readable file that builds the network and registers it with timm, and its weights: formats python and timm.

The two write the same. They differ in how they are read: by importing the file, or by its name through timm.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from search.export.files import WEIGHTS, write_text, write_weights
from search.export.format import Format, register_format
from search.export.loader import Job
from search.export.source import model_source, refuse_dense
from search.export.subject import Subject


def write(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    return [
        write_text(folder / f"{subject.model_name}.py", model_source(subject)),
        write_weights(model, folder / WEIGHTS),
    ]


def write_timm(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    refuse_dense(subject, "timm")
    return write(subject, model, folder)


def run_python(path: Path, job: Job, x_BCHW: Tensor) -> Tensor:
    logits_BK: Tensor = job.module.load()(x_BCHW)
    return logits_BK


def run_timm(path: Path, job: Job, x_BCHW: Tensor) -> Tensor:
    import timm

    logits_BK: Tensor = timm.create_model(job.name, pretrained=True).eval()(x_BCHW)
    return logits_BK


register_format(Format("python", "NAME.py and weights: one readable file with load()", write, run_python, default=True))
register_format(Format("timm", "the same files, for timm.create_model(NAME, pretrained=True)", write_timm, run_timm))
