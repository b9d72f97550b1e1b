"""Hard budgets as arithmetic: which index vectors of a space fit, how many, and drawing from them uniformly.

The cost of an architecture is a base plus one integer vector per stage. Split the stages in two halves and enumerate all
partial sums of each once. The number of completions of a left sum is then a range (one limit) or a dominance count (several
limits, see ``Boxes``) over the right sums: exact counting, and exactly uniform sampling by these numbers, without rejection.

Letters: S stages, N architectures, M limited metrics, L and R partial sums of the left and right half, Q queries.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from operator import getitem, mul

import numpy as np

from spaces.boxes import Boxes
from spaces.errors import UsageError

CHUNK = 2**21  # boxes that are counted together
KEPT = 2**26  # numbers of completions that are kept, so that sampling need not count again
THREADS = min(4, os.cpu_count() or 1)
MOST_SECONDS = 60.0  # that counting may take on one core; more is refused before it begins


class Feasible:
    """The index vectors within the limits: ``base_M + sum over stages of costs[s][index] <= limits_M``.

    ``costs``: per stage (choices, M) integers; ``names`` of the metrics and ``show``, how each is written, for messages.
    With no metric all fit.
    Raises UsageError from the first question where nothing fits.
    """

    def __init__(
        self,
        costs: Sequence[np.ndarray],
        base_M: np.ndarray,
        limits_M: np.ndarray,
        names: Sequence[str] = (),
        show: Sequence[Callable[[float], str]] = (),
    ) -> None:
        self.costs = tuple(np.asarray(cost, dtype=np.int64).reshape(len(cost), -1) for cost in costs)
        self.base = np.asarray(base_M, dtype=np.int64)
        self.limits = np.asarray(limits_M, dtype=np.int64)
        self.names = tuple(names) or tuple(f"metric {i}" for i in range(len(self.limits)))
        self.show = tuple(show) or (str,) * len(self.limits)
        self.sizes = tuple(len(cost) for cost in self.costs)

    # --- single questions ---------------------------------------------------------------------------------------------

    def cost(self, indices_NS: np.ndarray) -> np.ndarray:
        """Total costs of the limited metrics, (N, M)."""
        indices_NS = np.atleast_2d(indices_NS)
        total_NM = np.broadcast_to(self.base, (len(indices_NS), len(self.base))).copy()
        for stage, cost in enumerate(self.costs):
            total_NM += cost[indices_NS[:, stage]]
        return total_NM

    def contains(self, indices_NS: np.ndarray) -> np.ndarray:
        """Whether each index vector is within the limits, (N,) truth values."""
        return np.all(self.cost(indices_NS) <= self.limits, axis=1)

    @property
    def count(self) -> int:
        """The number of feasible index vectors, exactly (a Python integer)."""
        return self._sums.count

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n feasible index vectors, independent and exactly uniform, without rejection: (n, S)."""
        return self._sums.sample(rng, n)

    def cheapest(self, metric: int = 0) -> np.ndarray:
        """A feasible index vector with the least cost in a metric, (S,)."""
        count = self.count
        alone = np.array([cost[:, metric].argmin() for cost in self.costs])
        if self.contains(alone)[0]:
            return alone
        least, most = self._bounds(metric)
        value = _first(least, most, lambda limit: self._within(metric, limit) > 0) if count else most
        return self._limited(metric, value).sample(np.random.default_rng(0), 1)[0]

    def dearest(self, metric: int = 0) -> np.ndarray:
        """A feasible index vector with the greatest cost in a metric, (S,)."""
        count = self.count
        alone = np.array([cost[:, metric].argmax() for cost in self.costs])
        if self.contains(alone)[0]:
            return alone
        if len(self.limits) == 1:
            return self._sums.greatest()
        least, most = self._bounds(metric)
        value = _first(least, most, lambda limit: self._within(metric, limit) == count)
        costs = [np.column_stack([cost, -cost[:, metric]]) for cost in self.costs]
        base, limits = np.append(self.base, -self.base[metric]), np.append(self.limits, -value)
        return Feasible(costs, base, limits).sample(np.random.default_rng(0), 1)[0]

    # --- moving about inside ------------------------------------------------------------------------------------------

    def neighbours(self, indices_S: np.ndarray) -> np.ndarray:
        """All feasible vectors that differ from the given one in exactly one stage, (N, S)."""
        moved = [self._changed(np.asarray(indices_S), stage) for stage in range(len(self.sizes))]
        return np.concatenate([m[self.contains(m)] for m in moved if len(m)] or [np.empty((0, len(self.sizes)), int)])

    def _changed(self, indices_S: np.ndarray, stage: int) -> np.ndarray:
        others = np.delete(np.arange(self.sizes[stage]), indices_S[stage])
        moved = np.tile(indices_S, (len(others), 1))
        moved[:, stage] = others
        return moved

    def mutate(self, rng: np.random.Generator, indices_S: np.ndarray) -> np.ndarray:
        """A random feasible neighbour: a stage that has one, uniformly, then one of its choices. Without any, a copy."""
        for stage in rng.permutation(len(self.sizes)):
            moved = self._changed(np.asarray(indices_S), int(stage))
            if len(moved) and (fits := moved[self.contains(moved)]).size:
                return fits[rng.integers(len(fits))]
        return np.array(indices_S)

    def crossover(self, rng: np.random.Generator, first_S: np.ndarray, second_S: np.ndarray) -> np.ndarray:
        """Uniform crossover conditioned on the budget: exactly uniform among the feasible mixtures of two parents.

        Raises UsageError where no mixture fits, which cannot be when a parent does.
        """
        pairs = np.stack([first_S, second_S], axis=1)
        mixtures = Feasible(list(map(getitem, self.costs, pairs)), self.base, self.limits, self.names)
        chosen = mixtures.sample(rng, 1)[0]
        return pairs[np.arange(len(pairs)), chosen]

    # --- how it is done -----------------------------------------------------------------------------------------------

    @cached_property
    def _sums(self) -> _Sums:
        least = self.base + sum(cost.min(axis=0) for cost in self.costs)
        if (least > self.limits).any():
            self._refuse()
        most = self.base + sum(cost.max(axis=0) for cost in self.costs)
        binding = most > self.limits
        if binding.any():
            sums = _Sums([cost[:, binding] for cost in self.costs], (self.limits - self.base)[binding])
        else:  # all fit: as with costs of nothing
            sums = _Sums([np.zeros((size, 1), dtype=np.int64) for size in self.sizes], np.zeros(1, dtype=np.int64))
        if sums.count == 0:
            self._refuse()
        return sums

    def _within(self, metric: int, limit: int) -> int:
        """How many feasible vectors also keep a metric within another limit."""
        try:
            return self._limited(metric, limit).count
        except UsageError:
            return 0

    def _limited(self, metric: int, limit: int) -> Feasible:
        limits = self.limits.copy()
        limits[metric] = min(limit, limits[metric])
        return Feasible(self.costs, self.base, limits, self.names)

    def _bounds(self, metric: int) -> tuple[int, int]:
        """The least and the greatest total that a metric can have without any limit."""
        columns = [cost[:, metric] for cost in self.costs]
        base = int(self.base[metric])
        return base + sum(int(c.min()) for c in columns), base + sum(int(c.max()) for c in columns)

    def _refuse(self) -> None:
        needs = []
        for m, (name, show) in enumerate(zip(self.names, self.show, strict=True)):
            least = int(self.base[m] + sum(cost[:, m].min() for cost in self.costs))
            plain = int(self.base[m])
            if least > self.limits[m]:
                alone = f"the plain backbone alone needs {show(plain)}"
                cheapest = f", the cheapest architecture of the space {show(least)}" if least != plain else ""
                needs.append(f"{name} <= {show(int(self.limits[m]))}, but {alone}{cheapest}")
        raise UsageError(
            "nothing fits the budget: " + ("; ".join(needs) or "no architecture meets all limits together")
        )


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The least integer of [low, high] for which a monotone condition holds; it holds for ``high``."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


