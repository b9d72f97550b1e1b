"""The sentences at the top of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.analysis.verdicts import Verdict, curse, headline
from search.front import ranked
from search.results import Results


def findings(results: Results, compared: Sequence[Verdict]) -> tuple[str, ...]:
    """The sentences at the top: what was found, whether it beat the baselines, and how optimistic the search was."""
    front, metric = results.front, results.metric
    name, test_name = metric.name, f"test_{metric.name}"
    best = ranked(front, metric).iloc[0]
    taken = results.pick({})
    words = [
        f"Without a limit, take {taken['architecture']} (the knee: what costs more gains less): {results.reason(taken)}.",
        f"The search's front holds {len(front)} architectures; the best, {best['architecture']}, reached {name} "
        f"{best[name]:.4f} in the search with {best['flops']:,} FLOPs.",
    ]
    words.append(headline(results, compared))
    words += [one.sentence for one in compared if one.sentence not in words[-1]]
    gap = curse(results)
    if gap is not None:
        error = f" ± {metric.scale * gap[1]:.1f}" if np.isfinite(gap[1]) else ""
        words.append(
            f"Winner's curse: on the front the search's own scores are {metric.difference(gap[0])}{error} {metric.step} "
            "better than those of fresh seeds."
        )
    test = results.confirmed.dropna(subset=[test_name])
    chosen = ranked(test[test["role"] != "uniform"], metric)
    if len(chosen):
        row = chosen.iloc[0]
        words.append(
            f"Test {name}, measured once: {row['architecture']} {row[test_name]:.4f} over {row['seeds']} seeds"
            + "".join(f"; the plain backbone {value:.4f}" for value in test.loc[test["role"] == "plain", test_name])
            + "."
        )
    return tuple(words)
