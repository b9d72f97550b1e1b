"""The files that several formats share: their names, and how text and weights are written."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

SPEC, WEIGHTS, CARD = "architecture.json", "weights.safetensors", "README.md"


def write_text(path: Path, content: str) -> Path:
    """Write a text file; returns its path."""
    path.write_text(content, encoding="utf-8")
    return path


def write_weights(model: nn.Module, path: Path) -> Path:
    """Write the parameters and buffers of a network as safetensors; returns the path."""
    state: dict[str, Tensor] = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})
    return path
