"""After the search: candidates near the front and the baselines are trained again with fresh seeds, raced against each other.

Everything is kept in the run's store the moment it is finished, so a kill loses nothing and asking again goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
import ray
import torch

from evaluators.base import Evaluator, Movable, OnTask, Testing
from evaluators.outcomes import EvaluationError, MissingSplit
from search.build import create_problem, create_trainer
from search.cluster import ray_session, trial_resources
from search.config import Config
from search.confirmed import near_front, uniform_architectures
from search.front import front_of
from search.problem import Problem
from search.results import Results, load
from search.statistics import next_seed
from search.store import COMPLETE, CONFIRM, FAILED, RANDOM, TEST, Evaluation, Key, Store
from search.trainable import TrialResult, weights_path
from spaces import Architecture
from spaces.errors import UsageError, unknown
from spaces.plugins import load_plugins
from spaces.protocols import offers

BASELINES = ("uniform", "random")
FRESH_SEEDS = 1000  # the first fresh seed, counted from the run's own
CANDIDATES = 12

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One evaluation to make: what it is for, and where its weights go or come from."""

    purpose: str
    architecture: str
    fidelity: int
    seed: int
    weights: Path | None


class Worker:
    """Trains and tests on one share of the machine."""

    def __init__(self, evaluator: Evaluator, threads: int, plugins: Sequence[str]) -> None:
        load_plugins(plugins)
        self.evaluator = evaluator.at_home() if offers(evaluator, Movable) else evaluator
        torch.set_num_threads(threads)

    def run(self, job: Job) -> TrialResult:
        """The result of a job; what goes wrong with an architecture is a result too."""
        start = time.perf_counter()
        arch, evaluator = Architecture.parse(job.architecture), self.evaluator
        try:
            if job.purpose == TEST:
                assert offers(evaluator, Testing)
                assert job.weights is not None
                metrics = evaluator.test(arch, job.weights)
            else:
                metrics = evaluator.evaluate(arch, fidelity=job.fidelity, seed=job.seed, keep=job.weights)
        except EvaluationError as error:
            return TrialResult.failure(str(error))
        except Exception as error:  # one broken module must not end the confirmation of the others
            return TrialResult.failure(f"{type(error).__name__}: {error}")
        score = float(metrics[evaluator.metric.name])
        return TrialResult(COMPLETE, "", score, seconds=time.perf_counter() - start, metrics=metrics)


def confirm(folder: str | Path, seeds: int, *, baselines: Sequence[str] = ("uniform",)) -> None:
    """Train what a report will show with ``seeds`` fresh seeds on average, then measure its test accuracy, once.

    Raises UsageError for an unknown baseline, fewer than two seeds, a run without a complete evaluation, or test images that
    cannot be read.
    """
    for name in baselines:
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES)
    if seeds < 2:
        raise UsageError(f"--confirm {seeds}: one seed says nothing about the spread between seeds; valid: 2 or more")
    results = load(folder).with_evaluations()
    evaluator = create_trainer(results.config)
    testing = has_test(evaluator)
    problem = create_problem(results.config, evaluator, results.folder)
    with (
        Store(folder, CONFIRM, metric=evaluator.metric.name) as store,
        ray_session(results.config),
        Crew(results, evaluator, problem, store) as crew,
    ):
        if "random" in baselines:
            crew.random_search(len(results.searched))
        results = load(folder)  # with what random search has found
        wanted = near_front(results.summary, results.config.search.costs, CANDIDATES, results.metric)
        wanted.append(str(Architecture.plain(results.config.space.backbone)))
        if "uniform" in baselines:
            wanted += uniform_architectures(results.config.space)
        if "random" in baselines:
            wanted += near_front(results.random, results.config.search.costs, CANDIDATES, results.metric)
        crew.race(list(dict.fromkeys(wanted)), seeds)
        if testing:
            crew.test(reported(load(folder)))


def has_test(evaluator: Evaluator) -> bool:
    """Whether there are test images; every one is read, so that a broken one is known before anything is trained.

    Raises UsageError that names it.
    """
    if not offers(evaluator, Testing):
        return False
    try:
        return not isinstance(evaluator, OnTask) or evaluator.task.count("test") > 0
    except MissingSplit as error:
        log.warning("%s: no test %s is measured", error, evaluator.metric.name)
        return False


def reported(results: Results) -> list[str]:
    """What a report names with a test score: the front of the fresh means, the plain network and the uniform ones."""
    table = results.confirmed
    front = set(front_of(table, results.config.search.costs, results.metric)["architecture"])
    chosen = table[table["architecture"].isin(front) | table["role"].isin(["plain", "uniform"])]
    return [str(text) for text in chosen["architecture"]]


