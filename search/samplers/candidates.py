"""What samplers choose from: the architectures of a space, what each costs, and which of them are allowed.

A space is Attune's SearchSpace or a plain mapping of names to Optuna's distributions. Either way a
candidate is a vector of choice indices (``indices_G``), a set of them a matrix ``indices_NG``. Letters: N candidates,
G genes, T trials, M costs.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.samplers.mapping import ABSENT, Array, Indices, MappingSpace
from spaces.errors import UsageError

Params = dict[str, Any]
CostFunction = Callable[[list[Params]], Any]  # n parameter dicts -> (n, M) numbers
FeasibleFunction = Callable[[list[Params]], Any]  # n parameter dicts -> (n,) truth values

ENUMERATE = 50_000  # spaces up to this size are listed as a whole


class Space(Protocol):
    """What the samplers need to know of a space; spaces.SearchSpace is one."""

    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def distributions(self) -> Mapping[str, Sequence[Any]]: ...
    def params(self, indices_S: Indices, /) -> Params: ...
    def from_params(self, params: Mapping[str, Any], /) -> Indices: ...
    def genes(self, indices_NS: Indices, /) -> Indices: ...


def as_space(space: Space | Mapping[str, BaseDistribution]) -> Space:
    return MappingSpace(space) if isinstance(space, Mapping) else space


class Candidates:
    """A space with the costs of its candidates and the limits that they must keep.

    ``limits`` are upper bounds on the columns of ``costs``; ``feasible`` is any further test. Costs are asked for once
    a candidate. Raises UsageError where no candidate is allowed at all.
    """

    def __init__(
        self,
        space: Space | Mapping[str, BaseDistribution],
        costs: CostFunction | None = None,
        *,
        limits: Sequence[float | None] | None = None,
        feasible: FeasibleFunction | None = None,
        enumerate_up_to: int = ENUMERATE,
    ) -> None:
        if limits is not None and costs is None:
            raise UsageError("limits are given without the costs that they limit")
        self.space = as_space(space)
        self.sizes = tuple(int(size) for size in self.space.sizes)
        self.size = int(np.prod([float(size) for size in self.sizes]))
        self._costs, self._limits, self._feasible = costs, limits, feasible
        self._known: dict[bytes, tuple[Array, bool]] = {}
        self.listed_NG: Indices | None = None
        self.listed_costs_NM: Array = np.zeros((0, 0))
        if self.size <= enumerate_up_to:
            every_NG = np.indices(self.sizes).reshape(len(self.sizes), -1).T.astype(np.int64)
            costs_NM, allowed_N = self._ask(every_NG)
            self.listed_NG, self.listed_costs_NM = every_NG[allowed_N], costs_NM[allowed_N]
            if not allowed_N.any():
                raise self._nothing(costs_NM)

    @property
    def knows_costs(self) -> bool:
        """Whether the candidates' costs are known."""
        return self._costs is not None

    @property
    def count(self) -> int | None:
        """How many candidates are allowed; None where the space is too large to list."""
        return None if self.listed_NG is None else len(self.listed_NG)

    def _nothing(self, costs_NM: Array) -> UsageError:
        if self._limits is None:
            return UsageError("no candidate of the space is feasible")
        least = ", ".join(f"{low:.4g}" for low in costs_NM.min(axis=0))
        return UsageError(
            f"no candidate of the space keeps the limits {list(self._limits)}; the least costs are {least}"
        )

    def _ask(self, indices_NG: Indices) -> tuple[Array, NDArray[np.bool_]]:
        params = [self.space.params(indices_G) for indices_G in indices_NG]
        costs_NM = np.zeros((len(params), 0))
        if self._costs is not None:
            costs_NM = np.asarray(self._costs(params), dtype=float)
            costs_NM = costs_NM[:, None] if costs_NM.ndim == 1 else costs_NM
            if costs_NM.ndim != 2 or len(costs_NM) != len(params):
                raise ValueError(f"costs gave an array of shape {costs_NM.shape} for {len(params)} candidates")
            if not np.isfinite(costs_NM).all():
                raise ValueError(
                    f"costs are not finite for {params[int(np.argmin(np.isfinite(costs_NM).all(axis=1)))]}"
                )
        allowed_N = np.ones(len(params), dtype=bool)
        if self._limits is not None:
            if len(self._limits) != costs_NM.shape[1]:
                raise UsageError(f"{len(self._limits)} limits are given for {costs_NM.shape[1]} costs")
            bounds_M = np.array([np.inf if limit is None else float(limit) for limit in self._limits])
            allowed_N &= np.all(costs_NM <= bounds_M, axis=1)
        if self._feasible is not None:
            allowed_N &= np.asarray(self._feasible(params), dtype=bool)
        return costs_NM, allowed_N

    def look_up(self, indices_NG: Indices) -> tuple[Array, NDArray[np.bool_]]:
        """Costs (N, M) and whether allowed (N,), remembered between calls."""
        keys = [indices_G.tobytes() for indices_G in indices_NG.astype(np.int64)]
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        if new:
            costs_NM, allowed_N = self._ask(indices_NG[list(new.values())])
            self._known.update(zip(new, zip(costs_NM, allowed_N.tolist(), strict=True), strict=True))
        known = [self._known[key] for key in keys]
        if not known:
            return np.zeros((0, 0)), np.zeros(0, dtype=bool)
        return np.array([costs for costs, _ in known]), np.array([allowed for _, allowed in known])

    def draw(self, rng: np.random.Generator, n: int, seen_TG: Indices) -> Indices:
        """Up to n allowed candidates that match none of ``seen_TG``, random and distinct."""
        if self.listed_NG is not None:
            fresh = np.flatnonzero(~matches(self.listed_NG, seen_TG))
            return self.listed_NG[rng.permutation(fresh)[:n]]
        return self.keep(self._wander(rng, n, seen_TG), seen_TG)[:n]

    def _wander(self, rng: np.random.Generator, n: int, seen_TG: Indices) -> Indices:
        """Rejection first; where limits refuse nearly everything, random walks inside them from the cheapest found."""
        found_NG = np.zeros((0, len(self.sizes)), dtype=np.int64)
        for _ in range(4):
            tried_NG = np.stack([rng.integers(size, size=2 * n) for size in self.sizes], axis=1).astype(np.int64)
            found_NG = np.unique(np.vstack([found_NG, tried_NG[self.look_up(tried_NG)[1]]]), axis=0)
            if len(found_NG) - matches(found_NG, seen_TG).sum() >= n:
                return rng.permutation(found_NG)
        if not len(found_NG):
            found_NG = self._descend(rng)
        for _ in range(32):  # each walker changes one gene; walkers are the found, so the walk mixes within the limits
            step_NG = self._mutate(rng, found_NG[rng.integers(len(found_NG), size=n)])
            found_NG = np.unique(np.vstack([found_NG, step_NG[self.look_up(step_NG)[1]]]), axis=0)
            if len(found_NG) - matches(found_NG, seen_TG).sum() >= 2 * n:
                break
        return rng.permutation(found_NG)

    def _descend(self, rng: np.random.Generator) -> Indices:
        """One allowed candidate, found by lowering the worst relation of cost to limit gene by gene."""
        here_G = np.array([rng.integers(size) for size in self.sizes], dtype=np.int64)
        for _ in range(8 * len(self.sizes)):
            near_NG = np.vstack([here_G[None], _one_changed(here_G, self.sizes)])
            costs_NM, allowed_N = self.look_up(near_NG)
            if allowed_N.any():
                return near_NG[allowed_N][:1]
            if self._limits is None:
                here_G = near_NG[rng.integers(len(near_NG))]
                continue
            bound = [(c, limit) for c, limit in zip(costs_NM.T, self._limits, strict=True) if limit is not None]
            excess_N = np.max([(c - limit) / max(abs(limit), 1e-12) for c, limit in bound], axis=0)
            if excess_N.argmin() == 0:
                break
            here_G = near_NG[excess_N.argmin()]
        raise self._nothing(costs_NM)

    def _mutate(self, rng: np.random.Generator, indices_NG: Indices) -> Indices:
        child_NG = indices_NG.copy()
        free = np.flatnonzero(np.array(self.sizes) > 1)
        if len(free):
            gene_N = rng.choice(free, size=len(child_NG))
            size_N = np.array(self.sizes)[gene_N]
            rows = np.arange(len(child_NG))
            child_NG[rows, gene_N] = (child_NG[rows, gene_N] + rng.integers(1, size_N)) % size_N
        return child_NG

    def mutants(self, rng: np.random.Generator, indices_NG: Indices, n: int, seen_TG: Indices) -> Indices:
        """Allowed, unseen and distinct candidates, each one changed gene away from one of ``indices_NG``."""
        return self.keep(self._mutate(rng, indices_NG[rng.integers(len(indices_NG), size=n)]), seen_TG)

    def near(self, indices_G: Indices, seen_TG: Indices) -> Indices:
        """All allowed, unseen candidates that differ from ``indices_G`` in one gene."""
        return self.keep(_one_changed(indices_G, self.sizes), seen_TG)

    def keep(self, indices_NG: Indices, seen_TG: Indices) -> Indices:
        """Those of `indices_NG` that are allowed and match none of `seen_TG`, each once, in order."""
        if not len(indices_NG):
            return indices_NG
        indices_NG = np.array(list({row.tobytes(): row for row in indices_NG}.values()))  # distinct, order kept
        indices_NG = indices_NG[~matches(indices_NG, seen_TG)]
        return indices_NG[self.look_up(indices_NG)[1]] if len(indices_NG) else indices_NG

    def nearest(self, rng: np.random.Generator, indices_G: Indices, seen_TG: Indices) -> Indices | None:
        """The allowed, unseen candidate with the fewest genes different from ``indices_G``; None where all are seen."""
        pool_NG = self.draw(rng, ENUMERATE if self.listed_NG is not None else 1024, seen_TG)
        near_NG = self.near(indices_G, seen_TG)
        pool_NG = np.vstack([near_NG, pool_NG]) if len(near_NG) else pool_NG
        if not len(pool_NG):
            return None
        return pool_NG[(pool_NG != indices_G).sum(axis=1).argmin()]


