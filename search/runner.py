"""The Ray Tune run: from a configuration to a run directory with every evaluation, its front and its study."""

from __future__ import annotations

import json
import logging
import math
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

import numpy as np
import optuna
import ray
import torch
from ray import tune

from evaluators.base import Evaluator, Preparing
from evaluators.data import Data, load_data
from evaluators.latency import CALIBRATION, LatencyTable, Setting
from evaluators.memory import parse_memory
from evaluators.proxies import ProxyEvaluator
from evaluators.supernet import SupernetEvaluator, SupernetStart
from evaluators.table import TableEvaluator
from evaluators.training import TrainingEvaluator, pick_device
from search.cluster import actor_here, on_cluster, ray_session, trial_resources
from search.config import Config, dump_config, load_run_config
from search.loggers import create_loggers
from search.mirror import Mirror, fetch, open_url
from search.problem import Problem
from search.progress import Progress
from search.reuse import adopt
from search.samplers import create_sampler
from search.schedulers import DominationASHA, Rungs
from search.searcher import PlacementSearch
from search.store import (
    FAILED,
    STOPPED,
    Evaluation,
    RunningFront,
    Store,
    StoreError,
    by_architecture,
    mean_of,
)
from search.trainable import EvaluationTrial, Overdue, failed, weights_path
from spaces import Architecture
from spaces.errors import UsageError

log = logging.getLogger(__name__)

LATENCY_TABLE = "latency_table.json"


class Interrupted(Exception):
    """The user stopped the run; everything finished is kept."""


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
    create_rungs(config)  # refuses what does not fit together before anything is written
    if config.ray.storage:
        open_url(config.ray.storage)
    with Store(folder) as store:
        (folder / "config.yaml").write_text(dump_config(config))
        (folder / "data.json").write_text(json.dumps(describe_data(evaluator.data)))
        if problem.latency:  # a run that goes on has to see the same costs
            (folder / LATENCY_TABLE).write_text(json.dumps(problem.latency.to_dict(), indent=1))
        if isinstance(evaluator, Preparing):
            evaluator.prepare(folder, fidelity=config.fidelity, seeds=config.seeds)
        return _Run(config, folder, store, problem, evaluator).go()


def resume_search(folder: str | Path) -> Outcome:
    """Go on with a run that was killed or interrupted; nothing that was finished is repeated.

    A URL is that of a run's copy (`ray.storage`), which is fetched into `runs` first.
    """
    if "://" in str(folder):
        url = str(folder).rstrip("/")
        folder = Path("runs") / url.rpartition("/")[2]
        fetch(url, folder)
    return run_search(load_run_config(folder), folder, resume=True)


def create_evaluator(config: Config) -> Evaluator:
    """What scores the candidates of a run."""
    plan, identity_init, native = config.evaluator, config.space.identity_start, config.space.native
    data = load_data(config.data, seed=config.seed)
    if plan.name == "table":
        return TableEvaluator.read(plan.file or "", data)
    if plan.name == "proxy":
        return ProxyEvaluator(data, plan.proxy, native=native)
    if plan.name == "training" and plan.start == "scratch":
        return create_trainer(config, data)
    supernet = SupernetEvaluator(
        data,
        config.space.build(),
        config.training,
        identity_init,
        plan.paths,
        plan.sandwich,
        plan.calibration,
        plan.validation,
    )
    if plan.name == "supernet":
        return supernet
    return SupernetStart(
        data,
        config.training,
        identity_init,
        native,
        memory=memory_limit(config),
        supernet=supernet,
        supernet_epochs=config.supernet_epochs,
    )


def create_trainer(config: Config, data: Data | None = None) -> TrainingEvaluator:
    """What trains an architecture of a run from scratch, whatever scored it in the search."""
    return TrainingEvaluator(
        data or load_data(config.data, seed=config.seed),
        config.training,
        identity_init=config.space.identity_start,
        native=config.space.native,
        memory=memory_limit(config),
    )


