"""The Ray Tune run: from a configuration to a run directory with every evaluation, its front and its study."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

# Ray reads these when it is imported: its uv hook rebuilds the environment for every worker, and the default loggers
# write three files per trial that nobody reads.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # this project has its own progress display
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "64")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import optuna
import ray
from ray import tune

from evaluators.base import Evaluator, Preparing
from search.build import create_evaluator, create_problem, describe_data, describe_run, table_path
from search.cluster import actor_here, on_cluster, ray_session, trial_resources
from search.config import Config, dump_config, load_run_config
from search.front import by_architecture
from search.keeper import Keeper
from search.loggers import create_loggers
from search.mirror import fetch, open_url
from search.problem import Problem
from search.progress import Progress
from search.reuse import adopt
from search.samplers import create_sampler
from search.samplers.exact import ExactCandidates
from search.schedulers import Stopping, Trials
from search.searcher import PlacementSearch
from search.store import FAILED, STOPPED, Store, StoreError
from search.trainable import EvaluationTrial, Overdue, TrialPlan, TrialResult
from spaces.errors import UsageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    folder: Path
    planned: int
    finished: int
    failed: int
    stopped: int
    seconds: float
    interrupted: bool


def new_run_folder(name: str, root: str | Path = "runs") -> Path:
    """``runs/<name>-<date>-<time>``, made unique where two runs start in one second."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(root) / stem
    for number in range(2, 1000):
        if not folder.exists():
            return folder
        folder = Path(root) / f"{stem}-{number}"
    raise UsageError(f"{root} holds a thousand runs of this second")


def run_search(config: Config, folder: str | Path, *, resume: bool = False) -> Outcome:
    """Run, or go on with, a search until its planned trials are finished; returns what it came to.

    Raises UsageError for a folder that is taken, holds another run, or (to resume) holds none.
    """
    folder = Path(folder).resolve()
    if not resume and (folder / "config.yaml").exists():
        raise UsageError(f"{folder} already holds a run; continue it with --resume {folder} or choose another folder")
    evaluator = create_evaluator(config)
    problem = create_problem(config, evaluator, folder)
    config.search.scheduler.check(config.fidelity)  # refuses what does not fit together before anything is written
    if config.ray.storage:
        open_url(config.ray.storage)
    with Store(folder, metric=evaluator.metric.name) as store:
        (folder / "config.yaml").write_text(dump_config(config))
        (folder / "data.json").write_text(json.dumps(describe_data(evaluator)))
        (folder / "run.json").write_text(json.dumps(describe_run(evaluator)))
        for name, measured in problem.kept.items():  # a run that goes on has to see the same costs
            table_path(folder, name).write_text(json.dumps(measured, indent=1))
        if isinstance(evaluator, Preparing):
            evaluator.prepare(folder, fidelity=config.fidelity, seeds=config.seeds)
        return _search(config, problem, evaluator, store)


def resume_search(folder: str | Path) -> Outcome:
    """Go on with a run that was killed or interrupted; nothing that was finished is repeated.

    A URL is that of a run's copy (`ray.storage`), which is fetched into `runs` first.
    """
    if "://" in str(folder):
        url = str(folder).rstrip("/")
        folder = Path("runs") / url.rpartition("/")[2]
        fetch(url, folder)
    return run_search(load_run_config(folder), folder, resume=True)


def _search(config: Config, problem: Problem, evaluator: Evaluator, store: Store) -> Outcome:
    """What is left to do of a run; returns what all of it came to."""
    start = time.monotonic()
    keeper = Keeper(config, store, identity=evaluator.identity, metric=evaluator.metric)
    reused = adopt(
        config.reuse,
        store,
        problem,
        identity=keeper.identity,
        fidelity=config.fidelity,
        seeds=config.seeds,
        weights=keeper.weights is not None,
    )
    if config.reuse:
        log.warning("%d evaluations of %s are reused", reused, ", ".join(config.reuse))
    keeper.begin()
    planned = min(config.search.trials + reused, problem.feasible.count)
    missing = planned - len(store)
    if missing > 0:
        if keeper.weights:
            keeper.weights.mkdir(exist_ok=True)
        _fit(config, problem, evaluator, keeper, missing, planned)
    keeper.finish()
    states = [seeds[-1].state for seeds in by_architecture(store).values()]
    return Outcome(
        folder=store.folder,
        planned=planned,
        finished=len(states),
        failed=states.count(FAILED),
        stopped=states.count(STOPPED),
        seconds=time.monotonic() - start,
        interrupted=len(states) < planned,
    )