def _one_changed(indices_G: Indices, sizes: Sequence[int]) -> Indices:
    """All (N, G) vectors that differ from one in exactly one gene."""
    rows = []
    for gene, size in enumerate(sizes):
        for value in range(size):
            if value != indices_G[gene]:
                rows.append(indices_G.copy())
                rows[-1][gene] = value
    return np.array(rows, dtype=np.int64).reshape(-1, len(sizes))


def matches(indices_NG: Indices, seen_TG: Indices) -> NDArray[np.bool_]:
    """Mask (N,): candidates that agree with a seen trial in every parameter that this trial asked for.

    A define-by-run objective that is given the same answers asks the same questions, so such a candidate would be the
    same evaluation again.
    """
    whole_T = (seen_TG != ABSENT).all(axis=1)
    mask_N = _among(indices_NG.astype(np.int64), seen_TG[whole_T].astype(np.int64))
    for seen_G in seen_TG[~whole_T]:
        asked = seen_G != ABSENT
        mask_N |= (indices_NG[:, asked] == seen_G[asked]).all(axis=1)
    return mask_N


def _among(indices_NG: Indices, seen_TG: Indices) -> NDArray[np.bool_]:
    """Mask (N,): rows that are rows of the other, too; whole rows of choices, from 0 on."""
    if not len(indices_NG) or not len(seen_TG):
        return np.zeros(len(indices_NG), dtype=bool)
    sizes_G = np.maximum(indices_NG.max(axis=0), seen_TG.max(axis=0)) + 1
    if prod(sizes_G.tolist()) < 2**63:  # one number for a row
        stride_G = np.cumprod([1, *sizes_G[:-1].tolist()], dtype=np.int64)
        return np.isin(indices_NG @ stride_G, seen_TG @ stride_G)
    known = {seen_G.tobytes() for seen_G in seen_TG}
    return np.fromiter((row.tobytes() in known for row in indices_NG), bool, len(indices_NG))