class _Stages:
    """All sums over some stages, sorted by the first metric; choices of one stage with equal costs are enumerated once."""

    def __init__(self, stages: Sequence[int], costs: Sequence[np.ndarray], metrics: int) -> None:
        self.stages = tuple(stages)
        self.groups: list[
            tuple[np.ndarray, np.ndarray]
        ] = []  # per stage: choices ordered by cost, sizes of equal groups
        sums, weight = np.zeros((1, metrics), dtype=np.int64), np.ones(1, dtype=np.int64)
        for stage in stages:
            distinct, group, size = np.unique(costs[stage], axis=0, return_inverse=True, return_counts=True)
            self.groups.append((np.argsort(group.ravel(), kind="stable"), size))
            sums = (sums[:, None, :] + distinct[None, :, :]).reshape(-1, metrics)
            weight = (weight[:, None] * size[None, :]).ravel()
        self.order = np.argsort(sums[:, 0], kind="stable")
        self.sums, self.weight = sums[self.order], weight[self.order]
        self.heap = np.concatenate([[0], np.cumsum(self.weight)])  # heap[n]: the weight of the n least sums

    def fill(self, rng: np.random.Generator, chosen_N: np.ndarray, indices_NS: np.ndarray) -> None:
        """Write a uniform choice vector of each chosen sum into the columns of these stages."""
        groups = np.unravel_index(self.order[chosen_N], [len(size) for _, size in self.groups] or [1])
        for stage, (members, size), group_N in zip(self.stages, self.groups, groups, strict=False):
            start = np.cumsum(size) - size
            indices_NS[:, stage] = members[start[group_N] + rng.integers(size[group_N])]