def _fit(config: Config, problem: Problem, evaluator: Evaluator, keeper: Keeper, missing: int, planned: int) -> None:
    """Ray Tune's part: trials until the searcher says that it is finished."""
    folder = keeper.folder
    trials = Trials(config.fidelity, evaluator.metric, config.search.costs, folder)
    stopping = config.search.scheduler.build(trials)
    searcher = _searcher(config, problem, evaluator, keeper.store, stopping, missing)
    with ray_session(config), Progress(planned, keeper.store, keeper.front) as progress:
        resources, concurrency = trial_resources(config)
        progress.note(f"{concurrency} trials at once, each with {_words(resources)}")
        limit = config.resources.time_limit
        overdue = actor_here(Overdue) if limit else None
        plan = TrialPlan(
            fidelity=config.fidelity,
            seeds=config.seeds,
            rungs=stopping.epochs if stopping else frozenset(),
            threads=max(1, int(resources["cpu"])),
            weights=keeper.weights,
            send_weights=on_cluster(config),
            checkpoints=None if on_cluster(config) else folder / "checkpoints",
            time_limit=limit,
            overdue=overdue,
            plugins=config.plugins,
        )
        recorder = _Recorder(keeper, searcher, progress, retries=config.resources.retries, overdue=overdue)
        trainable = tune.with_parameters(EvaluationTrial, evaluator=evaluator, plan=plan)
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=stopping.scheduler if stopping else None,
                num_samples=-1,  # the searcher says when it is finished
                max_concurrent_trials=concurrency,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(folder),
                verbose=0,
                callbacks=[recorder, *create_loggers(config.loggers, folder, config.name)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=config.resources.retries),
            ),
        )
        with _two_step_interrupt(searcher, progress):
            try:
                tuner.fit()
            except tune.TuneError:
                if recorder.refused is not None:  # Ray wraps it into pages of its own
                    raise recorder.refused from None
                raise


def _searcher(
    config: Config, problem: Problem, evaluator: Evaluator, store: Store, stopping: Stopping | None, missing: int
) -> PlacementSearch:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = config.seed + len(store)  # a resumed run goes on, it does not draw the same again
    sampler = create_sampler(config.search.sampler, ExactCandidates(problem), seed=seed)
    return PlacementSearch(
        problem,
        sampler,
        optuna.storages.RDBStorage(f"sqlite:///{store.folder / 'study.db'}"),
        store,
        trials=missing,
        seed=seed,
        name=config.name,
        metric=evaluator.metric,
        expected=stopping.expected if stopping else None,
    )


class _Recorder(tune.Callback):
    """Ray Tune's news, passed to the store and to the screen."""

    def __init__(
        self, keeper: Keeper, searcher: PlacementSearch, progress: Progress, *, retries: int, overdue: Any
    ) -> None:
        self._keeper, self._searcher, self._progress = keeper, searcher, progress
        self._retries, self._overdue = retries, overdue
        self._deaths: Counter[str] = Counter()
        self.refused: StoreError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its callbacks for its own way to resume, which this project does not take."""
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if result["done"]:  # else it is at a rung and goes on
            self._keep(trial, TrialResult.from_ray(result))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The worker died, was killed for its memory, or could not start, and Ray tried again as often as it may.

        Ray does not try again where a worker dies while it is handed a trial: then the searcher hands it out anew.
        """
        overdue, text = self._overdue, trial.config["architecture"]
        reason = ray.get(overdue.reason.remote(text)) if overdue is not None else None
        self._deaths[text] += trial.run_metadata.num_failures
        if not reason and self._deaths[text] <= self._retries:
            self._searcher.again(text)
            return
        lines = str(reason or trial.get_error() or "the worker died").strip().splitlines()
        self._keep(trial, TrialResult.failure(lines[-1]))

    def _keep(self, trial: Any, result: TrialResult) -> None:
        try:
            evaluation = self._keeper.record(trial.config, result)
        except StoreError as error:
            self.refused = error
            raise
        self._progress.finished(evaluation)


def _words(resources: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {name.upper()}" for name, amount in resources.items())


@contextmanager
def _two_step_interrupt(searcher: PlacementSearch, progress: Progress) -> Iterator[None]:
    """Ctrl-C once: running trials finish, no new ones start. Twice: stop now."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        searcher.stop_suggesting()
        progress.note("interrupted: running trials finish, no new ones start; press Ctrl-C again to stop now")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    except KeyboardInterrupt:
        progress.note("stopped")
    finally:
        signal.signal(signal.SIGINT, before)
