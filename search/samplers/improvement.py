"""Expected hypervolume improvement where all objectives but the accuracy are known, in closed form.

Let A(s) be the best accuracy so far among trials that cost at most s (a staircase over the M costs). A candidate with
known costs c and accuracy a adds the volume of int (a - A(s))+ ds over c <= s <= reference. A is constant on boxes, so the
expectation over a is a sum over boxes of (overlap of the box with {s >= c}) * E[(a - level)+], both known exactly.
Boxes of a staircase: Emmerich et al., 2016. Shapes: N trials, K candidates, M costs, B boxes, J levels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Box = tuple[tuple[tuple[float, float], ...], float]  # per cost (low, high), and the level


@dataclass(frozen=True)
class Staircase:
    """The boxes of A below the reference."""

    low_BM: Array
    high_BM: Array
    level_J: Array
    level_of_B: NDArray[np.int64]

    @classmethod
    def build(cls, costs_NM: Array, accuracy_N: Array, reference_M: Array, worst: float) -> "Staircase":
        """`worst` is the accuracy of the reference point: A where nothing was tried."""
        useful = (accuracy_N > worst) & (costs_NM < reference_M).all(axis=1)
        boxes = _boxes(costs_NM[useful], accuracy_N[useful], [float(r) for r in reference_M], worst)
        spans = np.array([spans for spans, _ in boxes], dtype=float).reshape(len(boxes), len(reference_M), 2)
        level_J, level_of_B = np.unique([level for _, level in boxes], return_inverse=True)
        return cls(spans[:, :, 0], spans[:, :, 1], level_J, level_of_B.reshape(-1))

    def reached(self, costs_KM: Array) -> Array:
        """A at each candidate's own cost, (K,)."""
        out_K = np.full(len(costs_KM), self.level_J.min())
        for low_M, high_M, j in zip(self.low_BM, self.high_BM, self.level_of_B, strict=True):
            inside_K = ((costs_KM >= low_M) & (costs_KM < high_M)).all(axis=1)
            out_K[inside_K] = self.level_J[j]
        return out_K

    def improvement(self, costs_KM: Array, excess_KJ: Array) -> Array:
        """Sum over boxes of overlap times E[(a - level)+], (K,)."""
        total_K = np.zeros(len(costs_KM))
        rows = max(1, 4_000_000 // max(len(self.level_of_B), 1))
        for start in range(0, len(costs_KM), rows):
            part = slice(start, start + rows)
            overlap_KB = np.ones((len(costs_KM[part]), len(self.level_of_B)))
            for m in range(costs_KM.shape[1]):
                reach_KB = self.high_BM[:, m] - np.maximum(self.low_BM[:, m], costs_KM[part, m, None])
                overlap_KB *= np.maximum(reach_KB, 0.0)
            total_K[part] = np.einsum("kb,kb->k", overlap_KB, excess_KJ[part][:, self.level_of_B])
        return total_K


def _boxes(costs_NM: Array, accuracy_N: Array, reference: list[float], worst: float) -> list[Box]:
    """Disjoint boxes, from slabs along the last cost; boxes that a further slab leaves as they were are grown."""
    if not reference:
        return [((), float(accuracy_N.max(initial=worst)))]
    order = np.argsort(costs_NM[:, -1], kind="stable")
    edges = sorted(set(costs_NM[:, -1].tolist()))
    open_from: dict[Box, float] = {}
    done: list[Box] = []
    for edge in [-np.inf, *edges]:
        active = order[costs_NM[order, -1] <= edge]
        slab = dict.fromkeys(_boxes(costs_NM[active, :-1], accuracy_N[active], reference[:-1], worst))
        for box in [box for box in open_from if box not in slab]:
            done.append(((*box[0], (open_from.pop(box), edge)), box[1]))
        for box in slab:
            open_from.setdefault(box, edge)
    done += [((*spans, (start, reference[-1])), level) for (spans, level), start in open_from.items()]
    return done
