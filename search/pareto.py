"""Set arithmetic of Pareto fronts: pure functions over arrays of objective values, every objective minimised.

Shapes: N points, M objectives. Maximised objectives are negated by the caller.
Hypervolume: Zitzler and Thiele, 1998; ranks and crowding: Deb et al., 2002 (NSGA-II); knee: Das, 1999 (distance to the line
through the extremes).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def as_points(points: ArrayLike) -> Array:
    """`points` as an (N, M) float array; ValueError when it has another shape or holds a NaN."""
    points_NM = np.asarray(points, dtype=float)
    if points_NM.ndim != 2:
        raise ValueError(f"points must have shape (N, M), not {points_NM.shape}")
    if np.isnan(points_NM).any():
        raise ValueError("points must not hold NaN")
    return points_NM


def dominates(a: ArrayLike, b: ArrayLike) -> bool:
    """Whether point `a` (M,) is nowhere worse than `b` (M,) and somewhere better."""
    a_M, b_M = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return bool((a_M <= b_M).all() and (a_M < b_M).any())


def non_dominated(points: ArrayLike) -> Mask:
    """Mask (N,) of the points that no other point dominates; equal points are kept together."""
    points_NM = as_points(points)
    unique_UM, inverse_N = np.unique(
        points_NM, axis=0, return_inverse=True
    )  # lexicographic: later never dominates earlier
    keep_U = np.ones(len(unique_UM), dtype=bool)
    if unique_UM.shape[1] == 2:
        best = np.minimum.accumulate(unique_UM[:, 1])
        keep_U[1:] = unique_UM[1:, 1] < best[:-1]
    else:
        for i in range(len(unique_UM)):
            if keep_U[i]:
                keep_U[i + 1 :] &= (unique_UM[i + 1 :] < unique_UM[i]).any(axis=1)
    return keep_U[inverse_N.reshape(-1)]


def non_domination_rank(points: ArrayLike) -> NDArray[np.int64]:
    """Rank (N,): 0 on the front, 1 on the front of what is left without it, and so on."""
    points_NM = as_points(points)
    rank_N = np.zeros(len(points_NM), dtype=np.int64)
    left = np.arange(len(points_NM))
    rank = 0
    while len(left):
        front = non_dominated(points_NM[left])
        rank_N[left[front]] = rank
        left = left[~front]
        rank += 1
    return rank_N


def crowding_distance(points: ArrayLike) -> Array:
    """Crowding (N,) of NSGA-II: the sum over objectives of the normalised gap between neighbours; extremes: inf."""
    points_NM = as_points(points)
    n = len(points_NM)
    distance_N = np.zeros(n)
    for values_N in points_NM.T:
        order = np.argsort(values_N, kind="stable")
        span = values_N[order[-1]] - values_N[order[0]] if n else 0.0
        if span > 0:
            distance_N[order[1:-1]] += (values_N[order[2:]] - values_N[order[:-2]]) / span
        distance_N[order[[0, -1]] if n else order] = np.inf
    return distance_N


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Exact measure of the set that `points` (N, M) dominate below `reference` (M,).

    Points that are not better than the reference in every objective add nothing. Two objectives: one sweep, O(N log N);
    more: slices along the last objective, each of them a hypervolume of one objective less.
    """
    points_NM, reference_M = as_points(points), np.asarray(reference, dtype=float)
    if reference_M.shape != points_NM.shape[1:]:
        raise ValueError(f"reference of shape {reference_M.shape} does not fit points of shape {points_NM.shape}")
    inside_NM = points_NM[(points_NM < reference_M).all(axis=1)]
    return _slice(inside_NM[non_dominated(inside_NM)], reference_M) if len(inside_NM) else 0.0


def _slice(front_NM: Array, reference_M: Array) -> float:
    if len(reference_M) == 1:
        return float(reference_M[0] - front_NM.min())
    if len(reference_M) == 2:
        front_NM = front_NM[np.lexsort((front_NM[:, 1], front_NM[:, 0]))]
        below = np.minimum.accumulate(np.concatenate([reference_M[1:], front_NM[:, 1]]))
        return float(((reference_M[0] - front_NM[:, 0]) * (below[:-1] - below[1:])).sum())
    order = np.argsort(front_NM[:, -1], kind="stable")
    front_NM = front_NM[order]
    depth_N = np.diff(np.append(front_NM[:, -1], reference_M[-1]))
    volume = 0.0
    slice_KM = front_NM[:0, :-1]
    for point_M, depth in zip(front_NM[:, :-1], depth_N, strict=True):
        slice_KM = np.vstack([slice_KM, point_M])
        slice_KM = slice_KM[non_dominated(slice_KM)]
        if depth > 0:
            volume += depth * _slice(slice_KM, reference_M[:-1])
    return float(volume)


def normalise(points: ArrayLike) -> Array:
    """Every objective scaled to [0, 1] over `points` (N, M); an objective without spread becomes 0."""
    points_NM = as_points(points)
    if not len(points_NM):
        return points_NM
    low_M, span_M = points_NM.min(axis=0), np.ptp(points_NM, axis=0)
    return (points_NM - low_M) / np.where(span_M > 0, span_M, 1.0)


def knee(points: ArrayLike) -> int:
    """Index of the front's knee: the point furthest below the hyperplane through the extremes, in [0, 1] coordinates.

    For a convex front it is where one more unit of cost starts to buy little. ValueError when there is no point.
    """
    points_NM = as_points(points)
    if not len(points_NM):
        raise ValueError("an empty front has no knee")
    front = np.flatnonzero(non_dominated(points_NM))
    # In unit coordinates the extremes of a front lie on sum = 1 for two objectives (and near it for more), so the
    # distance below that plane is the sum of the coordinates but for a constant.
    return int(front[np.argmin(normalise(points_NM[front]).sum(axis=1))])