def memory_limit(config: Config) -> int | None:
    """Bytes that a training may take; None: what the machine has."""
    return None if config.resources.memory is None else parse_memory(config.resources.memory)


def create_problem(config: Config, evaluator: Evaluator, folder: Path | None = None) -> Problem:
    """The space, costs and budget of a run; raises UsageError where nothing fits.

    Where latency is a cost or a limit it is measured now, or taken from what the run in ``folder`` has measured.
    """
    return Problem.build(
        config.space.build(),
        latency=measure_latencies(config, evaluator, folder) if config.search.needs_latency else None,
        image_size=evaluator.image_size,
        num_classes=evaluator.num_classes,
        in_chans=evaluator.in_chans,
        native=config.space.native,
        budget={str(metric): limit for metric, limit in config.search.budget.items()},
        costs=config.search.costs,
    )


def create_rungs(config: Config) -> Rungs | None:
    """Where trainings may end early; None: nowhere. Raises UsageError where the rungs do not fit the epochs."""
    plan = config.search.scheduler
    if plan.name == "none":
        return None
    return Rungs(config.training.epochs, first=plan.first, reduction=plan.reduction, brackets=plan.brackets)


def measure_latencies(config: Config, evaluator: Evaluator, folder: Path | None) -> LatencyTable:
    """The additive latency table of a run; placements are measured when their costs are asked for."""
    plan = config.search.latency
    device = plan.device or str(pick_device())
    file = folder / LATENCY_TABLE if folder else None
    known = json.loads(file.read_text()) if file and file.exists() else None
    if known is None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"search.latency.device = {device!r}: this machine has no GPU; valid: cpu")
        log.warning("measuring the latency of the space's placements on %s", device)
    table = LatencyTable(
        config.space.backbone,
        image_size=evaluator.image_size,
        num_classes=evaluator.num_classes,
        in_chans=evaluator.in_chans,
        native=config.space.native,
        setting=Setting(plan.batch, device, plan.threads, plan.compile, plan.repeats),
        known=known,
    )
    if known is None:
        space = config.space.build()
        rows = space.sample(np.random.default_rng(config.seed), CALIBRATION)
        table.calibrate([space.architecture(row) for row in rows])
    return table


def describe_data(data: Data) -> dict[str, Any]:
    """What an exported model has to know of its data, as JSON."""
    return {
        "num_classes": data.num_classes,
        "in_chans": data.in_chans,
        "image_size": data.image_size,
        "mean": list(data.mean),
        "std": list(data.std),
        "class_names": list(data.class_names),
    }


