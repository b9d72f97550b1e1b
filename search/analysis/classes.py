"""How good the networks that people compare are at each class: the plain one, the one to take, and the best uniform one."""

from __future__ import annotations

from typing import Any

import pandas as pd

from search.confirmed import uniform_architectures
from search.results import Results
from spaces import Architecture


def class_table(results: Results) -> pd.DataFrame:
    """One row per class with columns ``class`` and then, of each network, ``plain``, ``searched`` and ``uniform``, its value.

    The searched one is the knee of the front of expected values, as ``export`` takes it. ``attrs`` has, by column, the
    architecture (``architectures``), and what the values are (``of``): means over fresh seeds where all of the networks have
    them, else the search's own. Empty where the run does not know of classes.
    """
    known = results.by_class
    if known.empty:
        return pd.DataFrame(columns=["class"])
    compared = {role: text for role, text in networks(results).items() if text in set(known["architecture"])}
    rows = known[known["architecture"].isin(compared.values())]
    fresh = rows.groupby("architecture")["seeds"].max().gt(0).all()
    if not fresh:  # uniform placements are trained by fresh seeds alone
        compared = {role: text for role, text in compared.items() if role != "uniform"}
    grid = rows.pivot(index="class", columns="architecture", values="fresh" if fresh else "search")
    names = [name for name in dict.fromkeys(known["class"]) if name in grid.dropna(how="all").index]
    table = pd.DataFrame({"class": names, **{role: grid[text].reindex(names).array for role, text in compared.items()}})
    table.attrs |= {"architectures": compared, "of": "the mean over fresh seeds" if fresh else "the search"}
    return table


def networks(results: Results) -> dict[str, str]:
    """The architectures that are compared, by role; the plain one where nothing else is there."""
    plain = str(Architecture.plain(results.config.space.backbone))
    found = {"plain": plain}
    if (taken := str(results.pick({})["architecture"])) != plain:
        found["searched"] = taken
    rows = results.evidence.rows
    uniform = rows[rows["architecture"].isin(set(uniform_architectures(results.config.space)) - {plain})]
    return found if uniform.empty else {**found, "uniform": str(results.evidence.best(uniform)["architecture"])}


def class_payload(results: Results) -> dict[str, Any]:
    """The table for the report: ``classes``, and for each of ``networks`` its role, architecture and ``values``.

    ``metric``: what the values are called; ``of``: where they come from. Both lists are empty where nothing is known.
    """
    table = class_table(results)
    architectures: dict[str, str] = table.attrs.get("architectures", {})
    return {
        "metric": results.metric.by_class,
        "of": table.attrs.get("of", ""),
        "classes": table["class"].tolist(),
        "networks": [
            {
                "role": role,
                "architecture": text,
                "values": [None if pd.isna(value) else round(float(value), 4) for value in table[role]],
            }
            for role, text in architectures.items()
        ],
    }
