"""Reading back with Attune what was exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from evaluators.training.checkpoint import load_weights
from search.export.files import SPEC, WEIGHTS
from search.export.subject import build_from_spec
from search.files import read_json, unreadable
from spaces.errors import UsageError


def load_exported(folder: str | Path) -> nn.Module:
    """The network of an export folder with its weights, in eval mode; raises UsageError where files are missing or damaged."""
    folder = Path(folder)
    for name in (SPEC, WEIGHTS):
        if not (folder / name).exists():
            raise UsageError(f"{folder} has no {name}; export with --format spec --format safetensors")
    path, advice = folder / SPEC, "export it again"
    spec: dict[str, Any] = read_json(path, dict, advice)
    try:
        model = build_from_spec(spec)
    except (KeyError, TypeError, UsageError) as error:
        raise unreadable(path, f"{type(error).__name__} {error}", advice) from None
    load_weights(model, folder / WEIGHTS)
    return model.eval()
