"""The files of a Hugging Face model repository that timm's `local-dir:` and `hf-hub:` read (README.md is the card)."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor, nn

from search.export.files import write_text, write_weights
from search.export.format import Format, register_format
from search.export.loader import Job
from search.export.source import model_source, pretrained_config, refuse_dense
from search.export.subject import Subject


def write(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    refuse_dense(subject, "hf")
    config = pretrained_config(subject)
    del config["num_classes"]
    content = {
        "architecture": subject.model_name,
        "num_classes": subject.spec["num_classes"],
        "label_names": subject.spec.get("class_names", []),
        "pretrained_cfg": config,
        "pixel_span": subject.pixel_span,
        "attune": subject.spec,
    }
    return [
        write_text(folder / "config.json", json.dumps(content, indent=2) + "\n"),
        write_weights(model, folder / "model.safetensors"),
        write_text(folder / f"{subject.model_name}.py", model_source(subject)),
    ]


def run(path: Path, job: Job, x_BCHW: Tensor) -> Tensor:
    import timm

    logits_BK: Tensor = timm.create_model(f"local-dir:{path.parent}", pretrained=True).eval()(x_BCHW)
    return logits_BK


register_format(Format("hf", "a Hugging Face repository: config.json, model.safetensors, NAME.py", write, run))
