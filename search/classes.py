"""How good architectures are at each class, over the seeds that were trained of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from search.store import COMPLETE, CONFIRM, SEARCH, TEST, Evaluation

COLUMNS = ("architecture", "class", "search", "fresh", "fresh_std", "seeds", "test")


def by_class(evaluations: Sequence[Evaluation], order: Sequence[str] = ()) -> pd.DataFrame:
    """One row per architecture and class; empty where no evaluation tells of classes. ``order``: of the classes.

    ``search``, ``fresh`` and ``test``: the means over the seeds of the search, over fresh seeds, and over these on the test
    split, each at its highest fidelity; NaN for none. ``fresh_std``: the sample deviation over the ``seeds`` fresh ones.
    """
    values = {purpose: _values(evaluations, purpose) for purpose in (SEARCH, CONFIRM, TEST)}
    keys = dict.fromkeys(key for found in values.values() for key in found)
    rows = [
        {
            "architecture": key[0],
            "class": key[1],
            "search": _mean(values[SEARCH].get(key, ())),
            "fresh": _mean(fresh := values[CONFIRM].get(key, ())),
            "fresh_std": float(np.std(fresh, ddof=1)) if len(fresh) > 1 else np.nan,
            "seeds": len(fresh),
            "test": _mean(values[TEST].get(key, ())),
        }
        for key in keys
    ]
    place = {name: index for index, name in enumerate(order)}
    rows.sort(key=lambda row: place.get(str(row["class"]), len(place)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _values(evaluations: Iterable[Evaluation], purpose: str) -> dict[tuple[str, str], list[float]]:
    """By architecture and class, the values of the complete evaluations of one purpose at its highest fidelity."""
    done = [one for one in evaluations if one.purpose == purpose and one.state == COMPLETE]
    most = max((one.fidelity for one in done), default=0)
    found: dict[tuple[str, str], list[float]] = {}
    for one in done:
        for name, value in one.by_class.items() if one.fidelity == most else ():
            found.setdefault((one.architecture, name), []).append(value)
    return found


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan
