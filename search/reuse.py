"""A second search on the same task starts warm: what earlier runs evaluated is taken over, and nothing is repeated."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from search.config import load_run_config
from search.files import read_json, unreadable, write_whole
from search.front import by_architecture
from search.meaning import other_code, read_meaning
from search.problem import Problem
from search.store import COMPLETE, SEARCH, Evaluation, Store, read_journal
from search.trainable import weights_path
from spaces import Architecture
from spaces.errors import shortened

log = logging.getLogger(__name__)


def adopt(
    runs: Sequence[str | Path],
    store: Store,
    problem: Problem,
    *,
    identity: str,
    fidelity: int,
    seeds: Sequence[int],
    weights: bool,
) -> int:
    """Copy what fits from ``runs`` into the store, once; returns how many architectures the search began with.

    What fits: complete evaluations of the same identity, fidelity and seeds, of architectures that this search may propose. A
    failure is not taken over, for it may have been the machine's. Trained weights come along where the other run kept them.
    ``reused.json`` says that everything was copied: a run that was killed before it was written copies the rest.
    Raises UsageError for a folder that is no run.
    """
    done = store.folder / "reused.json"
    if done.exists():
        advice = "remove it, and what is missing is copied again"
        known = read_json(done, dict, advice).get("evaluations")
        if type(known) is not int or known < 0:
            raise unreadable(done, f"evaluations = {shortened(known)}", advice)
        return known
    taken: set[str] = set()
    for run in runs:
        load_run_config(run)  # refuses a folder that is no run
        files = other_code(read_meaning(Path(run)) or {}, read_meaning(store.folder) or {})
        if files:
            log.warning("nothing of %s is reused: %s trained differently there", run, ", ".join(files))
            continue
        for evaluation in _fitting(Path(run), problem, identity, fidelity, seeds):
            taken.add(evaluation.architecture)
            if evaluation.key not in store:
                if weights:
                    _copy_weights(Path(run) / "weights", store.folder / "weights", evaluation.architecture)
                costs = problem.cost(Architecture.parse(evaluation.architecture))  # what is measured is this run's own
                store.add(replace(evaluation, costs=costs))
    with store.refusing():
        write_whole(done, json.dumps({"evaluations": len(taken), "runs": [str(run) for run in runs]}))
    return len(taken)


def _fitting(run: Path, problem: Problem, identity: str, fidelity: int, seeds: Sequence[int]) -> Iterator[Evaluation]:
    plain = str(Architecture.plain(problem.space.backbone))
    same = [
        evaluation
        for evaluation in read_journal(run)
        if (evaluation.purpose, evaluation.identity, evaluation.fidelity) == (SEARCH, identity, fidelity)
        and evaluation.seed in seeds
        and evaluation.state == COMPLETE
    ]
    for text, evaluations in by_architecture(same).items():
        arch = Architecture.parse(text)
        inside = arch in problem.space and problem.feasible.contains(problem.space.indices(arch)[None])[0]
        if (text == plain or inside) and len(evaluations) == len(seeds):
            yield from evaluations


def _copy_weights(source: Path, target: Path, architecture: str) -> None:
    arch = Architecture.parse(architecture)
    file = weights_path(source, arch)
    if file is not None and file.exists():
        target.mkdir(exist_ok=True)
        shutil.copyfile(file, target / file.name)
