"""Reading back with Attune what was exported."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from search.export.files import SPEC, WEIGHTS
from search.export.subject import build_from_spec
from spaces.errors import UsageError


def load_exported(folder: str | Path) -> nn.Module:
    """The network of an export folder with its weights, in eval mode; raises UsageError where files are missing."""
    folder = Path(folder)
    for name in (SPEC, WEIGHTS):
        if not (folder / name).exists():
            raise UsageError(f"{folder} has no {name}; export with --format spec --format safetensors")
    model = build_from_spec(json.loads((folder / SPEC).read_text()))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()
