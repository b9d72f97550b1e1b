"""Fresh seeds: which architectures deserve them, and what they say about the true accuracies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from evaluators.metric import Metric
from search.front import ACCURACY, front_of, summarise
from search.statistics import front_probability, posterior
from search.store import COMPLETE, CONFIRM, FAILED, RANDOM, SEARCH, TEST, cost_columns
from spaces.errors import UsageError
from spaces.written import is_plain

if TYPE_CHECKING:
    from search.config import SpaceConfig


def near_front(summary: pd.DataFrame, costs: Sequence[str], count: int, metric: Metric = ACCURACY) -> list[str]:
    """The architectures that deserve fresh seeds: the front, then those that lack least of the metric to it at their cost.

    ``summary`` has one row per architecture, as ``summarise`` gives it. The list holds ``count`` architectures, or more
    where the front alone is larger, or fewer where there are no more.
    """
    if summary.empty:
        return []
    values_NM = summary[list(costs)].to_numpy(float)
    score_N = metric.sign * summary[metric.name].to_numpy(float)
    affordable_NN = (values_NM[None] <= values_NM[:, None]).all(axis=2)
    lacking_N = np.where(affordable_NN, score_N[None], -np.inf).max(axis=1) - score_N
    front = set(front_of(summary, costs, metric)["architecture"])
    order = sorted(range(len(summary)), key=lambda i: (summary["architecture"].iloc[i] not in front, lacking_N[i]))
    return [str(summary["architecture"].iloc[i]) for i in order[: max(count, len(front))]]


def uniform_architectures(space: SpaceConfig) -> list[str]:
    """Each attention type of the space at all stages with its published defaults, at the space's first site that takes it.

    A type whose defaults do not fit some stage is left out.
    """
    from spaces.placement import Architecture, Placement  # with torch: whoever reads a front does without

    plain = Architecture.plain(space.backbone)
    found: dict[str, None] = {}
    for name in space.attentions:
        if name == "none":
            continue
        for site in space.sites:
            try:
                placements = (Placement(name, site=site),) * len(plain.placements)
                found[str(Architecture(plain.backbone, placements))] = None
            except UsageError:
                continue
            break
    return list(found)


def fresh_scores(evaluations: pd.DataFrame, metric: Metric = ACCURACY) -> dict[str, list[float]]:
    """The scores of fresh seeds by architecture, at the highest fidelity that fresh seeds were trained for.

    An architecture is left out as soon as one of its seeds failed.
    """
    rows = evaluations[evaluations["purpose"] == CONFIRM]
    rows = rows[rows["fidelity"] == rows["fidelity"].max()]
    broken = set(rows.loc[rows["state"] == FAILED, "architecture"])
    done = rows[(rows["state"] == COMPLETE) & ~rows["architecture"].isin(broken)]
    return {
        str(text): [float(a) for a in group] for text, group in done.groupby("architecture", sort=False)[metric.name]
    }


def confirmed(
    evaluations: pd.DataFrame, costs: Sequence[str], uniform: Collection[str] = (), metric: Metric = ACCURACY
) -> pd.DataFrame:
    """What fresh seeds say: one row per architecture that has some, by rising FLOPs.

    ``evaluations`` has one row per evaluation of any purpose, ``costs`` names the columns that the search minimises, and
    ``uniform`` holds the architectures that count as uniform placements. The result is empty until some architecture has
    two fresh seeds. Its columns, besides the costs, with METRIC for the metric's name:

    - ``role``: plain, uniform, searched or random; the first that applies.
    - METRIC, ``METRIC_std``, ``seeds``: mean, sample deviation and number of the fresh seeds.
    - ``low``, ``high``: the 95 % interval of the true mean.
    - ``p_front``: the probability that nothing in this table of the same or lower cost is truly better.
    - ``search_METRIC``, ``gap``: the score in the search, and how much better that is than the mean of fresh seeds
      (the winner's curse).
    - ``test_METRIC``, ``test_std``: mean and deviation on the test split.
    """
    name, sign = metric.name, metric.sign
    groups = fresh_scores(evaluations, metric)
    known = cost_columns(evaluations, name)
    if sum(len(values) - 1 for values in groups.values()) < 1:
        words = {"architecture": "string", "role": "string"}
        numbers = [name, "low", "high", f"{name}_std", "p_front", f"search_{name}", "gap", f"test_{name}", "test_std"]
        types = {**words, **dict.fromkeys(numbers, "float64"), "seeds": "int64"}
        types |= {cost: str(evaluations[cost].dtype) for cost in known}
        return pd.DataFrame(columns=list(types)).astype(types)
    frame = evaluations.drop_duplicates("architecture").set_index("architecture").loc[list(groups)]
    found = posterior(list(groups.values()))
    low_N, high_N = found.interval()
    searched, before = (
        summarise(evaluations[evaluations["purpose"] == purpose], metric).set_index("architecture")[name]
        for purpose in (SEARCH, RANDOM)
    )
    means = {text: float(np.mean(values)) for text, values in groups.items()}
    at_search = {text: float(searched.get(text, before.get(text, np.nan))) for text in groups}
    tests = evaluations[(evaluations["purpose"] == TEST) & (evaluations["state"] == COMPLETE)]
    test = tests.groupby("architecture")[name]
    test_mean, test_std = test.mean(), test.std()

    def role(text: str) -> str:
        if is_plain(text):
            return "plain"
        return "uniform" if text in uniform else "searched" if text in searched.index else "random"

    rows = pd.DataFrame(
        {
            "architecture": list(groups),
            "role": [role(text) for text in groups],
            name: list(means.values()),
            "low": low_N,
            "high": high_N,
            f"{name}_std": [float(np.std(v, ddof=1)) if len(v) > 1 else np.nan for v in groups.values()],
            "seeds": [len(values) for values in groups.values()],
            "p_front": front_probability(sign * found.draws_DN, frame[list(costs)].to_numpy(float)),
            f"search_{name}": list(at_search.values()),
            "gap": [sign * (at_search[text] - means[text]) for text in groups],
            f"test_{name}": [float(test_mean.get(text, np.nan)) for text in groups],
            "test_std": [float(test_std.get(text, np.nan)) for text in groups],
            **{cost: frame[cost].to_numpy() for cost in known},
        }
    ).astype({"architecture": "string", "role": "string"})
    return rows.sort_values(["flops", name], ascending=[True, sign < 0], ignore_index=True)
