"""The default search gives what it gave when this file was made: a redesign must not change a result."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
import torch

from search.config import load_config
from search.results import load
from search.runner import run_search

ROOT = Path(__file__).parents[1]
GOLDEN = json.loads((Path(__file__).parent / "golden_default.json").read_text())
TRIALS = 6  # of the 24 that were recorded: the sampler does not know how many come after


def machine() -> dict[str, str]:
    """What the last digits of a training depend on."""
    return {
        "torch": torch.__version__.partition("+")[0],
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "architecture": platform.machine(),
    }


@pytest.mark.slow
def test_the_default_search_gives_what_it_gave(tmp_path: Path) -> None:
    """Architectures, accuracies and front at concurrency 1. Accuracies are compared where the arithmetic is the same."""
    if machine() != GOLDEN["machine"]:
        pytest.skip(f"recorded on {GOLDEN['machine']}, and this is {machine()}: rounding differs")
    settings = ["resources.concurrency=1", f"search.trials={TRIALS}", "resources.cpus=1"]
    run_search(load_config(ROOT / "configs" / "default.yaml", settings), tmp_path / "run")
    results = load(tmp_path / "run")
    rows = results.evaluations[["architecture", "accuracy", "flops", "params"]].to_dict("records")
    assert rows == GOLDEN["evaluations"][:TRIALS]
    assert list(results.front["architecture"]) == GOLDEN["front_after"][str(TRIALS)]


def test_the_golden_run_is_whole() -> None:
    """24 evaluations, the plain network first, and a front among them."""
    texts = [row["architecture"] for row in GOLDEN["evaluations"]]
    assert len(texts) == len(set(texts)) == 24
    assert texts[0] == "attune_tiny:none,none,none"
    assert set(GOLDEN["front_after"]["24"]) <= set(texts)
