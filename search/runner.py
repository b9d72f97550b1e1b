"""The Ray Tune run: from a configuration to a run directory with every evaluation, its front and its study."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
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
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from evaluators.base import Evaluator, Preparing
from search.actors import Notes, Overdue
from search.build import (
    create_evaluator,
    create_problem,
    data_lines,
    describe_data,
    describe_run,
    table_path,
    weights_line,
)
from search.check import chance, refuse
from search.cluster import actor_here, on_cluster, ray_session, trial_resources
from search.config import MOST_TRIALS, Config, changed, dump_config, load_run_config
from search.files import free_name, sqlite_url, write_whole
from search.front import by_architecture
from search.keeper import Keeper
from search.loggers import create_loggers
from search.meaning import check_meaning, describe_meaning
from search.mirror import fetch
from search.problem import Problem
from search.progress import Progress, no_reporter
from search.reuse import adopt
from search.samplers import create_sampler
from search.samplers.exact import ExactCandidates
from search.schedulers import Stopping, Trials
from search.searcher import PlacementSearch
from search.steering import Clock, Enqueued, canonical
from search.store import COMPLETE, FAILED, STOPPED, Store, StoreError
from search.trainable import EvaluationTrial, TrialPlan, TrialResult, full_disk
from spaces.errors import UsageError
from spaces.plugins import OBJECTS
from spaces.protocols import offers

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


def run_search(config: Config, folder: str | Path, *, resume: bool = False) -> Outcome:
    """Run, or go on with, a search until its planned trials are finished; returns what it came to.

    Raises UsageError for a folder that is taken, holds another run, or (to resume) holds none.
    """
    folder = Path(folder).resolve()
    if not resume and (folder / "config.yaml").exists():
        raise UsageError(f"{folder} already holds a run; continue it with --resume {folder} or choose another folder")
    evaluator = create_evaluator(config)
    problem = create_problem(config, evaluator, folder)
    refuse(config, problem, folder)  # before anything is written
    if start := weights_line(config, evaluator.network):
        log.warning(start)
    if resume and (said := check_meaning(folder, config, problem, evaluator)):
        log.warning(said)
    with Store(folder, metric=evaluator.metric.name, identity=evaluator.identity) as store:
        if store.others:
            log.warning("%d evaluations of other data or recipes in %s are left out of it", store.others, folder)
        with store.refusing():
            _describe(config, problem, evaluator, folder)
        if offers(evaluator, Preparing):
            evaluator.prepare(folder, fidelity=config.fidelity, seeds=config.seeds)
        return _search(config, problem, evaluator, store)


def _describe(config: Config, problem: Problem, evaluator: Evaluator, folder: Path) -> None:
    """Write what the run is; a configuration that it replaces is kept as ``config.yaml.1``, ``.2`` ..."""
    for name, measured in problem.kept.items():  # a run that goes on has to see the same costs
        write_whole(table_path(folder, name), json.dumps(measured, indent=1))
    write_whole(folder / "data.json", json.dumps(describe_data(evaluator)))
    meaning = describe_meaning(config, problem, evaluator)
    write_whole(folder / "run.json", json.dumps({**describe_run(evaluator), "meaning": meaning}))
    path, text = folder / "config.yaml", dump_config(config)
    if path.exists() and path.read_text() != text:
        write_whole(free_name(path), path.read_bytes())
    write_whole(path, text)  # last: with it the folder is a run


def resume_search(folder: str | Path, overrides: Sequence[str] = ()) -> Outcome:
    """Go on with a run that was killed or interrupted; nothing that was finished is repeated.

    A URL is that of a run's copy (`ray.storage`), which is fetched into `runs` first. ``overrides``: ``key=value`` of what
    does not change the meaning of a run, see ``search.config.changed``.
    """
    if "://" in str(folder):
        url = str(folder).rstrip("/")
        folder = Path("runs") / url.rpartition("/")[2]
        fetch(url, folder)
    config = load_run_config(folder)
    return run_search(changed(config, overrides) if overrides else config, folder, resume=True)


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
    planned = min(config.search.trials + reused, problem.candidates)
    missing = planned - len(store)
    if missing > 0 and keeper.clock.left:
        if keeper.weights:
            keeper.weights.mkdir(exist_ok=True)
        _fit(config, problem, evaluator, keeper, missing, None if config.search.trials == MOST_TRIALS else planned)
    keeper.finish()
    if said := chance(evaluator, [one.score for one in store if one.state == COMPLETE]):
        log.warning(said)
    states = [seeds[-1].state for seeds in by_architecture(store).values()]
    return Outcome(
        folder=store.folder,
        planned=planned,
        finished=len(states),
        failed=states.count(FAILED),
        stopped=states.count(STOPPED),
        seconds=time.monotonic() - start,
        interrupted=len(states) < planned and keeper.clock.left > 0,
    )


def _fit(
    config: Config, problem: Problem, evaluator: Evaluator, keeper: Keeper, missing: int, planned: int | None
) -> None:
    """Ray Tune's part: trials until the searcher says that it is finished."""
    folder = keeper.folder
    trials = Trials(config.fidelity, evaluator.metric, config.search.costs, folder)
    stopping = config.search.scheduler.build(trials)
    with ray_session(config, folder), Progress(planned, keeper.store, keeper.front, keeper.clock) as progress:
        resources, concurrency = trial_resources(config)
        in_order = concurrency if config.search.deterministic else None
        searcher = _searcher(config, problem, evaluator, keeper.store, stopping, missing, in_order, keeper.clock)
        progress.promise = searcher.promise
        for line in data_lines(evaluator):
            progress.note(line)
        progress.note(f"{concurrency} trials at once, each with {_words(resources)}")
        overdue = actor_here(Overdue) if config.resources.time_limit else None
        plan = TrialPlan(
            fidelity=config.fidelity,
            seeds=config.seeds,
            rungs=stopping.epochs if stopping else frozenset(),
            threads=max(1, int(resources["cpu"])),
            weights=keeper.weights,
            send_weights=on_cluster(config),
            checkpoints=None if on_cluster(config) else folder / "checkpoints",
            time_limit=config.resources.time_limit,
            overdue=overdue,
            plugins=config.plugins,
            objects=folder / OBJECTS,
            seed_notes=keeper.seed_notes,
            notes=actor_here(Notes) if keeper.seed_notes and on_cluster(config) else None,
        )
        recorder = _Recorder(
            keeper, searcher, progress, retries=config.resources.retries, overdue=overdue, at_once=concurrency
        )
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
                progress_reporter=no_reporter(),
                callbacks=[recorder, *create_loggers(config.loggers, folder, config.name)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=0),  # the recorder decides who is tried again
            ),
        )
        with _two_step_interrupt(searcher, progress):
            try:
                tuner.fit()
            except (tune.TuneError, ray.exceptions.RayError, SQLAlchemyError, OSError) as error:
                if recorder.refused is not None:  # Ray wraps it into pages of its own
                    raise recorder.refused from None
                if full := full_disk(error, [folder]):
                    raise StoreError(f"{full}; {len(keeper.store)} finished evaluations are kept") from error
                if isinstance(error, ray.exceptions.RayError):
                    raise StoreError(f"Ray failed: {str(error).strip().splitlines()[0]}") from error
                raise


