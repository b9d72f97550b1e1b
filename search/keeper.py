"""Keeping what trials find: evaluations, fronts, and the weights that a front needs; the work does not grow with the run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluators.metric import Metric
from search.config import Config
from search.files import write_whole
from search.front import RunningFront, by_architecture, mean_of
from search.mirror import Mirror
from search.objectives import OBJECTIVES
from search.results import load
from search.steering import Clock
from search.store import Evaluation, Store
from search.trainable import TrialResult, note_path, weights_path
from spaces import Architecture


class Keeper:
    """What a run directory holds, brought up to date with every trial."""

    def __init__(self, config: Config, store: Store, *, identity: str, metric: Metric) -> None:
        self.config, self.folder, self.store = config, store.folder, store
        self.identity, self.metric = identity, metric
        self.weights: Path | None = self.folder / "weights" if config.search.keep_weights != "none" else None
        self.seed_notes: Path | None = self.folder / "checkpoints" if len(config.seeds) > 1 else None
        self.front = RunningFront(config.search.costs, metric)
        # What `export` may be asked for: the fronts of each single counted cost, besides that of the search.
        counted = (name for name, objective in OBJECTIVES.items() if objective.counted)
        self._fronts = [self.front, *(RunningFront((cost,), metric) for cost in counted)]
        self.clock = Clock(self.folder, config.search.seconds)
        self.mirror = Mirror(self.folder, config.ray.storage) if config.ray.storage else None

    def begin(self) -> None:
        """Take in what the store holds."""
        for evaluations in by_architecture(self.store).values():
            for front in self._fronts:
                front.add(*evaluations)
        self.write_front()
        self._drop_weights({evaluation.architecture for evaluation in self.store})

    def record(self, candidate: Mapping[str, Any], result: TrialResult) -> Evaluation:
        """Keep what one trial found, an evaluation for each seed; ``candidate`` is what the searcher suggested.

        Returns their mean. A worker may die after its result was kept; the retry's result is then the same and changes nothing.
        """
        evaluations = [
            Evaluation(
                architecture=candidate["architecture"],
                fidelity=self.config.fidelity if result.fidelity is None else result.fidelity,
                seed=seed,
                state=result.state,
                reason=result.reason,
                score=score,
                costs=candidate["costs"],
                seconds=seconds,
                finished=time.time(),
                identity=self.identity,
                metric=self.metric.name,
                by_class=self.metric.of_classes(metrics),
            )
            for seed, score, seconds, metrics in result.by_seed
            or [(self.config.seed, result.score, result.seconds, result.metrics)]
        ]
        new = [evaluation for evaluation in evaluations if evaluation.key not in self.store]
        if new and result.weights is not None:
            self._write_weights(Architecture.parse(candidate["architecture"]), result.weights)
        for evaluation in new:
            self.store.add(evaluation)
        for seed in self.config.seeds:  # the journal has them now
            note = note_path(self.seed_notes, Architecture.parse(candidate["architecture"]), seed)
            if note:
                note.unlink(missing_ok=True)
        if new:
            self._update(*evaluations)
            with self.store.refusing():
                self.clock.keep()
            if self.mirror:
                self.mirror.push()
        return mean_of(evaluations)

    def finish(self) -> None:
        """Bring every file up to date; ``front.csv`` becomes the recommended front, by everything that was trained."""
        with self.store.refusing():
            load(self.folder).write_front()
        with self.store.refusing():
            self.clock.keep()
        self.store.flush()
        if self.mirror:
            self.mirror.push(now=True)

    def write_front(self) -> None:
        """front.csv, replaced atomically: while the search runs the front by its own scores."""
        with self.store.refusing():
            write_whole(self.folder / "front.csv", self.front.frame.to_csv(index=False))

    def _write_weights(self, arch: Architecture, content: bytes) -> None:
        """Weights that came from another machine."""
        path = weights_path(self.weights, arch)
        assert path is not None
        with self.store.refusing():
            write_whole(path, content)

    def _update(self, *seeds: Evaluation) -> None:
        before = self._on_fronts()
        changed = [front.add(*seeds) for front in self._fronts]
        if changed[0]:
            self.write_front()
        self._drop_weights(before | {seeds[0].architecture})

    def _on_fronts(self) -> set[str]:
        return set().union(*(front.architectures for front in self._fronts))

    def _drop_weights(self, candidates: set[str]) -> None:
        """Delete the weights of those candidates that no front needs."""
        if self.weights and self.config.search.keep_weights == "front":
            for text in candidates - self._on_fronts():
                path = weights_path(self.weights, Architecture.parse(text))
                if path:
                    path.unlink(missing_ok=True)
