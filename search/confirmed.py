"""Fresh seeds: which architectures deserve them, and what they say about the true accuracies."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from search.config import SpaceConfig
from search.statistics import front_probability, posterior
from search.store import COMPLETE, CONFIRM, FAILED, RANDOM, SEARCH, TEST, front_of, summarise
from spaces import Architecture, Placement
from spaces.errors import UsageError

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


def near_front(summary: pd.DataFrame, costs: Sequence[str], count: int) -> list[str]:
    """The architectures that deserve fresh seeds: the front, then those that lack least accuracy to it at their cost.

    ``summary`` has one row per architecture, as ``summarise`` gives it. The list holds ``count`` architectures, or more
    where the front alone is larger, or fewer where there are no more.
    """
    if summary.empty:
        return []
    values_NM = summary[list(costs)].to_numpy(float)
    accuracy_N = summary["accuracy"].to_numpy(float)
    affordable_NN = (values_NM[None] <= values_NM[:, None]).all(axis=2)
    lacking_N = np.where(affordable_NN, accuracy_N[None], -np.inf).max(axis=1) - accuracy_N
    front = set(front_of(summary, tuple(costs))["architecture"])
    order = sorted(range(len(summary)), key=lambda i: (summary["architecture"].iloc[i] not in front, lacking_N[i]))
    return [str(summary["architecture"].iloc[i]) for i in order[: max(count, len(front))]]


def uniform_architectures(space: SpaceConfig) -> list[str]:
    """Each attention type of the space at all stages with its published defaults, at the space's first site that takes it.

    A type whose defaults do not fit some stage is left out.
    """
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


def fresh_accuracies(evaluations: pd.DataFrame) -> dict[str, list[float]]:
    """The accuracies of fresh seeds by architecture, at the highest fidelity that fresh seeds were trained for.

    An architecture is left out as soon as one of its seeds failed.
    """
    rows = evaluations[evaluations["kind"] == CONFIRM]
    rows = rows[rows["fidelity"] == rows["fidelity"].max()]
    broken = set(rows.loc[rows["state"] == FAILED, "architecture"])
    done = rows[(rows["state"] == COMPLETE) & ~rows["architecture"].isin(broken)]
    return {
        str(text): [float(a) for a in group] for text, group in done.groupby("architecture", sort=False)["accuracy"]
    }


def confirmed(evaluations: pd.DataFrame, costs: Sequence[str], uniform: Collection[str] = ()) -> pd.DataFrame:
    """What fresh seeds say: one row per architecture that has some, by rising FLOPs.

    ``evaluations`` has one row per evaluation of any kind, ``costs`` names the columns that the search minimises, and
    ``uniform`` holds the architectures that count as uniform placements. The result is empty until some architecture has
    two fresh seeds. Its columns, besides the costs:

    - ``role``: plain, uniform, searched or random; the first that applies.
    - ``accuracy``, ``accuracy_std``, ``seeds``: mean, sample deviation and number of the fresh seeds.
    - ``low``, ``high``: the 95 % interval of the true mean.
    - ``p_front``: the probability that nothing in this table of the same or lower cost is truly more accurate.
    - ``search_accuracy``, ``gap``: the accuracy in the search, and how much that is above the mean of fresh seeds
      (the winner's curse).
    - ``test_accuracy``, ``test_std``: mean and deviation on the test split.
    """
    groups = fresh_accuracies(evaluations)
    if sum(len(values) - 1 for values in groups.values()) < 1:
        return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    frame = evaluations.drop_duplicates("architecture").set_index("architecture").loc[list(groups)]
    found = posterior(list(groups.values()))
    low_N, high_N = found.interval()
    searched, before = (
        summarise(evaluations[evaluations["kind"] == kind]).set_index("architecture")["accuracy"]
        for kind in (SEARCH, RANDOM)
    )
    means = {text: float(np.mean(values)) for text, values in groups.items()}
    at_search = {text: float(searched.get(text, before.get(text, np.nan))) for text in groups}
    tests = evaluations[(evaluations["kind"] == TEST) & (evaluations["state"] == COMPLETE)]
    test = tests.groupby("architecture")["accuracy"]
    test_mean, test_std = test.mean(), test.std()

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
            "p_front": front_probability(found.draws_DN, frame[list(costs)].to_numpy(float)),
            "search_accuracy": list(at_search.values()),
            "gap": [at_search[text] - means[text] for text in groups],
            "test_accuracy": [float(test_mean.get(text, np.nan)) for text in groups],
            "test_std": [float(test_std.get(text, np.nan)) for text in groups],
            **{cost: frame[cost].to_numpy() for cost in ("flops", "macs", "params", "activations", "latency")},
        }
    )
    return rows.astype(COLUMNS).sort_values(["flops", "accuracy"], ascending=[True, False], ignore_index=True)
