"""The description of every backbone, found once and kept in the cache folder: recording 650 networks takes minutes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from spaces.backbone import describe_backbone, list_backbones
from spaces.caching import cache_folder
from spaces.errors import UsageError


def describe_backbones() -> list[dict[str, Any]]:
    """``Backbone.to_dict`` of every network that has stages, by name; found on all cores the first time."""
    path = cache_folder() / f"backbones-{_fingerprint()}.jsonl"
    lines = (
        path.read_text().split("\n")[:-1] if path.exists() else []
    )  # the last piece is empty, or a line being written
    known = {row["name"]: row for row in map(json.loads, lines)}
    missing = [name for name in list_backbones() if name not in known]
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread) as pool,
            open(path, "ab", buffering=0) as file,
        ):
            for row in pool.map(_describe, missing, chunksize=4):
                known[row["name"]] = row
                file.write((json.dumps(row) + "\n").encode())  # one append: lines of several processes do not mix
    return [known[name] for name in list_backbones() if "stages" in known[name]]


def _one_thread() -> None:
    torch.set_num_threads(1)


def _describe(name: str) -> dict[str, Any]:
    try:
        return describe_backbone(name).to_dict()
    except UsageError as error:
        return {"name": name, "reason": str(error)}


def _fingerprint() -> str:
    """A hash of all that a description depends on."""
    digest = hashlib.sha256(" ".join((torch.__version__, version("timm"))).encode())
    here = Path(__file__).parent
    for path in (here / "backbone.py", *sorted(here.glob("backbones/*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
