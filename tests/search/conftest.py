"""Runs whose truth is known: real architectures with their real costs, and accuracies drawn from an additive law."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.tasks import Metric
from search import load
from search.config import dump_config, validate
from search.confirmed import near_front
from search.problem import Problem
from search.store import COMPLETE, CONFIRM, FAILED, Evaluation, Store
from spaces import Architecture, NetworkSpec

CONFIG = {
    "name": "known",
    "data": "digits",
    "space": {"backbone": "attune_tiny", "attentions": ["none", "se", "eca", "cbam"], "reductions": [4, 16]}
    | {"arrangements": ["series", "parallel"]},
    "search": {"trials": 40},
}
DATA = {
    "num_classes": 10,
    "in_chans": 1,
    "image_size": 16,
    "mean": [0.5],
    "std": [0.5],
    "class_names": list("0123456789"),
}
# Points of accuracy that a type gains at a stage; the first stage gains nothing whatever it gets.
GAINS = {(1, "se"): 0.05, (1, "cbam"): 0.05, (2, "cbam"): 0.08, (2, "eca"): 0.03}
NOISE = 0.01


def truth(text: str) -> float:
    """The true accuracy of an architecture."""
    placements = Architecture.parse(text).placements
    return 0.6 + sum(GAINS.get((stage, placement.type), 0.0) for stage, placement in enumerate(placements))


def score_of(text: str, metric: Metric) -> float:
    """The true value of a metric; of one of which less is better, what the accuracy lacks to one."""
    return truth(text) if metric.higher_is_better else 1 - truth(text)


def make_run(
    folder: Path,
    count: int = 40,
    *,
    fresh: int = 0,
    name: str = "known",
    seed: int = 0,
    failures: int = 1,
    metric: Metric | None = None,
    search: Mapping[str, Any] | None = None,
) -> Path:
    """A run directory of ``count`` random architectures, the last ``failures`` of them failed; ``fresh`` seeds of some.

    ``metric``: it has that one, with the same gains; else accuracy, and no run.json, as in runs of earlier versions.
    ``search``: more of the section of that name.
    """
    config = validate({**CONFIG, "name": name, "seed": seed, "search": {"trials": 40, **(search or {})}}, "test")
    space = config.space.build()
    problem = Problem.build(space, NetworkSpec.classifier(16, 10, 1), costs=config.search.costs)
    judge = metric or Metric()
    rng = np.random.default_rng(seed)
    texts = [str(Architecture.plain(space.backbone))]
    while len(texts) < count:
        text = str(space.architecture(np.array([rng.integers(len(one)) for one in space.choices])))
        if text not in texts or count > space.size:
            texts.append(text)

    def evaluation(text: str, number: int, purpose: str, state: str = COMPLETE) -> Evaluation:
        return Evaluation(
            architecture=text,
            fidelity=10,
            seed=number,
            state=state,
            reason="" if state == COMPLETE else "<b>loss</b> is NaN & void",
            score=score_of(text, judge) + NOISE * rng.standard_normal() if state == COMPLETE else float("nan"),
            costs=problem.cost(Architecture.parse(text)),
            seconds=1.5,
            finished=1.7e9 + 2 * number,
            identity="t",
            purpose=purpose,
            metric=judge.name,
        )

    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(config))
    (folder / "data.json").write_text(json.dumps(DATA))
    if metric is not None:
        (folder / "run.json").write_text(json.dumps({"metric": asdict(metric), "identity": "t"}))
    with Store(folder, metric=judge.name) as store:
        for number, text in enumerate(texts):
            store.add(evaluation(text, number, "search", FAILED if number >= count - failures else COMPLETE))
    with Store(folder, CONFIRM, metric=judge.name) as store:
        best = near_front(load(folder).summary, ("flops",), 12, judge)
        again = [texts[0], *best, *(f"attune_tiny:{t},{t},{t}" for t in ("se", "eca", "cbam"))] if fresh else []
        for text in dict.fromkeys(str(Architecture.parse(one)) for one in again):
            for number in range(fresh):
                store.add(evaluation(text, 1000 + number, CONFIRM))
    return folder


@pytest.fixture(scope="session")
def known_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 evaluations, and 4 fresh seeds of some architectures, the plain and the uniform ones."""
    return make_run(tmp_path_factory.mktemp("runs") / "known", fresh=4)


@pytest.fixture
def run_maker() -> Callable[..., Path]:
    return make_run