class _Sums:
    """Left sums, middle sums and right sums; a right sum completes a (middle, left) pair if it fits the room they leave.

    The middle is one stage where the stages do not divide into two equal halves, and empty otherwise.
    """

    def __init__(self, costs: Sequence[np.ndarray], room_M: np.ndarray) -> None:
        sizes = [len(np.unique(cost, axis=0)) for cost in costs]
        sides = _divide(sizes)
        left, middle, right = (math.prod(sizes[stage] for stage in side) for side in sides)
        seconds = _seconds(left * middle, right, len(room_M))
        if seconds > MOST_SECONDS:
            limits = "one limit" if len(room_M) == 1 else f"{len(room_M)} limits"
            raise UsageError(
                f"the budget of {limits} cannot be counted over {len(sizes)} stages with {', '.join(map(str, sizes))} choices"
                f" of different costs: it would take about {seconds:,.0f} s, and may take {MOST_SECONDS:.0f} s; list fewer"
                " choices, or limit fewer costs"
            )
        self.left, self.middle, self.right = (_Stages(side, costs, len(room_M)) for side in sides)
        self.stages, self.room = len(costs), room_M
        self._boxes = Boxes(self.right.sums, self.right.weight) if len(room_M) > 1 else None
        self._kept: np.ndarray | None = None  # completions of every middle, where several limits make them dear
        self.rows = self._count_rows()
        self.totals = list(map(mul, self.rows, self.middle.weight.tolist()))
        self.count = sum(self.totals)

    def _count_rows(self) -> list[int]:
        """For every middle sum the number of (left, right) vectors that fit beside it."""
        middles, lefts = len(self.middle.sums), len(self.left.sums)
        if self._boxes is None:
            return [int((self.left.weight * self.completions(m)).sum()) for m in range(middles)]
        if middles * lefts <= KEPT:
            self._kept = np.empty((middles, lefts), dtype=np.min_scalar_type(int(self.right.weight.sum())))
        boxes, step = self._boxes, max(1, CHUNK // lefts)

        def count(start: int) -> list[int]:
            rooms_BM = self.room - self.middle.sums[start : start + step]
            found_BL = boxes.weight(boxes.ranks_beside(rooms_BM, self.left.sums)).reshape(-1, lefts)
            if self._kept is not None:
                self._kept[start : start + step] = found_BL
            return [int((self.left.weight * found_L).sum()) for found_L in found_BL]

        if middles <= step:
            return count(0)
        with ThreadPoolExecutor(THREADS) as pool:  # numpy leaves Python's lock to others while it works on long arrays
            return list(itertools.chain.from_iterable(pool.map(count, range(0, middles, step))))

    def completions(self, middle: int) -> np.ndarray:
        """How many right vectors fit beside each left sum and the given middle one, (L,)."""
        if self._kept is not None:
            return self._kept[middle].astype(np.int64)
        room_M = self.room - self.middle.sums[middle]
        if self._boxes is None:
            rooms_L = room_M[0] - self.left.sums[:, 0]
            return self.right.heap[np.searchsorted(self.right.sums[:, 0], rooms_L, side="right")]
        return self._boxes.weight(self._boxes.ranks_beside(room_M[None], self.left.sums))

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        middle_N = np.searchsorted(np.cumsum(self.totals), rng.integers(self.count, size=n), side="right")
        left_N = np.empty(n, dtype=np.int64)
        for middle in np.unique(middle_N):
            wanted = np.flatnonzero(middle_N == middle)
            heap = np.cumsum(self.left.weight * self.completions(middle))
            left_N[wanted] = np.searchsorted(heap, rng.integers(heap[-1], size=len(wanted)), side="right")
        rooms_NM = self.room - self.middle.sums[middle_N] - self.left.sums[left_N]
        right_N = self._right(rng, rooms_NM)
        indices_NS = np.empty((n, self.stages), dtype=np.int64)
        for side, chosen_N in ((self.left, left_N), (self.middle, middle_N), (self.right, right_N)):
            side.fill(rng, chosen_N, indices_NS)
        return indices_NS

    def _right(self, rng: np.random.Generator, rooms_NM: np.ndarray) -> np.ndarray:
        """For each room one right sum within it, by weight: (N,)."""
        stop_N = np.searchsorted(self.right.sums[:, 0], rooms_NM[:, 0], side="right")
        if rooms_NM.shape[1] == 1:
            return np.searchsorted(self.right.heap, rng.integers(self.right.heap[stop_N]), side="right") - 1
        chosen = []
        for stop, room_M in zip(stop_N, rooms_NM, strict=True):
            fits = np.flatnonzero((self.right.sums[:stop, 1:] <= room_M[1:]).all(axis=1))
            heap = np.cumsum(self.right.weight[fits])
            chosen.append(fits[np.searchsorted(heap, rng.integers(heap[-1]), side="right")])
        return np.array(chosen)

    def greatest(self) -> np.ndarray:
        """With one metric: a vector whose sum is the greatest that fits."""
        best = None
        for middle in range(len(self.middle.sums)):
            rooms_L = (self.room - self.middle.sums[middle] - self.left.sums)[:, 0]
            stop_L = np.searchsorted(self.right.sums[:, 0], rooms_L, side="right")
            unused_L = np.where(stop_L > 0, rooms_L - self.right.sums[stop_L - 1, 0], np.iinfo(np.int64).max)
            left = int(unused_L.argmin())
            if best is None or unused_L[left] < best[0]:
                best = unused_L[left], left, middle, int(stop_L[left]) - 1
        assert best is not None
        indices_NS = np.empty((1, self.stages), dtype=np.int64)
        for side, chosen in zip((self.left, self.middle, self.right), best[1:], strict=True):
            side.fill(np.random.default_rng(0), np.array([chosen]), indices_NS)
        return indices_NS[0]


def _divide(sizes: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Stages for left, middle (at most one) and right such that enumerating and matching their sums takes least work."""
    best: tuple[float, tuple[list[int], list[int], list[int]]] | None = None
    log = np.log2(np.maximum(sizes, 1))
    for middle in (None, *range(len(sizes))):
        rest = [stage for stage in range(len(sizes)) if stage != middle]
        for mask in range(2 ** max(0, min(len(rest), 16) - 1)):
            left = [stage for i, stage in enumerate(rest) if mask >> i & 1]
            right = [stage for i, stage in enumerate(rest) if not mask >> i & 1]
            many = 2.0 ** log[left].sum(), 2.0 ** log[right].sum()
            work = min(many) * (2.0 ** log[middle] if middle is not None else 1.0) + 8 * sum(many)
            if best is None or work < best[0]:
                smaller, larger = (left, right) if many[0] <= many[1] else (right, left)
                best = work, (smaller, [] if middle is None else [middle], larger)
    assert best is not None
    return best[1]


def _seconds(boxes: int, points: int, metrics: int) -> float:
    """About how long one core counts, as measured; one limit needs no boxes."""
    if metrics == 1:
        return 0.04e-6 * boxes + 0.8e-6 * points
    words = 2 ** Boxes.shift(points, metrics) / 64
    return boxes * metrics * (0.27e-6 + 7e-9 * metrics * words) + 0.8e-6 * points * metrics
