"""The sentences at the top of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.analysis.verdicts import Verdict, curse, headline
from search.results import Results


def findings(results: Results, compared: Sequence[Verdict]) -> tuple[str, ...]:
    """The sentences at the top: what was found, whether it beat the baselines, and how optimistic the search was."""
    front = results.front
    best = front.sort_values("accuracy").iloc[-1]
    words = [
        f"The search's front holds {len(front)} architectures; the most accurate, {best['architecture']}, reached "
        f"{best['accuracy']:.4f} in the search with {best['flops']:,} FLOPs."
    ]
    words.append(headline(results, compared))
    words += [one.sentence for one in compared if one.sentence not in words[-1]]
    gap = curse(results)
    if gap is not None:
        error = f" ± {100 * gap[1]:.1f}" if np.isfinite(gap[1]) else ""
        words.append(
            f"Winner's curse: on the front the search's accuracies lie {100 * gap[0]:+.1f}{error} points above those of "
            "fresh seeds."
        )
    test = results.confirmed.dropna(subset=["test_accuracy"])
    chosen = test[test["role"] != "uniform"].sort_values("accuracy")
    if len(chosen):
        row = chosen.iloc[-1]
        words.append(
            f"Test accuracy, measured once: {row['architecture']} {row['test_accuracy']:.4f} over {row['seeds']} seeds"
            + "".join(
                f"; the plain backbone {value:.4f}" for value in test.loc[test["role"] == "plain", "test_accuracy"]
            )
            + "."
        )
    return tuple(words)
