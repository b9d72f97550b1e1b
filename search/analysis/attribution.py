"""What attention bought, and where: the gain of each (stage, type), of genes, and how much of it is interaction.

Additive model: y = b + sum_s beta_(s, type) + genes + noise, beta ~ Normal(0, tau^2), with tau and the noise by maximum
evidence (MacKay, Bayesian interpolation, 1992), so that a few dozen evaluations give honest, wide intervals.
Functional ANOVA over a random forest (Hutter et al., An efficient approach for assessing hyperparameter importance, 2014).

Letters: N evaluations, P features, S stages, T trees.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from search.store import COMPLETE, TEST
from spaces import Placement
from spaces.attention.genes import GENES, Gene, Value
from spaces.placement import SITES

if TYPE_CHECKING:
    from search.results import Results

Array = NDArray[np.float64]
SURE = 0.95
TREES, BACKGROUND = 48, 96
Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Attribution:
    """``effects`` per (stage, type), ``genes`` per gene, ``shares`` of variance per stage and pair of stages, in words too.

    ``additive_r2``: the share of the variance between evaluations that the additive model predicts, each from the others.
    """

    effects: pd.DataFrame
    genes: pd.DataFrame
    shares: pd.DataFrame
    additive_r2: float
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Linear:
    """Posterior of a linear model: mean (P,), covariance (P, P), and the share of variance predicted leaving one out."""

    mean_P: Array
    covariance_PP: Array
    r2: float

    def effect(self, weights_P: Array) -> tuple[float, float]:
        """Mean and standard deviation of a weighted sum of coefficients."""
        return float(weights_P @ self.mean_P), float(
            np.sqrt(max(0.0, float(weights_P @ self.covariance_PP @ weights_P)))
        )


def bayesian_linear(x_NP: Array, y_N: Array) -> Linear:
    """Posterior of centred y on centred x, with prior and noise variances by maximum evidence on a grid of their ratio."""
    x_NP, y_N = x_NP - x_NP.mean(axis=0), y_N - y_N.mean()
    n = len(y_N)
    u_NK, s_K, vt_KP = np.linalg.svd(x_NP, full_matrices=False)
    z_K = u_NK.T @ y_N
    rest = float(y_N @ y_N - z_K @ z_K)
    best: tuple[float, float, float] = (-np.inf, 1.0, 1.0)
    for ratio in np.logspace(-4, 3, 71):  # tau^2 / sigma^2
        spread_K = 1 + ratio * s_K**2
        noise = float(((z_K**2 / spread_K).sum() + max(rest, 0.0)) / max(n - 1, 1))
        if noise <= 0:
            continue
        evidence = -0.5 * ((n - 1) * np.log(noise) + np.log(spread_K).sum())
        if evidence > best[0]:
            best = (float(evidence), float(ratio), noise)
    _, ratio, noise = best
    shrink_K = ratio * s_K / (1 + ratio * s_K**2)
    mean_P = vt_KP.T @ (shrink_K * z_K)
    covariance_PP = (
        ratio * noise * (np.eye(x_NP.shape[1]) - (vt_KP.T * (ratio * s_K**2 / (1 + ratio * s_K**2))) @ vt_KP)
    )
    # Leave-one-out residuals from the hat matrix's diagonal; the mean that was subtracted has 1/n of each leverage.
    leverage_N = 1 / n + (u_NK**2) @ (ratio * s_K**2 / (1 + ratio * s_K**2))
    left_out_N = (y_N - x_NP @ mean_P) / np.maximum(1 - leverage_N, 1e-9)
    total = float(y_N @ y_N) * (n / max(n - 1, 1)) ** 2
    return Linear(mean_P, covariance_PP, 1 - float(left_out_N @ left_out_N) / total if total > 0 else 0.0)


def attribute(results: Results) -> Attribution:
    """Attribution from every complete evaluation on the validation split at the highest fidelity, fresh seeds included."""
    rows = results.evaluations
    rows = rows[(rows["state"] == COMPLETE) & (rows["kind"] != TEST)]
    rows = rows[rows["fidelity"] == rows["fidelity"].max()]
    placements = [placements_of(str(text)) for text in rows["architecture"]]
    y_N = rows["accuracy"].to_numpy(float)
    stages = len(placements[0]) if placements else 0
    kinds = sorted({(s, one[s].type) for one in placements for s in range(stages) if not one[s].is_none})
    names, gene_NP = _gene_columns(placements)
    place_NP = np.array([[float(one[s].type == kind) for s, kind in kinds] for one in placements])
    place_NP = place_NP.reshape(len(placements), len(kinds))
    fitted = bayesian_linear(np.hstack([place_NP, gene_NP]), y_N) if len(y_N) > 1 else None
    mega = _added_megaflops(results, placements, kinds)
    effects = _effects(fitted, kinds, place_NP, mega, len(names))
    genes = _gene_effects(fitted, names, len(kinds))
    shares = fanova(placements, y_N) if len(y_N) >= 8 else pd.DataFrame(columns=["stages", "share", "std"])
    r2 = fitted.r2 if fitted else 0.0
    words = _sentences(fitted, effects, kinds, stages, len(y_N), len(names))
    return Attribution(effects, genes, shares, r2, tuple(words + _share_words(shares, r2)))


def placements_of(text: str) -> tuple[Placement, ...]:
    """The placements of a canonical text, as the store holds it."""
    return tuple(_placement(word) for word in text.rpartition(":")[2].split(","))


@cache
def _placement(word: str) -> Placement:
    return Placement.parse(word)


# --- the additive model ----------------------------------------------------------------------------------------------


def _gene_columns(placements: list[tuple[Placement, ...]]) -> tuple[list[str], Array]:
    """One column per gene, summed over stages and centred within each type, so that types and genes do not mix."""
    names, columns = [], []
    for name, read in _readings(GENES).items():
        values = [[read(p) for p in one] for one in placements]
        by_kind: dict[tuple[int, str], list[float]] = {}
        for one, row in zip(placements, values, strict=True):
            for s, value in enumerate(row):
                if value is not None:
                    by_kind.setdefault((s, one[s].type), []).append(value)
        centre = {kind: float(np.mean(found)) for kind, found in by_kind.items()}
        column = [
            sum(v - centre[s, one[s].type] for s, v in enumerate(row) if v is not None)
            for one, row in zip(placements, values, strict=True)
        ]
        if np.ptp(column) > 1e-9:
            names.append(name)
            columns.append(column)
    return names, np.array(columns, dtype=float).reshape(len(names), len(placements)).T


def _added_megaflops(
    results: Results, placements: list[tuple[Placement, ...]], kinds: list[tuple[int, str]]
) -> dict[tuple[int, str], float]:
    """What each (stage, type) adds on average, in millions of FLOPs."""
    from evaluators.cost import METRICS, CostTable

    if not kinds:
        return {}
    data = json.loads((results.folder / "data.json").read_text())
    space = results.config.space
    table = CostTable(
        space.backbone,
        image_size=data["image_size"],
        num_classes=data["num_classes"],
        in_chans=data["in_chans"],
        native=space.native,
    )
    column = METRICS.index("flops")
    found = {}
    for s, kind in kinds:
        seen = [one[s] for one in placements if one[s].type == kind]
        found[s, kind] = float(table.stage_costs(s, seen)[:, column].mean()) / 1e6
    return found


def _effects(
    fitted: Linear | None,
    kinds: list[tuple[int, str]],
    place_NP: Array,
    mega: dict[tuple[int, str], float],
    genes: int,
) -> pd.DataFrame:
    """gain, low, high: points of accuracy (1 = 100 %) against no attention at that stage; the same per million FLOPs."""
    rows = []
    for index, (s, kind) in enumerate(kinds):
        if fitted is None:
            break
        weights_P = np.zeros(len(kinds) + genes)
        weights_P[index] = 1
        gain, std = fitted.effect(weights_P)
        cost = mega[s, kind]
        per = (lambda value, cost=cost: value / cost) if cost > 0 else (lambda value: np.nan)
        rows.append(
            {
                "stage": s + 1,
                "type": kind,
                "evaluations": int(place_NP[:, index].sum()),
                "gain": gain,
                "low": gain - Z * std,
                "high": gain + Z * std,
                "probability": float(norm.cdf(gain / std)) if std > 0 else 0.5,
                "megaflops": cost,
                "gain_per_megaflop": per(gain),
                "low_per_megaflop": per(gain - Z * std),
                "high_per_megaflop": per(gain + Z * std),
            }
        )
    columns = ["stage", "type", "evaluations", "gain", "low", "high", "probability", "megaflops", "gain_per_megaflop"]
    return pd.DataFrame(rows, columns=[*columns, "low_per_megaflop", "high_per_megaflop"])


def _gene_effects(fitted: Linear | None, names: list[str], kinds: int) -> pd.DataFrame:
    rows = []
    for index, name in enumerate(names):
        if fitted is None:
            break
        weights_P = np.zeros(kinds + len(names))
        weights_P[kinds + index] = 1
        gain, std = fitted.effect(weights_P)
        rows.append({"gene": name, "gain": gain, "low": gain - Z * std, "high": gain + Z * std})
    return pd.DataFrame(rows, columns=["gene", "gain", "low", "high"])


def _sentences(
    fitted: Linear | None, effects: pd.DataFrame, kinds: list[tuple[int, str]], stages: int, count: int, genes: int
) -> list[str]:
    """One sentence per stage: what attention buys there, or that it buys nothing that can be seen."""
    words = []
    for s in range(stages):
        here = effects[effects["stage"] == s + 1]
        if here.empty or fitted is None:
            words.append(f"No evaluation has attention at stage {s + 1}.")
            continue
        weights_P = np.zeros(len(kinds) + genes)
        for index, (stage, kind) in enumerate(kinds):
            if stage == s:
                share = here.loc[here["type"] == kind, "evaluations"].iloc[0] / here["evaluations"].sum()
                weights_P[index] = share
        mean, std = fitted.effect(weights_P)
        best = here.sort_values("gain").iloc[-1]
        interval = f"{100 * (mean - Z * std):+.1f} to {100 * (mean + Z * std):+.1f}"
        if mean - Z * std > 0:
            words.append(
                f"Attention at stage {s + 1} pays: {100 * mean:+.1f} points on average ({interval}), most with {best['type']} "
                f"({100 * best['gain']:+.1f}, {_per(best)})."
            )
        elif best["probability"] > SURE:
            words.append(
                f"At stage {s + 1} it depends on the type: {best['type']} gains {100 * best['gain']:+.1f} points "
                f"({100 * best['low']:+.1f} to {100 * best['high']:+.1f}, {_per(best)}), attention on average "
                f"{100 * mean:+.1f} ({interval})."
            )
        elif mean + Z * std < 0:
            words.append(
                f"Attention at stage {s + 1} costs accuracy: {100 * mean:+.1f} points on average ({interval})."
            )
        else:
            words.append(
                f"Attention at stage {s + 1} buys nothing here that {count} evaluations can show: {100 * mean:+.1f} points on "
                f"average ({interval}), at best {best['type']} with {100 * best['gain']:+.1f}."
            )
    return words


def _per(row: pd.Series) -> str:
    per = row["gain_per_megaflop"]
    return f"{100 * per:+,.1f} points per million FLOPs" if np.isfinite(per) else "for no FLOPs"


def _readings(genes: Sequence[Gene]) -> dict[str, Callable[[Placement], float | None]]:
    """What a placement has of each gene and of its site, as numbers, by the name of the effect; None: it has no such gene."""

    def of_gene(gene: Gene, read: Callable[[Value], float]) -> Callable[[Placement], float | None]:
        return lambda placement: None if (value := placement.genes.get(gene.name)) is None else read(value)

    def of_site(site: str) -> Callable[[Placement], float | None]:
        return lambda placement: None if placement.site is None else float(placement.site == site)

    first, *others = SITES
    found = {name: of_gene(gene, read) for gene in genes for name, read in gene.readings().items()}
    return found | {f"site {site} instead of {first}": of_site(site) for site in others}


# --- functional ANOVA ------------------------------------------------------------------------------------------------


def fanova(placements: list[tuple[Placement, ...]], y_N: Array, *, seed: int = 0) -> pd.DataFrame:
    """Shares of the variance of accuracy over the space: of each stage's type, and of each pair beyond its two stages.

    Every tree gives one decomposition over uniform types at every stage; ``share`` and ``std`` are over the trees.
    """
    from sklearn.ensemble import RandomForestRegressor

    stages = len(placements[0])
    choices = [sorted({one[s] for one in placements}, key=str) for s in range(stages)]
    vocabulary = sorted({p.type for one in choices for p in one})
    genes = [gene for gene in GENES if any(gene.name in p.genes for one in choices for p in one)]
    table = [np.array([_features(p, vocabulary, genes) for p in one]) for one in choices]
    index_NS = np.array([[choices[s].index(one[s]) for s in range(stages)] for one in placements])

    def encode(index_KS: NDArray[np.int64]) -> Array:
        return np.hstack([table[s][index_KS[:, s]] for s in range(stages)])

    forest = RandomForestRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)
    forest.fit(encode(index_NS), y_N)
    rng = np.random.default_rng(seed)
    by_type = [
        [[i for i, p in enumerate(one) if p.type == kind] for kind in sorted({p.type for p in one})] for one in choices
    ]

    def draw(count: int) -> NDArray[np.int64]:
        columns = []
        for groups in by_type:
            kinds_K = rng.integers(len(groups), size=count)
            columns.append([groups[kind][rng.integers(len(groups[kind]))] for kind in kinds_K])
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
            for s, groups, kind in zip(at, grids, combination, strict=True):
                block_BS[:, s] = [groups[kind][b % len(groups[kind])] for b in range(BACKGROUND)]
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


def _features(placement: Placement, vocabulary: list[str], genes: Sequence[Gene]) -> list[float]:
    """One stage's placement as numbers: the type one-hot, then its genes and its site."""
    types = [float(placement.type == kind) for kind in vocabulary]
    return [*types, *(read(placement) or 0.0 for read in _readings(genes).values())]


def _share_words(shares: pd.DataFrame, r2: float) -> list[str]:
    if shares.empty:
        return []
    pairs = shares[shares["stages"].str.contains(" x ")]
    mains = shares[~shares["stages"].str.contains(" x ")]
    top = mains.sort_values("share").iloc[-1]
    words = [
        f"From the other evaluations the additive model predicts {100 * max(r2, 0):.0f} % of the variance; by fANOVA "
        f"{top['stages']} matters most ({100 * top['share']:.0f} %)."
    ]
    if len(pairs):
        pair = pairs.sort_values("share").iloc[-1]
        words.append(f"The strongest interaction is {pair['stages']} with {100 * pair['share']:.0f} % of the variance.")
    return words
