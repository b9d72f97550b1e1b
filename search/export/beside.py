"""What lies beside an exported detector: its anchors and the way from raw output to detections, in NumPy alone."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from evaluators.detection import postprocess
from search.export.files import write_text
from search.export.subject import Subject

ANCHORS, CODE, SETTING = "anchors.npy", "postprocess.py", "postprocess.json"


def write_beside(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    """Write anchors.npy (A, 4), postprocess.py and its arguments as postprocess.json; nothing for other networks."""
    with torch.no_grad():
        raw = model.eval()(*subject.network.example(1, seed=0))
    if not isinstance(raw, dict) or "anchors" not in raw:
        return []
    np.save(folder / ANCHORS, raw["anchors"].numpy())
    setting = {"levels": raw["levels"].tolist(), "size": list(subject.network.size)}
    given = setting | dict(subject.spec.get("postprocess", {}))
    code = Path(str(inspect.getsourcefile(postprocess))).read_text(encoding="utf-8")
    return [
        folder / ANCHORS,
        write_text(folder / CODE, code),
        write_text(folder / SETTING, json.dumps(given, indent=1) + "\n"),
    ]