def indices_of(space: Space, trial: FrozenTrial) -> Indices | None:
    """The candidate of a trial; None where its parameters are not of this space (another objective, half asked)."""
    params = trial.params
    if trial.state == TrialState.WAITING:
        params = trial.system_attrs.get("fixed_params", {})
    if not params:
        return None
    try:
        return np.asarray(space.from_params(params), dtype=np.int64)
    except (KeyError, ValueError):  # a missing parameter, a value that is no choice
        return None


def others(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """Every other trial of the study, whatever its state."""
    return [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]


class Reader:
    """``indices_of`` that looks at a finished trial once, so that a suggestion does not take longer with every trial.

    A running trial that has asked for nothing yet, in another thread, is what it was promised: see ``promise``.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._known: dict[int, tuple[FrozenTrial, Indices | None]] = {}
        self._promised: dict[int, Indices] = {}
        self._study = ""

    def __call__(self, trial: FrozenTrial) -> Indices | None:
        known = self._known.get(trial.number)
        if known is not None and known[0] is trial:  # and not that of another study
            return known[1]
        indices = indices_of(self.space, trial)
        if trial.state.is_finished():
            self._known[trial.number] = (trial, indices)
            self._promised.pop(trial.number, None)
        elif trial.state == TrialState.RUNNING and indices is None:
            return self._promised.get(trial.number)
        return indices

    def enter(self, study: Study) -> None:
        """Forget what was promised to the trials of another study."""
        if study.study_name != self._study:
            self._study, self._promised = study.study_name, {}

    def promise(self, trial: FrozenTrial, indices_G: Indices) -> None:
        """This candidate is what `trial` is about to ask for."""
        self._promised[trial.number] = indices_G

    def seen(self, trials: Sequence[FrozenTrial], genes: int) -> Indices:
        """The candidates (T, G) of all trials that have one: finished, failed, running and enqueued alike."""
        found = [indices for trial in trials if (indices := self(trial)) is not None]
        return np.array(found, dtype=np.int64).reshape(-1, genes)


def relative_space(space: Space) -> dict[str, BaseDistribution]:
    """The distributions that Optuna is told of, single values left out as Optuna asks."""
    asked = (
        space.asked
        if isinstance(space, MappingSpace)
        else {name: CategoricalDistribution(tuple(choices)) for name, choices in space.distributions.items()}
    )
    return {name: distribution for name, distribution in asked.items() if len(space.distributions[name]) > 1}
