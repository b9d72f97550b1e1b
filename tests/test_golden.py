"""The default search gives what it gave when this file was made: a redesign must not change a result."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
import torch

from search.build import create_evaluator, create_problem
from search.config import Config, load_config
from search.results import Results, load
from search.runner import _describe, _searcher, run_search
from search.steering import Clock
from search.store import COMPLETE, Evaluation, Store
from search.trainable import TrialResult
from spaces import Architecture

ROOT = Path(__file__).parents[1]
GOLDEN = json.loads((Path(__file__).parent / "golden_default.json").read_text())
TRAINED = 2  # of the 24 that were recorded; the sampler, which needs no training, proposes all of them


def machine() -> dict[str, str]:
    """What the last digits of a training depend on."""
    return {
        "torch": torch.__version__.partition("+")[0],
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "architecture": platform.machine(),
    }


def configuration(trials: int) -> Config:
    settings = ["resources.concurrency=1", f"search.trials={trials}", "resources.cpus=1"]
    return load_config(ROOT / "configs" / "default.yaml", settings)


def rows(results: Results) -> list[dict[str, object]]:
    return list(results.evaluations[["architecture", "accuracy", "flops", "params"]].to_dict("records"))


@pytest.mark.slow
def test_the_default_search_gives_what_it_gave(tmp_path: Path) -> None:
    """The accuracies of real trainings, compared where the arithmetic is the same."""
    if machine() != GOLDEN["machine"]:
        pytest.skip(f"recorded on {GOLDEN['machine']}, and this is {machine()}: rounding differs")
    run_search(configuration(TRAINED), tmp_path / "run")
    assert rows(load(tmp_path / "run")) == GOLDEN["evaluations"][:TRAINED]


def test_the_default_search_proposes_what_it_proposed(tmp_path: Path) -> None:
    """Architectures, costs and front, each accuracy told as it was: at concurrency 1 the search asks and is told in turn."""
    config = configuration(len(GOLDEN["evaluations"]))
    evaluator = create_evaluator(config)
    problem = create_problem(config, evaluator)
    with Store(tmp_path / "run", metric=evaluator.metric.name, identity=evaluator.identity) as store:
        _describe(config, problem, evaluator, store.folder)
        clock = Clock(store.folder, None)
        search = _searcher(config, problem, evaluator, store, None, config.search.trials, None, clock)
        for number, row in enumerate(GOLDEN["evaluations"]):
            proposed = search.suggest(str(number))
            assert (number, proposed["architecture"]) == (number, row["architecture"])
            result = TrialResult(COMPLETE, "", row["accuracy"], config.fidelity)
            search.on_trial_complete(str(number), result.to_ray(evaluator.metric.name, {}, done=True))
            costs = problem.cost(Architecture.parse(row["architecture"]))
            store.add(
                Evaluation(
                    row["architecture"],
                    config.fidelity,
                    config.seed,
                    COMPLETE,
                    "",
                    row["accuracy"],
                    costs,
                    seconds=1.0,
                    finished=float(number),
                    identity=evaluator.identity,
                )
            )
    results = load(tmp_path / "run")
    assert rows(results) == GOLDEN["evaluations"]
    assert list(results.front["architecture"]) == GOLDEN["front_after"]["24"]


def test_the_golden_run_is_whole() -> None:
    """24 evaluations, the plain network first, and a front among them."""
    texts = [row["architecture"] for row in GOLDEN["evaluations"]]
    assert len(texts) == len(set(texts)) == 24
    assert texts[0] == "attune_tiny:none,none,none"
    assert set(GOLDEN["front_after"]["24"]) <= set(texts)