def _searcher(
    config: Config,
    problem: Problem,
    evaluator: Evaluator,
    store: Store,
    stopping: Stopping | None,
    missing: int,
    in_order: int | None,
    clock: Clock,
) -> PlacementSearch:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = config.seed + len(store)  # a resumed run goes on, it does not draw the same again
    sampler = create_sampler(config.search.sampler, ExactCandidates(problem), seed=seed)
    return PlacementSearch(
        problem,
        sampler,
        open_study(store.folder / "study.db"),
        store,
        trials=missing,
        seed=seed,
        name=config.name,
        metric=evaluator.metric,
        expected=stopping.expected if stopping else None,
        in_order=in_order,
        first=canonical(config.search.enqueue, problem, "search.enqueue"),
        added=Enqueued(store.folder).news,
        over=lambda: not clock.left,
    )


def open_study(path: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage; a file that is damaged is moved aside and said, and the searcher fills a new one from the journal."""
    try:
        return _opened(path)
    except (
        Exception
    ) as error:  # bytes that were changed in the middle may fail anywhere in SQLite, SQLAlchemy or Optuna
        if any(words in str(error) for words in ("disk is full", "readonly", "unable to open")):
            raise StoreError(f"cannot write to {path}: {str(error).splitlines()[0]}") from error
        aside = free_name(path, ".broken")
        os.replace(path, aside)
        for suffix in ("-journal", "-wal", "-shm"):  # they belong to the one that was moved, and would damage a new one
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        log.warning("%s is damaged, and lies in %s now; a new one is made from the journal", path, aside.name)
        return _opened(path)


def _opened(path: Path) -> optuna.storages.RDBStorage:
    if path.exists():
        with closing(sqlite3.connect(path)) as database:
            answer = database.execute("PRAGMA quick_check").fetchone()
        if answer != ("ok",):
            raise sqlite3.DatabaseError(f"it does not hold together: {answer}")
    storage = optuna.storages.RDBStorage(sqlite_url(path))
    event.listen(storage.engine, "connect", _trust_the_system)
    storage.engine.dispose()  # connections from before that
    for study in storage.get_all_studies():
        storage.get_all_trials(study._study_id, deepcopy=False)
    return storage


def _trust_the_system(connection: sqlite3.Connection, _: Any) -> None:
    """Commit without waiting for the disk, ten times a suggestion: what a power cut takes here, the journal holds."""
    connection.execute("PRAGMA synchronous = OFF")


class _Recorder(tune.Callback):
    """Ray Tune's news, passed to the store and to the screen."""

    def __init__(
        self, keeper: Keeper, searcher: PlacementSearch, progress: Progress, *, retries: int, overdue: Any, at_once: int
    ) -> None:
        self._keeper, self._searcher, self._progress = keeper, searcher, progress
        self._retries, self._overdue = retries, overdue
        self._deaths: Counter[str] = Counter()
        self._at_once = at_once
        self.refused: StoreError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its callbacks for its own way to resume, which this project does not take."""
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if result["done"]:  # else it is at a rung and goes on
            self._keep(trial, TrialResult.from_ray(result))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The worker died, was killed for its memory or its time, or could not start; the searcher may hand it out anew."""
        overdue, text = self._overdue, trial.config["architecture"]
        reason = ray.get(overdue.reason.remote(text)) if overdue is not None else None
        error = trial.get_error()
        short = not reason and out_of_memory(error)
        if short and self._at_once > 1:
            self._at_once -= 1
            self._searcher.at_once = self._at_once
            self._progress.note(
                f"the machine ran out of memory, and Ray's monitor ended an evaluation of {text}: it is tried again, "
                f"with {self._at_once} at once from now on (resources.concurrency)"
            )
            self._searcher.again(text)
            return
        self._deaths[text] += 1
        if not reason and self._deaths[text] <= self._retries:
            self._searcher.again(text)
            return
        lines = str(reason or error or "the worker died").strip().splitlines()
        if short:
            lines = ["Ray's memory monitor ended it, although it ran alone: the machine has too little memory for it"]
        self._keep(trial, TrialResult.failure(lines[-1]))

    def _keep(self, trial: Any, result: TrialResult) -> None:
        try:
            if result.fault:
                kept = len(self._keeper.store)
                raise StoreError(f"{result.reason}; no candidate is to blame, {kept} finished evaluations are kept")
            evaluation = self._keeper.record(trial.config, result)
        except StoreError as error:
            self.refused = error
            raise
        self._progress.finished(evaluation)


def out_of_memory(error: object) -> bool:
    """Whether a worker was ended by Ray's memory monitor, as the error of its task or its actor says."""
    words = str(error).lower()
    told = ("running low on memory", "memory monitor", "due to memory pressure", "outofmemoryerror", "oom")
    ended = isinstance(error, ray.exceptions.OutOfMemoryError | ray.exceptions.RayActorError) or "actor" in words
    return isinstance(error, ray.exceptions.OutOfMemoryError) or (ended and any(one in words for one in told))


def _words(resources: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {name.upper()}" for name, amount in resources.items())


@contextmanager
def _two_step_interrupt(searcher: PlacementSearch, progress: Progress) -> Iterator[None]:
    """Ctrl-C or SIGTERM once: running trials finish, no new ones start. Twice: stop now."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        for one in STOPS:
            signal.signal(one, signal.default_int_handler)
        searcher.stop_suggesting()
        progress.note("interrupted: running trials finish, no new ones start; press Ctrl-C again to stop now")

    before = {one: signal.signal(one, on_signal) for one in STOPS}
    try:
        yield
    except KeyboardInterrupt:
        progress.note("stopped")
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


STOPS = (signal.SIGINT, signal.SIGTERM)  # Slurm and Kubernetes send the second
