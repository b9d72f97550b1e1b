"""The bridge between Ray Tune and Optuna: which architecture the next trial evaluates, and what Optuna learns from it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from evaluators.metric import Metric
from search.front import ACCURACY, by_architecture, mean_of
from search.problem import Problem
from search.samplers.guarded import SpaceSampler
from search.samplers.known_cost import EXPECTED, STOPPED_AT
from search.store import COMPLETE, STOPPED, Evaluation
from search.trainable import TrialResult
from spaces import Architecture

REDRAWS = 20


class PlacementSearch(OptunaSearch):
    """OptunaSearch over a Problem: the plain backbone first, nothing over budget, nothing twice, failures told as failures.

    Samplers of this project propose only what is allowed; the check here holds for any Optuna sampler. A proposal that is
    refused is told to Optuna as failed and drawn again, and after some refusals an allowed architecture is enqueued.
    What was stopped early is told as failed too, so that it is on no front, with the score that ``expected`` (epochs, score
    then) gives for its end. With ``in_order`` = n the sampler proposes the i-th architecture when it knows the results of the
    first i - n, and of no others, whenever they came: then a search depends on its seed alone.
    ``first``: canonical texts that come before all proposals; ``added`` gives more of them, each once, while it runs.

    It ends the search itself, once ``trials`` architectures were handed out and came back, or when ``over`` says so.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: optuna.samplers.BaseSampler,
        storage: optuna.storages.BaseStorage,
        finished: Iterable[Evaluation],
        *,
        trials: int,
        seed: int,
        name: str,
        metric: Metric = ACCURACY,
        expected: Callable[[int, float], float] | None = None,
        in_order: int | None = None,
        first: Sequence[str] = (),
        added: Callable[[], Sequence[str]] = tuple,
        over: Callable[[], bool] = bool,
    ) -> None:
        self.at_once: int | None = None  # no more than so many trials run at a time; None: as many as Ray Tune starts
        self._in_order, self._added, self._over = in_order, added, over
        self._running: set[str] = set()
        self._order: list[str] = []  # architectures as they were handed out
        self._told = 0  # of them
        self._heard: dict[str, tuple[str, dict[str, Any] | None, bool]] = {}  # results that wait for their turn
        self.problem = problem
        self._expected = expected or (lambda fidelity, score: score)
        self._rng = np.random.default_rng(seed)
        self._architectures: dict[str, str] = {}
        self._queue: list[str] = []
        self._lost: list[str] = []  # handed out, and to be handed out again
        self._left = trials
        self._tried: set[str] = set()
        self._inside = 0  # how many of the tried ones count towards the feasible ones
        self._stopping = False
        super().__init__(
            space=self._define,
            metric=[metric.name, *problem.costs],
            mode=["max" if metric.higher_is_better else "min", *["min"] * len(problem.costs)],
            sampler=sampler,
            storage=storage,
            study_name=name,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._ot_study.set_metric_names([metric.name, *problem.costs])
        self._reconcile(list(finished))
        plain = str(Architecture.plain(problem.space.backbone))
        if plain not in self._tried:
            self._queue.insert(0, plain)
        self._queue.extend(first)

    # --- Ray Tune asks ---------------------------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's ``architecture`` and its exact ``costs``, FINISHED where there is none, None where there may be."""
        if not self._stopping and self._over():
            self.stop_suggesting()
        if self._stopping:
            return Searcher.FINISHED
        if self.at_once is not None and len(self._running) >= self.at_once:
            return None
        if self._lost:
            text = self._lost.pop()
            return self._start(trial_id, self._ask_for(text), text)
        if self._in_order and self._left and not self._tell(len(self._order) + 1 - self._in_order):
            return None
        if not self._left:
            return None if self._ot_trials else Searcher.FINISHED
        self._queue.extend(self._added())
        while self._queue:
            text = self._queue.pop(0)
            if text not in self._tried:
                return self._start(trial_id, self._ask_for(text), text)
        if self._inside >= self.problem.feasible.count:
            return None if self._ot_trials else Searcher.FINISHED
        for _ in range(REDRAWS):
            trial = self._ot_study.ask()
            indices = self.problem.space.suggest(trial)
            text = str(self.problem.space.architecture(indices))
            if text not in self._tried and self.problem.feasible.contains(indices[None])[0]:
                return self._start(trial_id, trial, text)
            self._refuse(trial, "evaluated before" if text in self._tried else "over budget")
        text = str(self.problem.space.architecture(self._draw()))
        return self._start(trial_id, self._ask_for(text), text)

    def _start(self, trial_id: str, trial: optuna.Trial | None, text: str) -> dict[str, Any]:
        if trial is not None:
            trial.set_user_attr("architecture", text)
        self._ot_trials[trial_id] = trial
        self._architectures[trial_id] = text
        self._running.add(trial_id)
        if text not in self._order:
            self._order.append(text)
        self._left -= 1
        self._note(text)
        return {"architecture": text, "costs": self.problem.cost(Architecture.parse(text))}

    def _ask_for(self, text: str) -> optuna.Trial | None:
        """An Optuna trial with the parameters of one architecture; None where the space does not hold it."""
        if Architecture.parse(text) not in self.problem.space:
            return None
        wanted = self._indices(text)
        self._ot_study.enqueue_trial(self.problem.space.params(wanted))
        while True:
            trial = self._ot_study.ask()
            if np.array_equal(self.problem.space.suggest(trial), wanted):
                return trial
            self._refuse(trial, "enqueued before a kill")

    def _refuse(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr("refused", reason)
        self._ot_study.tell(trial, state=TrialState.FAIL)

    def _note(self, text: str) -> None:
        """From now on this architecture counts as tried."""
        arch = Architecture.parse(text)
        if text not in self._tried and arch in self.problem.space:
            self._inside += bool(self.problem.feasible.contains(self.problem.space.indices(arch)[None])[0])
        self._tried.add(text)

    def _draw(self) -> np.ndarray:
        """An allowed architecture that was not tried yet, uniform while few are taken."""
        while True:
            for indices in self.problem.feasible.sample(self._rng, 64):
                if str(self.problem.space.architecture(indices)) not in self._tried:
                    return indices

    def _define(self, trial: optuna.Trial) -> None:
        self.problem.space.suggest(trial)

    def again(self, text: str) -> None:
        """Hand out an architecture once more: its trial was lost with its worker."""
        self._lost.append(text)
        self._left += 1
        if text in self._heard:
            self._finish(*self._heard.pop(text))

    def promise(self, trials: int, ceiling: float = math.inf) -> float | None:
        """By how much so many more trials may improve the best score below a budget, on average; None: nothing expects it.

        ``ceiling``: the best score that there can be, where more is better.
        """
        sampler = self._ot_study.sampler
        return sampler.promise(trials, ceiling) if isinstance(sampler, SpaceSampler) else None

    def stop_suggesting(self) -> None:
        """No new trials; those that run may finish."""
        self._stopping = True
        self._tell(len(self._order))

    # --- Ray Tune tells --------------------------------------------------------------------------------------------

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._running.discard(trial_id)
        text = self._architectures.get(trial_id, "")
        if not self._in_order or text in self._lost:
            self._finish(trial_id, result, error)
            return
        self._heard[text] = (trial_id, result, error)
        if not self._left or self._stopping:
            self._tell(len(self._order))

    def _tell(self, count: int) -> bool:
        """Tell Optuna the results of the first ``count`` that were handed out; False where one of them is still missing."""
        for text in self._order[self._told : max(0, count)]:
            if text not in self._heard:
                return False
            self._finish(*self._heard.pop(text))
            self._told += 1
        return True

    def _finish(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        trial = self._ot_trials.pop(trial_id, None)
        if trial is None:
            return
        found = None if error or result is None else TrialResult.from_ray(result)
        if found is None or found.state != COMPLETE:
            trial.set_user_attr("reason", found.reason if found else "the worker died")
            if found is not None and found.state == STOPPED:
                for name, value in self._lesson(found.fidelity or 0, found.score).items():
                    trial.set_user_attr(name, value)
            self._ot_study.tell(trial, state=TrialState.FAIL)
        else:
            self._ot_study.tell(trial, self._values(self._architectures[trial_id], found.score))

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its searcher for its own way to resume, which this project does not take, see ``save``."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: study.db and the store hold everything that a resumed run needs."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore, see ``save``."""

    # --- a resumed run ---------------------------------------------------------------------------------------------

    def _reconcile(self, finished: list[Evaluation]) -> None:
        """Make the study agree with the store, which is the truth: a kill may fall between the two."""
        by_text = {text: mean_of(seeds) for text, seeds in by_architecture(finished).items()}
        for text in by_text:
            self._note(text)
        known = set()
        for trial in self._ot_study.get_trials(deepcopy=False):
            text = trial.user_attrs.get("architecture")
            if trial.state == TrialState.RUNNING:
                evaluation = by_text.get(text) if text else None
                if evaluation and evaluation.state == COMPLETE:
                    self._ot_study.tell(trial.number, self._values(evaluation.architecture, evaluation.score))
                else:
                    self._ot_study.tell(trial.number, state=TrialState.FAIL)
                    if text and not evaluation:
                        self._queue.append(text)
                    elif evaluation and evaluation.state == STOPPED:
                        self._ot_study.add_trial(self._frozen(evaluation))  # with what it teaches
            elif trial.state == TrialState.WAITING:
                continue
            known.add(text)
        for text, evaluation in by_text.items():
            if text not in known and Architecture.parse(text) in self.problem.space:
                self._ot_study.add_trial(self._frozen(evaluation))

    def _frozen(self, evaluation: Evaluation) -> optuna.trial.FrozenTrial:
        complete = evaluation.state == COMPLETE and math.isfinite(evaluation.score)
        stopped = evaluation.state == STOPPED
        lesson = self._lesson(evaluation.fidelity, evaluation.score) if stopped else {}
        params = self.problem.space.params(self._indices(evaluation.architecture))
        choices = self.problem.space.distributions
        distributions: dict[str, BaseDistribution] = {name: CategoricalDistribution(choices[name]) for name in params}
        return optuna.trial.create_trial(
            state=TrialState.COMPLETE if complete else TrialState.FAIL,
            values=self._values(evaluation.architecture, evaluation.score) if complete else None,
            params=params,
            distributions=distributions,
            user_attrs={"architecture": evaluation.architecture, **lesson},
        )

    def _lesson(self, fidelity: int, score: float) -> dict[str, float]:
        """What a trial that was stopped early teaches the sampler, as user attributes."""
        return {EXPECTED: self._expected(fidelity, score), STOPPED_AT: fidelity}

    def _values(self, text: str, score: float) -> list[float]:
        return [score, *map(float, self.problem.objectives(self._indices(text))[0])]

    def _indices(self, text: str) -> np.ndarray:
        return self.problem.space.indices(Architecture.parse(text))
