"""What the fresh seeds say: the honest front with its intervals, the winner's curse, and whether the baselines were beaten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from search.statistics import front_probability, hypervolume_draws, posterior
from search.store import COMPLETE, CONFIRM, FAILED, RANDOM, TEST, front_of
from spaces import Architecture, Placement
from spaces.errors import UsageError

if TYPE_CHECKING:
    from search.config import Config
    from search.results import Results

BASELINES = ("uniform", "random")
SURE = 0.95
COLUMNS = {
    "architecture": "string",
    "role": "string",
    "accuracy": "float64",
    "low": "float64",
    "high": "float64",
    "accuracy_std": "float64",
    "seeds": "int64",
    "p_front": "float64",
    "search_accuracy": "float64",
    "gap": "float64",
    "test_accuracy": "float64",
    "test_std": "float64",
    "flops": "int64",
    "macs": "int64",
    "params": "int64",
    "activations": "int64",
    "latency": "float64",
}


@dataclass(frozen=True)
class Verdict:
    """One comparison in words, with its numbers: the gain in accuracy (or hypervolume), its interval and probability."""

    baseline: str
    sentence: str
    gain: float
    low: float
    high: float
    probability: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def near_front(summary: pd.DataFrame, costs: Sequence[str], count: int) -> list[str]:
    """The front and, up to ``count`` in all, the architectures that lack least accuracy to it at their cost."""
    if summary.empty:
        return []
    values_NM = summary[list(costs)].to_numpy(float)
    accuracy_N = summary["accuracy"].to_numpy(float)
    affordable_NN = (values_NM[None] <= values_NM[:, None]).all(axis=2)
    lacking_N = np.where(affordable_NN, accuracy_N[None], -np.inf).max(axis=1) - accuracy_N
    front = set(front_of(summary, tuple(costs))["architecture"])
    order = sorted(range(len(summary)), key=lambda i: (summary["architecture"].iloc[i] not in front, lacking_N[i]))
    return [str(summary["architecture"].iloc[i]) for i in order[: max(count, len(front))]]


def uniform_architectures(config: Config) -> list[str]:
    """Each attention type of the space at all stages with its published defaults, at the space's first site.

    A type whose defaults do not fit some stage is left out.
    """
    plain = Architecture.plain(config.space.backbone)
    found: dict[str, None] = {}
    for name in config.space.attentions:
        if name == "none":
            continue
        for site in config.space.sites:
            try:
                placements = (Placement(name, site=site),) * len(plain.placements)
                found[str(Architecture(plain.backbone, placements))] = None
            except UsageError:
                continue
            break
    return list(found)


def confirmed(results: Results) -> pd.DataFrame:
    """One row per architecture with fresh seeds: mean, 95 % interval of the true mean, probability of the front, test.

    ``role``: plain, uniform, searched or random (the first that applies); ``gap``: accuracy in the search minus the mean of
    fresh seeds, the winner's curse; ``p_front``: the probability that nothing of the same or lower cost in this table is
    truly more accurate. Empty until fresh seeds of two trainings are there.
    """
    groups = _fresh(results)
    if sum(len(values) - 1 for values in groups.values()) < 1:
        return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    frame = results.evaluations.drop_duplicates("architecture").set_index("architecture").loc[list(groups)]
    found = posterior(list(groups.values()))
    low_N, high_N = found.interval()
    costs_NM = frame[list(results.config.search.costs)].to_numpy(float)
    searched = results.summary.set_index("architecture")["accuracy"]
    before = results.random.set_index("architecture")["accuracy"]
    uniform = set(uniform_architectures(results.config))
    means = {text: float(np.mean(values)) for text, values in groups.items()}
    at_search = {text: float(searched.get(text, before.get(text, np.nan))) for text in groups}
    tests = results.evaluations[(results.evaluations["kind"] == TEST) & (results.evaluations["state"] == COMPLETE)]
    test = tests.groupby("architecture")["accuracy"]

    def role(text: str) -> str:
        if Architecture.parse(text).is_plain:
            return "plain"
        return "uniform" if text in uniform else "searched" if text in searched.index else "random"

    rows = pd.DataFrame(
        {
            "architecture": list(groups),
            "role": [role(text) for text in groups],
            "accuracy": list(means.values()),
            "low": low_N,
            "high": high_N,
            "accuracy_std": [float(np.std(v, ddof=1)) if len(v) > 1 else np.nan for v in groups.values()],
            "seeds": [len(values) for values in groups.values()],
            "p_front": front_probability(found.draws_DN, costs_NM),
            "search_accuracy": list(at_search.values()),
            "gap": [at_search[text] - means[text] for text in groups],
            "test_accuracy": [float(test.mean().get(text, np.nan)) for text in groups],
            "test_std": [float(test.std().get(text, np.nan)) for text in groups],
            **{cost: frame[cost].to_numpy() for cost in ("flops", "macs", "params", "activations", "latency")},
        }
    )
    return rows.astype(COLUMNS).sort_values(["flops", "accuracy"], ascending=[True, False], ignore_index=True)


def reported(results: Results) -> list[str]:
    """What a report names with a test accuracy: the front of the fresh means, the plain network and the uniform ones."""
    table = results.confirmed
    front = set(front_of(table, results.config.search.costs)["architecture"])
    chosen = table[table["architecture"].isin(front) | table["role"].isin(["plain", "uniform"])]
    return [str(text) for text in chosen["architecture"]]


def verdicts(results: Results) -> list[Verdict]:
    """Whether the search beat the plain network, each uniform placement and random search, and how sure that is.

    The architecture that stands for the search is the one with the best accuracy *in the search* at no more cost than the
    baseline: the fresh seeds that judge it had no part in choosing it, so the interval needs no correction.
    """
    groups = _fresh(results)
    table = results.confirmed
    if table.empty:
        return []
    draws = dict(zip(groups, posterior(list(groups.values())).draws_DN.T, strict=True))
    pool = table[table["architecture"].isin(results.summary["architecture"]) & (table["role"] != "plain")]
    found = []
    for row in table.to_dict("records"):
        if row["role"] not in ("plain", "uniform"):
            continue
        rivals = pool if row["role"] == "plain" else pool[_within(pool, row, results.config.search.costs)]
        rivals = rivals[rivals["architecture"] != row["architecture"]]
        name = "the plain backbone" if row["role"] == "plain" else f"{_type_of(row['architecture'])} at every stage"
        if rivals.empty:
            sentence = f"No confirmed architecture costs as little as {name} ({row['accuracy']:.4f}): not compared."
            found.append(Verdict(row["architecture"], sentence, np.nan, np.nan, np.nan, np.nan))
            continue
        best = rivals.sort_values("search_accuracy").iloc[-1]
        gain_D = draws[best["architecture"]] - draws[row["architecture"]]
        found.append(_verdict(row, name, best, gain_D))
    random = _against_random(results, draws)
    return found + ([random] if random else [])


def headline(results: Results, found: Sequence[Verdict]) -> str:
    """One sentence over all uniform placements; also when the search did not beat them."""
    uniform = set(results.confirmed.loc[results.confirmed["role"] == "uniform", "architecture"])
    compared = [one for one in found if one.baseline in uniform and np.isfinite(one.gain)]
    if not compared:
        return "No uniform placement was compared; run `analyze RUN --confirm 3 --baselines uniform`."
    won = [one for one in compared if one.probability > SURE]
    lost = [one for one in compared if one.probability < 1 - SURE]
    words = f"At equal or lower cost the search beats {len(won)} of {len(compared)} uniform placements (probability > {SURE})"
    words += f", loses to {len(lost)}" if lost else ""
    best = max(compared, key=lambda one: one.probability)
    return f"{words}; the clearest: {best.sentence}"


def curse(results: Results) -> tuple[float, float] | None:
    """The winner's curse: mean gap between search and fresh accuracy on the search's front, and its standard error."""
    table = results.confirmed
    gaps = table.loc[
        table["architecture"].isin(results.front["architecture"]) & (table["role"] != "plain"), "gap"
    ].dropna()
    if gaps.empty:
        return None
    return float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else float("nan")


def failures(results: Results) -> pd.DataFrame:
    """The evaluations of any kind that failed, with their reasons."""
    rows = results.evaluations
    return rows[rows["state"] == FAILED]


def _fresh(results: Results) -> dict[str, list[float]]:
    """The accuracies of fresh seeds by architecture, at the highest fidelity; an architecture that failed has none."""
    rows = results.evaluations[results.evaluations["kind"] == CONFIRM]
    rows = rows[rows["fidelity"] == rows["fidelity"].max()]
    broken = set(rows.loc[rows["state"] == FAILED, "architecture"])
    done = rows[(rows["state"] == COMPLETE) & ~rows["architecture"].isin(broken)]
    return {
        str(text): [float(a) for a in group] for text, group in done.groupby("architecture", sort=False)["accuracy"]
    }


def _within(rows: pd.DataFrame, limit: Mapping[Any, Any], costs: Sequence[str]) -> pd.Series:
    inside = pd.Series(True, index=rows.index)
    for cost in costs:
        inside &= rows[cost] <= limit[cost]
    return inside


def _verdict(row: Mapping[Any, Any], name: str, best: pd.Series, gain_D: np.ndarray) -> Verdict:
    gain, probability = float(gain_D.mean()), float((gain_D > 0).mean())
    low, high = (float(end) for end in np.quantile(gain_D, [0.025, 0.975]))
    if probability > SURE:
        words = "beats"
    elif probability < 1 - SURE:
        words = "loses to"
    else:
        words = "cannot be told apart from"
    sentence = (
        f"{best['architecture']} ({best['accuracy']:.4f}) {words} {name} ({row['accuracy']:.4f}): "
        f"{100 * gain:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}, "
        f"probability of a gain {probability:.3f}, with {best['flops'] / row['flops']:.3f}x its FLOPs."
    )
    return Verdict(row["architecture"], sentence, gain, low, high, probability)


def _against_random(results: Results, draws: dict[str, np.ndarray]) -> Verdict | None:
    """Hypervolume of the confirmed fronts of the search and of random search with as many evaluations."""
    cost = results.config.search.costs[0]
    table = results.confirmed.set_index("architecture")
    ours = [text for text in table.index if text in set(results.summary["architecture"])]
    theirs = [text for text in table.index if text in set(results.random["architecture"])]
    if not ours or not theirs:
        return None
    plain = table.index[table["role"] == "plain"]
    theirs = [*theirs, *(text for text in plain if text not in theirs)]  # both start from the plain network
    ours = [*ours, *(text for text in plain if text not in ours)]
    reference = (1.01 * float(table[cost].max()), float(table["accuracy"].min()) - 0.01)
    ours_D, theirs_D = (
        hypervolume_draws(
            np.column_stack([draws[text] for text in texts]), table.loc[texts, cost].to_numpy(float), reference
        )
        for texts in (ours, theirs)
    )
    ratio_D = ours_D / np.maximum(theirs_D, 1e-12) - 1
    probability = float((ratio_D > 0).mean())
    gain = float(np.median(ratio_D))
    low, high = (float(end) for end in np.quantile(ratio_D, [0.025, 0.975]))
    words = "more" if gain >= 0 else "less"
    sure = "" if probability > SURE or probability < 1 - SURE else "; that is not decided"
    count = int((results.evaluations["kind"] == RANDOM).sum())
    sentence = (
        f"The search's front has {abs(100 * gain):.1f} % {words} hypervolume than that of random search with {count} "
        f"evaluations (the search made {len(results.searched)}): 95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f} %, probability that it is larger {probability:.3f}{sure}."
    )
    return Verdict("random search", sentence, gain, low, high, probability)


def _type_of(text: str) -> str:
    return Architecture.parse(text).placements[0].type