class _Run:
    """One run in flight."""

    def __init__(self, config: Config, folder: Path, store: Store, problem: Problem, evaluator: Evaluator) -> None:
        self.config, self.folder, self.store = config, folder, store
        self.problem, self.evaluator = problem, evaluator
        self.task = evaluator.identity
        self.fidelity = config.fidelity
        self.weights = folder / "weights" if config.search.keep_weights != "none" else None
        self.front = RunningFront(config.search.costs)
        # What `export` may be asked for: the fronts of each single cost, besides that of the search.
        self.fronts = [self.front, *(RunningFront((cost,)) for cost in ("flops", "macs", "params"))]
        self.overdue: Any = None
        self.mirror = Mirror(folder, config.ray.storage) if config.ray.storage else None

    def go(self) -> Outcome:
        start = time.monotonic()
        reused = adopt(
            self.config.reuse,
            self.store,
            self.problem,
            task=self.task,
            fidelity=self.fidelity,
            seeds=self.config.seeds,
            weights=self.weights is not None,
        )
        if self.config.reuse:
            log.warning("%d evaluations of %s are reused", reused, ", ".join(self.config.reuse))
        self._read_fronts()
        planned = min(self.config.search.trials + reused, self.problem.feasible.count)
        missing = planned - len(self.store)
        if missing > 0:
            if self.weights:
                self.weights.mkdir(exist_ok=True)
            self._fit(missing, planned)
        self._write_front()
        self.store.flush()
        if self.mirror:
            self.mirror.push(now=True)
        states = [seeds[-1].state for seeds in by_architecture(self.store).values()]
        return Outcome(
            folder=self.folder,
            planned=planned,
            finished=len(states),
            failed=states.count(FAILED),
            stopped=states.count(STOPPED),
            seconds=time.monotonic() - start,
            interrupted=len(states) < planned,
        )

    def _fit(self, missing: int, planned: int) -> None:
        rungs = create_rungs(self.config)
        scheduler = self._scheduler(rungs) if rungs else None
        searcher = self._searcher(rungs, missing)
        with ray_session(self.config), Progress(planned, self.store, self.front) as progress:
            resources, concurrency = trial_resources(self.config)
            progress.note(f"{concurrency} trials at once, each with {_words(resources)}")
            limit = self.config.resources.time_limit
            self.overdue = actor_here(Overdue) if limit else None
            plan = {
                "time_limit": limit,
                "overdue": self.overdue,
                "fidelity": self.fidelity,
                "rungs": frozenset(rungs.levels(0)) if rungs else frozenset(),
                "seeds": self.config.seeds,
                "threads": max(1, int(resources["cpu"])),
                "weights": self.weights,
                "send_weights": on_cluster(self.config),
                "checkpoints": None if on_cluster(self.config) else self.folder / "checkpoints",
            }
            recorder = _Recorder(self, searcher, progress)
            trainable = tune.with_parameters(EvaluationTrial, evaluator=self.evaluator, plan=plan)
            tuner = tune.Tuner(
                tune.with_resources(trainable, resources),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=scheduler,
                    num_samples=-1,  # the searcher says when it is finished
                    max_concurrent_trials=concurrency,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="ray",
                    storage_path=str(self.folder),
                    verbose=0,
                    callbacks=[
                        recorder,
                        *create_loggers(self.config.loggers, self.folder, self.config.name),
                    ],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    failure_config=tune.FailureConfig(max_failures=self.config.resources.retries),
                ),
            )
            with _two_step_interrupt(searcher, progress):
                try:
                    tuner.fit()
                except tune.TuneError:
                    if recorder.refused is not None:  # Ray wraps it into pages of its own
                        raise recorder.refused from None
                    raise

    def _scheduler(self, rungs: Rungs) -> DominationASHA:
        """Early stopping whose rungs outlive a kill in ``rungs.jsonl``."""
        return DominationASHA(
            rungs,
            costs=self.config.search.costs,
            time_attr="fidelity",
            journal=self.folder / "rungs.jsonl",
            identify=lambda trial: str(trial.config["architecture"]),
        )

    def _searcher(self, rungs: Rungs | None, missing: int) -> PlacementSearch:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = optuna.storages.RDBStorage(f"sqlite:///{self.folder / 'study.db'}")
        space, problem = self.problem.space, self.problem
        sampler = create_sampler(
            self.config.search.sampler,
            space,
            lambda params: problem.objectives(_rows(space, params)),
            feasible=lambda params: problem.feasible.contains(_rows(space, params)),
            seed=self.config.seed + len(self.store),  # a resumed run goes on, it does not draw the same again
        )
        return PlacementSearch(
            problem,
            sampler,
            storage,
            self.store,
            trials=missing,
            seed=self.config.seed + len(self.store),
            name=self.config.name,
            expected=rungs.expected if rungs else None,
        )

    # --- what is kept ----------------------------------------------------------------------------------------------

    def record(self, candidate: dict[str, Any], result: dict[str, Any]) -> Evaluation:
        """Keep what one trial found, an evaluation for each seed; ``candidate`` is what the searcher suggested.

        Returns their mean. A worker may die after its result was kept; the retry's result is then the same and changes nothing.
        """
        alone = [(self.config.seed, result["accuracy"], result.get("seconds", math.nan))]
        evaluations = [
            Evaluation(
                architecture=candidate["architecture"],
                fidelity=result.get("fidelity", self.fidelity),
                seed=seed,
                state=result["state"],
                reason=result["reason"],
                accuracy=float(accuracy),
                **candidate["costs"],
                seconds=float(seconds),
                finished=time.time(),
                task=self.task,
            )
            for seed, accuracy, seconds in result.get("by_seed", alone)
        ]
        sent = result.pop("weights", None)  # nobody after this needs to see so many bytes
        new = [evaluation for evaluation in evaluations if evaluation.key not in self.store]
        if new and sent is not None:
            self._write_weights(Architecture.parse(candidate["architecture"]), sent)
        for evaluation in new:
            self.store.add(evaluation)
        if new:
            self._update_fronts(*evaluations)
            if self.mirror:
                self.mirror.push()
        return mean_of(evaluations)

    def _write_weights(self, arch: Architecture, content: bytes) -> None:
        """Weights that came from another machine."""
        path = weights_path(self.weights, arch)
        assert path is not None
        with self.store.refusing():
            partial = path.with_name(f"{path.name}.partial")
            partial.write_bytes(content)
            partial.replace(path)

    def _read_fronts(self) -> None:
        """Begin with what the store holds."""
        for evaluations in by_architecture(self.store).values():
            for front in self.fronts:
                front.add(*evaluations)
        self._write_front()
        self._drop_weights({evaluation.architecture for evaluation in self.store})

    def _update_fronts(self, *seeds: Evaluation) -> None:
        """Bring front.csv and the weights that are kept up to date; the work does not grow with the run."""
        before = self._on_fronts()
        changed = [front.add(*seeds) for front in self.fronts]
        if changed[0]:
            self._write_front()
        self._drop_weights(before | {seeds[0].architecture})

    def _on_fronts(self) -> set[str]:
        return set().union(*(front.architectures for front in self.fronts))

    def _write_front(self) -> None:
        with self.store.refusing():
            self.front.frame.to_csv(self.folder / ".front.csv", index=False)
            (self.folder / ".front.csv").replace(self.folder / "front.csv")

    def _drop_weights(self, candidates: set[str]) -> None:
        """Delete the weights of those candidates that no front needs."""
        if self.weights and self.config.search.keep_weights == "front":
            for text in candidates - self._on_fronts():
                path = weights_path(self.weights, Architecture.parse(text))
                if path:
                    path.unlink(missing_ok=True)


