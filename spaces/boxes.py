"""How much weight of many points lies in boxes that are open below: what counting under several limits comes down to.

Letters: R points, M metrics, Q boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TABLE = 2**24  # numbers in the table of ``Boxes``


class Boxes:
    """How much weight of R points lies in a box that is open below, for many boxes: exact, for any number M of metrics.

    Along each metric a point has a rank, and a box ends at a rank. Ranks are cut into slabs. A table holds the weight of every
    box that ends at borders of slabs. What such a box leaves out lies, in some metric, in the slab in which the box ends.
    There the points within are the intersection of M sets, each one of a few hundred, held as bits: a popcount.
    So a box costs M slabs of ``size`` bits in M metrics, whatever the number of points (in memory: TABLE numbers).

    ``sums_RM``: the points. ``weight_R``: their weights, positive integers.
    """

    def __init__(self, sums_RM: np.ndarray, weight_R: np.ndarray) -> None:
        points, self._metrics = sums_RM.shape
        self._shift = self.shift(points, self._metrics)
        self._size = 1 << self._shift
        slabs = -(-points // self._size)
        self._order_MR = np.argsort(sums_RM, axis=0).T
        self._sorted_MR = np.take_along_axis(sums_RM.T, self._order_MR, axis=1)
        self._rank_MR = np.argsort(self._order_MR, axis=1)
        self._weight = weight_R
        self._known: dict[tuple[int, int], tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]] = {}
        table = np.zeros((slabs + 1,) * self._metrics, dtype=np.min_scalar_type(int(weight_R.sum())))
        np.add.at(table, tuple((self._rank_MR >> self._shift) + 1), weight_R.astype(table.dtype))
        for axis in range(self._metrics):
            np.cumsum(table, axis=axis, out=table)
        self._table, self._slabs = table.ravel(), slabs

    @staticmethod
    def shift(points: int, metrics: int) -> int:
        """The logarithm of the ranks in a slab, which is a power of two: the table takes that many slabs along each metric."""
        most = max(1, int(min(TABLE, 256 * points) ** (1 / metrics)) - 1)
        return max(6, (-(-points // most) - 1).bit_length())

    def ranks(self, rooms_QM: np.ndarray) -> np.ndarray:
        """Where boxes end: the number of points within the room along each metric, (M, Q)."""
        found = [
            np.searchsorted(one, room, side="right") for one, room in zip(self._sorted_MR, rooms_QM.T, strict=True)
        ]
        return np.array(found, dtype=np.int32)

    def ranks_beside(self, rooms_BM: np.ndarray, taken_LM: np.ndarray) -> np.ndarray:
        """``ranks`` of every room less every sum that takes part of it, (M, B * L); sorted needles are found faster."""
        found_MBL = np.empty((self._metrics, len(rooms_BM), len(taken_LM)), dtype=np.int32)
        for metric, taken_L in enumerate(taken_LM.T):
            order = np.argsort(-taken_L)
            for row, room in enumerate(rooms_BM[:, metric]):
                ends_L = np.searchsorted(self._sorted_MR[metric], room - taken_L[order], side="right")
                found_MBL[metric, row, order] = ends_L
        return found_MBL.reshape(self._metrics, -1)

    def weight(self, ranks_MQ: np.ndarray) -> np.ndarray:
        """The weight in each box, (Q,)."""
        found_Q = np.zeros(ranks_MQ.shape[1], dtype=np.int64)
        open_Q = np.flatnonzero((ranks_MQ > 0).all(axis=0)).astype(np.int32)
        ends_MQ = ranks_MQ[:, open_Q].astype(np.int32)
        ends_MQ[ends_MQ == len(self._weight)] = self._slabs << self._shift
        cell_Q = np.zeros(len(open_Q), dtype=np.int32)
        for end_Q in ends_MQ:
            cell_Q *= self._slabs + 1
            cell_Q += end_Q >> self._shift
        weight_Q = self._table.take(cell_Q).astype(np.int64)
        for metric in range(self._metrics):
            asked = np.flatnonzero(ends_MQ[metric] & (self._size - 1)).astype(np.int32)
            word_A = ((ends_MQ[metric].take(asked) - 1) >> 6).astype(
                np.uint32 if len(self._weight) >> 22 else np.uint16
            )
            order = np.argsort(word_A, kind="stable")  # whoever ends in one slab stands together
            words = self._size >> 6
            asked = asked.take(order)
            border = np.searchsorted(word_A.take(order), np.arange(self._slabs * words + 1))
            ends_MA = [ends_Q.take(asked) for ends_Q in ends_MQ]
            for whole_A in ends_MA[:metric]:
                whole_A &= -self._size  # what lies in the last slab of several metrics is counted once, by the first
            added_A = np.empty(len(asked), dtype=np.int64)
            for slab in range(self._slabs):
                starts = border[slab * words : (slab + 1) * words + 1]
                if starts[0] < starts[-1]:
                    here = slice(starts[0], starts[-1])
                    ends = [end_A[here] for end_A in ends_MA]
                    added_A[here] = self._in_slab(metric, slab, ends, starts - starts[0])
            weight_Q[asked] += added_A
        found_Q[open_Q] = weight_Q
        return found_Q

    def _in_slab(self, metric: int, slab: int, ends_MQ: Sequence[np.ndarray], starts: np.ndarray) -> np.ndarray:
        """The weight of the points of one slab along a metric that lie in each box, (Q,).

        ``starts``: the first box that ends in each word of the slab, by which the boxes are sorted; words after are empty.
        """
        weight_P, sets = self._sets(metric, slab)
        parts = [
            (_below(rank_P, end_Q, len(self._weight)), first_WP)
            for end_Q, (rank_P, first_WP) in zip(ends_MQ, sets, strict=True)
        ]
        found_Q = np.zeros(len(ends_MQ[0]), dtype=np.int64)
        equal = bool((weight_P == 1).all())
        for word, start in enumerate(starts[: -(-len(weight_P) // 64)]):
            inside_Q = parts[0][1][word].take(parts[0][0][start:])
            for count_Q, first_WP in parts[1:]:
                inside_Q &= first_WP[word].take(count_Q[start:])
            if equal:
                found_Q[start:] += np.bitwise_count(inside_Q)
                continue
            weights = weight_P[word * 64 : (word + 1) * 64]
            for digit in range(int(weights.max()).bit_length()):
                digit_bits = _bits(weights >> digit & 1)
                found_Q[start:] += np.bitwise_count(inside_Q & digit_bits).astype(np.int64) << digit
        return found_Q

    def _sets(self, metric: int, slab: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """The weights (P,) of a slab's points, and by metric their sorted ranks with the sets of the first n of them.

        A set is a column of words, (W, P + 1).
        """
        if (metric, slab) in self._known:
            return self._known[metric, slab]
        members = self._order_MR[metric, slab << self._shift : (slab + 1) << self._shift]
        bit_PW = np.zeros((len(members), -(-len(members) // 64)), dtype=np.uint64)
        place = np.arange(len(members))
        bit_PW[place, place // 64] = np.uint64(1) << (place % 64).astype(np.uint64)
        sets = []
        for rank_R in self._rank_MR:
            order = np.argsort(rank_R[members])
            first_WP = np.zeros((bit_PW.shape[1], len(members) + 1), dtype=np.uint64)
            np.cumsum(bit_PW[order].T, axis=1, out=first_WP[:, 1:])
            sets.append((rank_R[members[order]], first_WP))
        found = self._weight[members], sets
        if self._metrics**2 * len(self._weight) * self._size <= 64 * TABLE:  # else they take too much memory
            self._known[metric, slab] = found
        return found


def _below(ranks_P: np.ndarray, ends_Q: np.ndarray, points: int) -> np.ndarray:
    """How many of a few sorted ranks lie below each end, (Q,); for many ends by a table over all ranks."""
    if len(ends_Q) * 16 < points:
        return np.searchsorted(ranks_P, ends_Q)
    table = np.zeros(points + 1, dtype=np.int32)
    table[ranks_P + 1] = 1
    np.cumsum(table, out=table)
    return table.take(np.minimum(ends_Q, points))


def _bits(digits: np.ndarray) -> np.uint64:
    """Up to 64 zeros and ones as one word, the first one lowest."""
    return np.bitwise_or.reduce(digits.astype(np.uint64) << np.arange(len(digits), dtype=np.uint64))


def weight_below(sums_RM: np.ndarray, weight_R: np.ndarray, rooms_QM: np.ndarray) -> np.ndarray:
    """For each of Q rooms the total weight of the sums that are within it in every metric, exactly: (Q,)."""
    boxes = Boxes(sums_RM, weight_R)
    return boxes.weight(boxes.ranks(rooms_QM))
