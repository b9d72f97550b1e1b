"""How the variance of the scores divides over the stages and over pairs of them.

Functional ANOVA over a random forest (Hutter et al., An efficient approach for assessing hyperparameter importance, 2014).

Letters: N evaluations, S stages, T trees, F features of an architecture, B architectures of the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from search.gains import Array, readings
from spaces.attention.genes import GENES, Gene
from spaces.written import Written

TREES, BACKGROUND = 48, 96


def fanova(placements: Sequence[tuple[Written, ...]], y_N: Array, *, seed: int = 0) -> pd.DataFrame:
    """Shares of the variance of the scores over the space: of each stage's type, and of each pair beyond its two stages.

    Every tree gives one decomposition over uniform types at every stage; ``share`` and ``std`` are over the trees.
    """
    stages = len(placements[0])
    choices = [sorted({one[s] for one in placements}, key=str) for s in range(stages)]
    vocabulary = sorted({p.type for one in choices for p in one})
    genes = [gene for gene in GENES if any(p.genes.get(gene.name) is not None for one in choices for p in one)]
    table = [np.array([_features(p, vocabulary, genes) for p in one]) for one in choices]
    index_NS = np.array([[choices[s].index(one[s]) for s in range(stages)] for one in placements])

    def encode(index_KS: NDArray[np.int64]) -> Array:
        return np.hstack([table[s][index_KS[:, s]] for s in range(stages)])

    forest = RandomForestRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)
    forest.fit(encode(index_NS), y_N)
    rng = np.random.default_rng(seed)
    by_type = [
        [[i for i, p in enumerate(one) if p.type == name] for name in sorted({p.type for p in one})] for one in choices
    ]

    def draw(count: int) -> NDArray[np.int64]:
        columns = []
        for groups in by_type:
            types_K = rng.integers(len(groups), size=count)
            columns.append([groups[number][rng.integers(len(groups[number]))] for number in types_K])
        return np.array(columns, dtype=np.int64).T

    def predict(index_KS: NDArray[np.int64]) -> Array:
        x_KF = encode(index_KS).astype(np.float32)
        return np.array([tree.predict(x_KF) for tree in forest.estimators_])

    background_BS = draw(BACKGROUND)

    def marginal(at: tuple[int, ...]) -> Array:
        """Mean prediction (T, types of the first, ...) with the types of these stages fixed."""
        grids = [by_type[s] for s in at]
        blocks = []
        for combination in np.ndindex(*(len(groups) for groups in grids)):
            block_BS = background_BS.copy()
            for s, groups, number in zip(at, grids, combination, strict=True):
                block_BS[:, s] = [groups[number][b % len(groups[number])] for b in range(BACKGROUND)]
            blocks.append(block_BS)
        predicted = predict(np.concatenate(blocks)).reshape(TREES, len(blocks), BACKGROUND).mean(axis=2)
        return predicted.reshape(TREES, *(len(groups) for groups in grids))

    total_T = predict(draw(2048)).var(axis=1)
    total_T = np.where(total_T > 1e-12, total_T, np.inf)  # a tree without a split explains nothing
    mains = [marginal((s,)) for s in range(stages)]
    shares = {f"stage {s + 1}": main.var(axis=1) / total_T for s, main in enumerate(mains)}
    for a, b in combinations(range(stages), 2):
        joint_T12 = marginal((a, b))
        beyond = joint_T12 - joint_T12.mean(axis=2, keepdims=True) - joint_T12.mean(axis=1, keepdims=True)
        shares[f"stage {a + 1} x stage {b + 1}"] = beyond.reshape(TREES, -1).var(axis=1) / total_T
    return pd.DataFrame(
        [{"stages": name, "share": float(v.mean()), "std": float(v.std())} for name, v in shares.items()]
    )


def _features(placement: Written, vocabulary: Sequence[str], genes: Sequence[Gene]) -> list[float]:
    """One stage's placement as numbers: the type one-hot, then its genes and its site."""
    types = [float(placement.type == name) for name in vocabulary]
    return [*types, *(read(placement) or 0.0 for read in readings(genes).values())]