class Crew:
    """The workers of one confirmation, and what they have found.

    As a context, since workers keep their cores for as long as anything refers to them: at its end they are gone.
    """

    def __init__(self, results: Results, evaluator: Evaluator, problem: Problem, store: Store) -> None:
        self.config: Config = results.config
        self.problem, self.store = problem, store
        self.identity, self.metric = evaluator.identity, evaluator.metric
        self.fidelity = results.config.training.epochs
        self.weights = results.folder / "weights"
        resources, size = trial_resources(self.config)
        remote = ray.remote(num_cpus=resources["cpu"], num_gpus=resources.get("gpu", 0))(Worker)
        shared = ray.put(evaluator)
        self._hire = lambda: remote.remote(shared, max(1, int(resources["cpu"])), self.config.plugins)
        self._idle = [self._hire() for _ in range(size)]
        self._busy: dict[Any, tuple[Any, Job]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            ray.kill(worker)

    def random_search(self, number: int) -> None:
        """The baseline: as many architectures as the search evaluated, drawn uniformly from what fits the budget."""
        rng = np.random.default_rng(self.config.seed + FRESH_SEEDS)
        number = min(number, self.problem.feasible.count)
        drawn: dict[str, None] = {}
        while len(drawn) < number:
            for indices in self.problem.feasible.sample(rng, number):
                drawn.setdefault(str(self.problem.space.architecture(indices)))
        jobs = [Job(RANDOM, text, self.fidelity, self.config.seed, None) for text in list(drawn)[:number]]
        self._all(jobs)

    def race(self, texts: list[str], seeds: int) -> None:
        """Fresh seeds for these architectures, most of them where domination is uncertain."""
        costs_NM = self._costs(texts)
        pending = dict.fromkeys(texts, 0)
        taken = {text: {one.seed for one in self.store if one.architecture == text} for text in texts}

        def next_job() -> Job | None:
            values, broken = self._values(texts)
            racing = [i for i, text in enumerate(texts) if text not in broken]
            if not racing:
                return None
            chosen = next_seed(
                [[self.metric.sign * value for value in values[texts[i]]] for i in racing],
                [pending[texts[i]] for i in racing],
                costs_NM[racing],
                seeds=seeds,
            )
            if chosen is None:
                return None
            text = texts[racing[chosen]]
            seed = next(n for n in count(self.config.seed + FRESH_SEEDS) if n not in taken[text])  # a kill leaves gaps
            taken[text].add(seed)
            pending[text] += 1
            path = weights_path(self.weights, Architecture.parse(text), seed)
            return Job(CONFIRM, text, self.fidelity, seed, path)

        while True:
            while self._idle and (job := next_job()):
                self._start(job)
            if not self._busy:
                return
            for job in self._finished():
                pending[job.architecture] -= 1

    def test(self, texts: list[str]) -> None:
        """The test score of every fresh seed of the reported architectures; what is known is never measured again.

        A test that fails is said, and measured again when it is asked for again.
        """
        trained = [one for one in self.store if one.state == COMPLETE and one.architecture in texts]
        self._all(
            [
                Job(TEST, one.architecture, one.fidelity, one.seed, path)
                for one in trained
                if (path := weights_path(self.weights, Architecture.parse(one.architecture), one.seed))
                and path.exists()
            ]
        )

    # --- one job after the other ------------------------------------------------------------------------------------

    def _all(self, jobs: list[Job]) -> None:
        waiting = [job for job in jobs if self._key(job) not in self.store]
        while waiting or self._busy:
            while self._idle and waiting:
                self._start(waiting.pop(0))
            list(self._finished())

    def _key(self, job: Job) -> Key:
        return (job.purpose, self.identity, job.architecture, job.fidelity, job.seed)

    def _start(self, job: Job) -> None:
        worker = self._idle.pop()
        self._busy[worker.run.remote(job)] = (worker, job)

    def _finished(self) -> Iterator[Job]:
        """Wait for one job at least; keep its result."""
        done, _ = ray.wait(list(self._busy), num_returns=1)
        for reference in done:
            worker, job = self._busy.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayError as error:
                result, worker = (
                    TrialResult.failure(f"the worker died: {str(error).strip().splitlines()[-1]}"),
                    self._hire(),
                )
            self._idle.append(worker)
            if job.purpose == TEST and result.state == FAILED:
                log.warning("%s, seed %d: its test failed: %s", job.architecture, job.seed, result.reason)
            self.store.add(self._evaluation(job, result))
            yield job

    def _evaluation(self, job: Job, result: TrialResult) -> Evaluation:
        return Evaluation(
            architecture=job.architecture,
            fidelity=job.fidelity,
            seed=job.seed,
            state=result.state,
            reason=result.reason,
            score=result.score,
            costs=self.problem.cost(Architecture.parse(job.architecture)),
            seconds=result.seconds,
            finished=time.time(),
            identity=self.identity,
            purpose=job.purpose,
            metric=self.metric.name,
            by_class=self.metric.of_classes(result.metrics),
        )

    def _costs(self, texts: list[str]) -> np.ndarray:
        costs = [self.problem.cost(Architecture.parse(text)) for text in texts]
        return np.array([[cost[metric] for metric in self.config.search.costs] for cost in costs], dtype=float)

    def _values(self, texts: list[str]) -> tuple[dict[str, list[float]], set[str]]:
        """The scores of fresh seeds so far, and the architectures that failed with one."""
        values: dict[str, list[float]] = {text: [] for text in texts}
        broken = set()
        for one in self.store:
            if one.architecture in values and one.fidelity == self.fidelity and one.identity == self.identity:
                if one.state == FAILED:
                    broken.add(one.architecture)
                elif one.state == COMPLETE:
                    values[one.architecture].append(one.score)
        return values, broken