class _Recorder(tune.Callback):
    """Ray Tune's news, passed to the store and to the screen."""

    def __init__(self, run: _Run, searcher: PlacementSearch, progress: Progress) -> None:
        self._run, self._searcher, self._progress = run, searcher, progress
        self._deaths: Counter[str] = Counter()
        self.refused: StoreError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its callbacks for its own way to resume, which this project does not take."""
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if result["done"]:  # else it is at a rung and goes on
            self._keep(trial, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The worker died, was killed for its memory, or could not start, and Ray tried again as often as it may.

        Ray does not try again where a worker dies while it is handed a trial: then the searcher hands it out anew.
        """
        overdue, text = self._run.overdue, trial.config["architecture"]
        reason = ray.get(overdue.reason.remote(text)) if overdue is not None else None
        self._deaths[text] += trial.run_metadata.num_failures
        if not reason and self._deaths[text] <= self._run.config.resources.retries:
            self._searcher.again(text)
            return
        lines = str(reason or trial.get_error() or "the worker died").strip().splitlines()
        self._keep(trial, failed(lines[-1]))

    def _keep(self, trial: Any, result: dict[str, Any]) -> None:
        try:
            evaluation = self._run.record(trial.config, result)
        except StoreError as error:
            self.refused = error
            raise
        self._progress.finished(evaluation)


def _rows(space: Any, params: list[dict[str, Any]]) -> Any:
    import numpy as np

    return np.array([space.from_params(one) for one in params])


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
