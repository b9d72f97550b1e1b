"""Whether the search beat the baselines, and how optimistic its own accuracies were: what fresh seeds say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from evaluators.metric import Metric
from search.command import command
from search.confirmed import fresh_scores
from search.evidence import SURE
from search.front import ranked
from search.results import Results
from search.statistics import hypervolume_draws, posterior
from search.store import FAILED, RANDOM
from spaces.written import placements_of

MANY = 200  # seeds of each: more are not worth naming


@dataclass(frozen=True)
class Verdict:
    """One comparison in words, with its numbers: the gain in the metric (or hypervolume), its interval and probability.

    ``judged``: what stands for the search in it, with its score; ``short``: the comparison without that, where it is undecided.
    """

    baseline: str
    sentence: str
    gain: float
    low: float
    high: float
    probability: float
    judged: str = ""
    short: str = ""

    @property
    def decided(self) -> bool:
        """Whether it is sure enough who is better."""
        return self.probability > SURE or self.probability < 1 - SURE

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def verdicts(results: Results) -> list[Verdict]:
    """Whether the search beat the plain network, each uniform placement and random search, and how sure that is.

    The architecture that stands for the search is the one with the best score *in the search* at no more cost than the
    baseline: the fresh seeds that judge it had no part in choosing it, so the interval needs no correction.
    """
    metric = results.metric
    groups = fresh_scores(results.evaluations, metric)
    table = results.confirmed
    if table.empty:
        return []
    draws = dict(zip(groups, posterior(list(groups.values())).draws_DN.T, strict=True))
    pool = table[table["architecture"].isin(results.summary["architecture"]) & (table["role"] != "plain")]
    found = []
    for row in table.to_dict("records"):
        if row["role"] not in ("plain", "uniform"):
            continue
        rivals = pool if row["role"] == "plain" else pool[_within(pool, row, results.minimised)]
        rivals = rivals[rivals["architecture"] != row["architecture"]]
        name = "the plain backbone" if row["role"] == "plain" else named(row["architecture"])
        if rivals.empty:
            mean = metric.told(row[metric.name])
            sentence = (
                f"Nothing else with fresh seeds costs as little as {name} ({mean}, of {row['seeds']}): not compared."
            )
            found.append(Verdict(row["architecture"], sentence, np.nan, np.nan, np.nan, np.nan))
            continue
        best = ranked(rivals, metric, f"search_{metric.name}").iloc[0]
        gain_D = metric.sign * (draws[best["architecture"]] - draws[row["architecture"]])
        found.append(_verdict(row, name, best, gain_D, metric))
    random = _against_random(results, draws)
    return found + ([random] if random else [])


def headline(results: Results, found: Sequence[Verdict]) -> str:
    """One sentence over all uniform placements; also when the search did not beat them."""
    uniform = set(results.confirmed.loc[results.confirmed["role"] == "uniform", "architecture"])
    compared = [one for one in found if one.baseline in uniform and np.isfinite(one.gain)]
    if not compared:
        way = command("analyze", results.folder, "--confirm", 3, "--baselines", "uniform")
        return f"No uniform placement was compared; `{way}` does so."
    won = [one for one in compared if one.probability > SURE]
    lost = [one for one in compared if one.probability < 1 - SURE]
    words = f"At equal or lower cost the search beats {len(won)} of {len(compared)} uniform placements (probability > {SURE})"
    words += f", loses to {len(lost)}" if lost else ""
    words += "" if len(won) + len(lost) == len(compared) else "; the others cannot be told apart"
    return words + (f"; the clearest: {max(won, key=lambda one: one.gain).sentence}" if won else ".")


def curse(results: Results) -> tuple[float, float] | None:
    """The winner's curse: mean gap between search and fresh seeds on the search's front, and its standard error."""
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


def _within(rows: pd.DataFrame, limit: Mapping[Any, Any], costs: Sequence[str]) -> pd.Series:
    inside = pd.Series(True, index=rows.index)
    for cost in costs:
        inside &= rows[cost] <= limit[cost]
    return inside


def _verdict(row: Mapping[Any, Any], name: str, best: pd.Series, gain_D: np.ndarray, metric: Metric) -> Verdict:
    gain, probability = float(gain_D.mean()), float((gain_D > 0).mean())
    low, high = (float(end) for end in np.quantile(gain_D, [0.025, 0.975]))
    if probability > SURE:
        words = "beats"
    elif probability < 1 - SURE:
        words = "loses to"
    else:
        words = "cannot be told apart from"
    sentence = (
        f"{best['architecture']} {words} {name}: {metric.told(best[metric.name])} (mean of {best['seeds']} fresh seeds) "
        "against "
        f"{metric.told(row[metric.name])} (of {row['seeds']}), {metric.difference(gain)} {metric.step} (95 % interval "
        f"{metric.difference(low)} to {metric.difference(high)}), probability of a gain {probability:.3f}, with "
        f"{best['flops'] / row['flops']:.3f}x its FLOPs"
    )
    found = Verdict(row["architecture"], sentence + ".", gain, low, high, probability)
    if found.decided:
        return found
    seeds = max(best["seeds"], row["seeds"]) * ((high - low) / 2 / max(abs(gain), 1e-12)) ** 2
    more = f"about {int(np.ceil(seeds))}" if seeds < MANY else f"more than {MANY}"
    judged = f"{best['architecture']} ({metric.told(best[metric.name])}, mean of {best['seeds']} fresh seeds)"
    short = (
        f"{name} ({metric.told(row[metric.name])} of {row['seeds']}; {metric.difference(low)} to {metric.difference(high)} "
        f"{metric.step}; {more} fresh seeds of each would tell)"
    )
    return replace(found, sentence=f"{sentence}; {more} fresh seeds of each would tell.", judged=judged, short=short)


def _against_random(results: Results, draws: dict[str, np.ndarray]) -> Verdict | None:
    """Hypervolume of the confirmed fronts of the search and of random search with as many evaluations."""
    cost = results.minimised[0]
    table = results.confirmed.set_index("architecture")
    ours = [text for text in table.index if text in set(results.summary["architecture"])]
    theirs = [text for text in table.index if text in set(results.random["architecture"])]
    if not ours or not theirs:
        return None
    plain = table.index[table["role"] == "plain"]
    theirs = [*theirs, *(text for text in plain if text not in theirs)]  # both start from the plain network
    ours = [*ours, *(text for text in plain if text not in ours)]
    metric = results.metric
    worst = float((metric.sign * table[metric.name]).min())
    reference = (1.01 * float(table[cost].max()), worst - 1 / metric.scale)
    ours_D, theirs_D = (
        hypervolume_draws(
            metric.sign * np.column_stack([draws[text] for text in texts]),
            table.loc[texts, cost].to_numpy(float),
            reference,
        )
        for texts in (ours, theirs)
    )
    ratio_D = ours_D / np.maximum(theirs_D, 1e-12) - 1
    probability = float((ratio_D > 0).mean())
    gain = float(np.median(ratio_D))
    low, high = (float(end) for end in np.quantile(ratio_D, [0.025, 0.975]))
    words = "more" if gain >= 0 else "less"
    sure = "" if probability > SURE or probability < 1 - SURE else "; that is not decided"
    count = int((results.evaluations["purpose"] == RANDOM).sum())
    sentence = (
        f"The search's front has {abs(100 * gain):.1f} % {words} hypervolume than that of random search with {count} "
        f"evaluations (the search made {len(results.searched)}): 95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f} %, probability that it is larger {probability:.3f}{sure}."
    )
    return Verdict("random search", sentence, gain, low, high, probability)


def named(text: str) -> str:
    """An architecture in a few words, for a sentence: its types of attention, or that it has one at every stage, or none."""
    placements = placements_of(text)
    types = list(dict.fromkeys(one.type for one in placements if not one.is_none))
    if not types:
        return "the plain network"
    if len(types) == 1:
        return f"{spoken(types[0])} at {'some stages' if any(one.is_none for one in placements) else 'every stage'}"
    return f"a mix of {', '.join(map(spoken, types[:-1]))} and {spoken(types[-1])}"


def spoken(kind: str) -> str:
    """A type of attention as people write it: ECA, double attention."""
    return kind.upper() if len(kind) <= 4 else kind.replace("_", " ")
