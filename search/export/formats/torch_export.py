"""model.pt2: torch.export's program, weights included, for any number of images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from search.export.format import Format, register_format
from search.export.loader import Job
from search.export.program import quiet, traced
from search.export.subject import Subject


def write(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    path = folder / "model.pt2"
    program = traced(subject, model)
    with quiet():
        torch.export.save(program, path)
    return [path]


def run(path: Path, job: Job, x_BCHW: Tensor) -> Tensor:
    import torch

    logits_BK: Tensor = torch.export.load(path).module()(x_BCHW)
    return logits_BK


register_format(Format("torch-export", "model.pt2: torch.export's program with its weights", write, run, graph=True))
