"""What a report says in words, on the page and in a terminal: a verdict in one sentence, and the findings in four groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from search.analysis.attribution import Attribution
from search.analysis.verdicts import Verdict, curse, headline, named
from search.command import command
from search.confirmed import uniform_architectures
from search.evidence import EXPECTED, HIGH, LOW, SURE
from search.front import ranked
from search.results import Results

TAKE, BOUGHT, UNTOLD, NEXT = (
    "What to take",
    "What attention bought, and where",
    "What could not be told",
    "What to run next",
)
Findings = dict[str, tuple[str, ...]]


def verdict(results: Results, compared: Sequence[Verdict]) -> tuple[str, str]:
    """What to take, in one sentence, and what that is worth beside the usual placements, in another."""
    taken, metric = results.pick({}), results.metric
    text, rows = str(taken["architecture"]), results.evidence.rows
    score = f"{metric.told(taken[EXPECTED])} ({metric.interval(taken[LOW], taken[HIGH])})"
    plain = rows[rows["architecture"] == results.plain]
    if text == results.plain:
        first = f"Keep the plain network: {score}; of all that was trained, nothing gains enough for what it costs."
    elif plain.empty:
        first = f"{named(text)}: {metric.name} {score} is expected."
    else:
        base = plain.iloc[0]
        times = f"{_times(taken['flops'] / base['flops'])} the FLOPs"
        sure = results.evidence.probability(text, str(results.plain))
        there = f"the plain network has {metric.told(base[EXPECTED])}"
        first = (
            f"At {times}, {named(text)} is expected to reach {score}, where {there}."
            if sure > SURE
            else f"At {times}, {named(text)} may be better, which cannot be told yet: {score} expected, where {there}."
        )
    return first, _beside_usual(results, compared, taken)


def _beside_usual(results: Results, compared: Sequence[Verdict], taken: pd.Series) -> str:
    text, usual = str(taken["architecture"]), uniform_architectures(results.config.space)
    if text in usual and text != results.plain:
        words = f"{_first_up(named(text))} is a usual placement: nothing else that was trained is expected to be worth more."
    else:
        words = headline(results, compared).partition("; the clearest")[0].rstrip(".") + "."
    rival = results.evidence.rival(dict(taken), results.minimised)
    if rival is not None:
        sure_of = results.evidence.probability(text, rival)
        words += f" {rival} costs less and is within the noise: it is worse with a probability of {sure_of:.2f}."
    return words


def findings(results: Results, compared: Sequence[Verdict], attribution: Attribution) -> Findings:
    """The findings by group: every number says whether it is a score of the search, a mean of fresh seeds, or expected."""
    top = headline(results, compared)
    decided = [one.sentence for one in compared if one.decided and one.sentence not in top]
    undecided: dict[str, list[str]] = {}
    for one in compared:
        if not one.decided and one.short:
            undecided.setdefault(one.judged, []).append(one.short)
    alike = [f"{judged} cannot be told apart from {'; '.join(names)}." for judged, names in undecided.items()]
    alike += [one.sentence for one in compared if not one.decided and not one.short]
    bought = [one for one in attribution.sentences if one not in attribution.undecided]
    untold = [one for one in attribution.sentences if one in attribution.undecided]
    return {
        TAKE: (*_take(results), top, *decided, *_trust(results)),
        BOUGHT: tuple(bought),
        UNTOLD: (*alike, *untold),
        NEXT: tuple(_next(results)),
    }


def _take(results: Results) -> list[str]:
    front, metric = results.front, results.metric
    best, taken = ranked(front, metric).iloc[0], results.pick({})
    seeds = f"mean of {best['seeds']} seeds" if best["seeds"] > 1 else "one seed"
    return [
        f"Without a limit, take {taken['architecture']} (the knee: what costs more gains less): {results.reason(taken)}.",
        f"By its own scores the search's front holds {len(front)} architectures; the best, {best['architecture']}, reached "
        f"{metric.name} {metric.told(best[metric.name])} in the search ({seeds}) with {best['flops']:,} FLOPs.",
    ]


def _trust(results: Results) -> list[str]:
    """How far the search's own scores can be trusted, and what the test split says."""
    metric, words = results.metric, []
    gap = curse(results)
    if gap is not None:
        error = f" ± {metric.scale * gap[1]:.1f}" if np.isfinite(gap[1]) else ""
        words.append(
            f"Winner's curse: on the front the search's own scores are {metric.difference(gap[0])}{error} {metric.step} "
            "better than the means of fresh seeds."
        )
    test_name = f"test_{metric.name}"
    test = results.confirmed.dropna(subset=[test_name])
    chosen = ranked(test[test["role"] != "uniform"], metric)
    if len(chosen):
        row = chosen.iloc[0]
        plain = "".join(
            f"; the plain backbone {metric.told(value)}" for value in test.loc[test["role"] == "plain", test_name]
        )
        words.append(
            f"Test {metric.name}, measured once: {row['architecture']} {metric.told(row[test_name])}, mean of {row['seeds']} "
            f"fresh seeds{plain}."
        )
    return words


def _next(results: Results) -> list[str]:
    """The commands that follow from what is known and what is not."""
    taken, words = results.pick({}), []
    row = str(taken["architecture"])
    if results.confirmed.empty:
        way = command("analyze", results.folder, "--confirm", 3)
        words.append(f"Train the front and the usual placements with fresh seeds: {way}")
    elif taken[HIGH] - taken[LOW] > 4 / results.metric.scale or not taken["fresh_seeds"]:
        more = 2 * max(3, int(taken["fresh_seeds"]))
        way = command("analyze", results.folder, "--confirm", more)
        words.append(f"More fresh seeds narrow the interval of {row}: {way}")
    trials = 2 * max(1, len(results.searched))
    words.append(f"Search on: {command('search', '--resume', results.folder, '--set', f'search.trials={trials}')}")
    words.append(f"Export what is recommended: {command('export', results.folder, '--to', 'best')}")
    return words


def _times(ratio: float) -> str:
    """1.046×, 1.21×, 5.7×, 16×."""
    digits = 3 if ratio < 1.1 else 2 if ratio < 2 else 1 if ratio < 10 else 0
    return f"{ratio:.{digits}f}×"


def _first_up(words: str) -> str:
    return words[:1].upper() + words[1:]


def all_sentences(found: Findings) -> tuple[str, ...]:
    """The findings without their groups."""
    return tuple(sentence for sentences in found.values() for sentence in sentences)
