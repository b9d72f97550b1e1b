"""The trained weights that a run has kept of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from search.front import ranked
from search.results import Results
from search.store import COMPLETE, SEARCH, TEST
from search.trainable import weights_path
from spaces import Architecture
from spaces.written import key_of


@dataclass(frozen=True)
class Weights:
    """Where trained weights come from: a file, the seed and epochs behind it, and the score they reached, also by class."""

    path: Path
    seed: int
    fidelity: int
    score: float
    by_class: Mapping[str, float] = field(default_factory=dict)


def kept_weights(results: Results, text: str) -> Weights | None:
    """Of an architecture, those of the best validation score among all seeds at the highest fidelity; None without any."""
    arch, rows = Architecture.parse(text), results.evaluations
    rows = rows[(rows["architecture"] == text) & (rows["state"] == COMPLETE) & (rows["purpose"] != TEST)]
    rows = rows[rows["fidelity"] == rows["fidelity"].max()]
    for row in ranked(rows, results.metric).to_dict("records"):
        path = weights_path(results.folder / "weights", arch, None if row["purpose"] == SEARCH else row["seed"])
        if path is not None and path.exists():
            classes = results.classes_of(text, row["purpose"], row["fidelity"], row["seed"])
            return Weights(path, row["seed"], row["fidelity"], row[results.metric.name], classes)
    return None


def kept_texts(results: Results) -> set[str]:
    """The trained architectures of which ``kept_weights`` finds some."""
    folder = results.folder / "weights"
    keys = {path.name.partition(".")[0].partition("-")[0] for path in folder.glob("*.safetensors")}
    texts = [str(text) for text in results.evidence.rows["architecture"] if key_of(str(text)) in keys]
    return {text for text in texts if kept_weights(results, text) is not None}
