"""Before anything is trained: whatever would fail later fails here, and what a search will read and take is said.

Nothing is written, and Ray is not started.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.filesize import decimal

from evaluators.base import Estimate, Estimating, Evaluator
from evaluators.data import Summary
from evaluators.data.masks.summary import MaskSummary
from evaluators.outcomes import EvaluationError
from search.build import create_evaluator, create_problem, data_summary, weights_line
from search.config import Config, load_run_config
from search.files import existing_parent, is_file
from search.loggers import check_loggers
from search.machine import address_of, at_work, usable_cpus
from search.mirror import open_url
from search.problem import Problem
from search.samplers import create_sampler
from search.samplers.exact import ExactCandidates
from search.steering import canonical
from spaces import Architecture
from spaces.errors import UsageError, shortened
from spaces.protocols import offers

SAMPLE = 3  # architectures whose training is tried
ENOUGH = 4.0  # seconds after which two must do
PIXELS_ABOVE = 0.01  # of mIoU
RAY = 4.0  # seconds that Ray's own processes take to start


@dataclass(frozen=True)
class Checked:
    """What a configuration comes to. ``estimate``: of one evaluation with all its seeds; ``seconds``: of the whole search.

    ``start``: what is taken of the checkpoint that trainings start from, where there is one.
    """

    data: Summary | None
    problem: Problem
    stem: str
    trials: int
    concurrency: int
    estimate: Estimate | None
    seconds: float | None
    warnings: tuple[str, ...]
    start: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON; seconds and bytes are null where the evaluator cannot tell them."""
        one = self.estimate
        return {
            "data": self.data.to_dict() if self.data else {},
            "space": self.problem.to_dict() | {"stem": self.stem},
            "estimate": {
                "seconds": one.seconds if one else None,
                "memory": one.memory if one else None,
                "trials": self.trials,
                "concurrency": self.concurrency,
                "search_seconds": self.seconds,
            },
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """For people: one fact a line."""
        facts = [line for line in self.data.lines() if not line.startswith("warning: ")] if self.data else []
        facts += [self.stem, *([self.start] if self.start else []), _counted(self.problem)]
        if self.estimate and self.seconds is not None:
            memory = f", {decimal(self.estimate.memory)} of memory" if self.estimate.memory else ""
            facts.append(f"one trial: about {spell(self.estimate.seconds)}{memory}")
            facts.append(f"search: about {spell(self.seconds)} for {self.trials} trials, {self.concurrency} at once")
        else:
            facts.append("one trial: its evaluator cannot tell how long it takes")
        return [*facts, *(f"warning: {text}" for text in self.warnings)]


def check(config: Config, folder: Path | None = None, *, started: float | None = None) -> Checked:
    """Everything up to the first training, and a small part of some trainings; raises UsageError in one line.

    ``folder``: the run directory that is meant. ``started``: when this process began, by ``time.time``: a worker takes as
    long to start.
    """
    evaluator = create_evaluator(config)
    problem = create_problem(config, evaluator)
    refuse(config, problem, folder)
    start = weights_line(config, evaluator.network)
    startup = max(0.0, time.time() - started) if started else 0.0
    cpus = usable_cpus()
    fits = max(1, math.floor(cpus / config.resources.cpus + 1e-9))
    concurrency = min(fits, config.resources.concurrency or fits)
    if address_of(config) is not None:
        concurrency = config.resources.concurrency or 1  # what the cluster has is known when it is joined
    trials = min(config.search.trials, problem.candidates)
    with at_work((concurrency - 1) * max(1, int(config.resources.cpus))):
        one = _estimate(config, problem, evaluator)
    if one:
        one = replace(one, seconds=one.seconds * len(config.seeds))
    if one and config.search.seconds is not None:
        trials = min(trials, concurrency * math.ceil(config.search.seconds / max(one.seconds, 1e-9)))
    seconds = 2 * startup + RAY + math.ceil(trials / concurrency) * one.seconds if one else None
    summary = data_summary(evaluator)
    warnings = list(summary.warnings if summary else ())
    if config.resources.cpus * concurrency > cpus and address_of(config) is None:
        warnings.append(f"{concurrency} trials at once want more than the {cpus} CPUs of this machine")
    stem = evaluator.network.describe_stem(problem.space.backbone)
    return Checked(summary, problem, stem, trials, concurrency, one, seconds, tuple(warnings), start)


def refuse(config: Config, problem: Problem, folder: Path | None = None) -> None:
    """Raise UsageError for what would fail once a search has begun; quick, and without any training."""
    config.search.scheduler.check(config.fidelity)
    canonical(config.search.enqueue, problem, "search.enqueue")
    create_sampler(config.search.sampler, ExactCandidates(problem), seed=config.seed)
    check_loggers(config.loggers)
    weights = config.training.weights
    if weights not in (None, "pretrained") and not is_file(Path(weights)):
        raise UsageError(
            f"training.weights: there is no file {shortened(weights, 200)}; valid: pretrained, or a checkpoint"
        )
    if config.ray.storage:
        open_url(config.ray.storage)
    for run in config.reuse:
        load_run_config(run)
    if (address := address_of(config)) is not None:
        from search.cluster import check_address  # with Ray, which takes seconds to import

        check_address(address)
    if folder is not None:
        parent = existing_parent(folder)
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise UsageError(f"the run folder {folder} cannot be made: {parent} is no folder that can be written to")


def chance(evaluator: Evaluator, scores: Sequence[float]) -> str:
    """A sentence where no accuracy or mIoU of a search is above that of always naming the most frequent class; else nothing.

    Above: more than 1.64 standard errors of a share of the validation images (one-sided, 5 %); of mIoU a hundredth, since
    pixels of one image are no independent trials.
    """
    summary = data_summary(evaluator)
    if isinstance(summary, MaskSummary) and evaluator.metric.name == "mIoU" and scores:
        if max(scores) > summary.constant + PIXELS_ABOVE:
            return ""
        return (
            f"no mIoU is above chance: the best is {max(scores):.4f}, and naming the most frequent class everywhere has "
            f"{summary.constant:.4f}; more epochs, another recipe, weights of classes, or a look at the masks"
        )
    if summary is None or evaluator.metric.name != "accuracy" or not scores:
        return ""
    share = max(summary.classes.values()) / sum(summary.classes.values())
    images = summary.splits["val"]
    if max(scores) > share + 1.64 * math.sqrt(share * (1 - share) / images):
        return ""
    return (
        f"no accuracy is above chance: the best is {max(scores):.4f} on {images} images, and always naming the most frequent "
        f"class has {share:.4f}; more epochs, another recipe, or a look at the labels"
    )


def spell(seconds: float) -> str:
    """``4.2 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _estimate(config: Config, problem: Problem, evaluator: Evaluator) -> Estimate | None:
    """What an average evaluation takes; raises UsageError where even the plain network cannot be evaluated."""
    if not offers(evaluator, Estimating):
        return None
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(config.resources.cpus)))
    validations = config.fidelity if config.search.scheduler.stops else 1
    found: list[Estimate] = []
    start = time.monotonic()
    try:
        for arch in _examples(problem, config.seed):
            if len(found) > 1 and time.monotonic() - start > ENOUGH:
                break
            try:
                found.append(evaluator.estimate(arch, fidelity=config.fidelity, validations=validations))
            except EvaluationError as error:
                if not found and arch.is_plain:
                    raise UsageError(f"not even the plain network can be evaluated: {error}") from None
    finally:
        torch.set_num_threads(threads)
    memory = [one.memory for one in found if one.memory is not None]
    return Estimate(float(np.mean([one.seconds for one in found])), max(memory, default=None))


def _examples(problem: Problem, seed: int) -> list[Architecture]:
    """The plain network, and some architectures inside the budget from the upper end and the middle of the costs."""
    rows = problem.feasible.sample(np.random.default_rng(seed), 64)
    order = np.argsort(problem.objectives(rows)[:, 0], kind="stable")
    chosen = [problem.space.architecture(rows[order[int(at * (len(order) - 1))]]) for at in (0.9, 0.5)]
    return list(dict.fromkeys([Architecture.plain(problem.space.backbone), *chosen]))[:SAMPLE]


def _counted(problem: Problem) -> str:
    inside = problem.feasible.count
    limits = f", {inside:,} of them inside the budget" if problem.limits else ""
    return f"space: {problem.space.size:,} architectures over {problem.space.backbone}{limits}"
