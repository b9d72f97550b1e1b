"""Fresh seeds against the search's own word: their table, and which architectures get some."""

from pathlib import Path

import numpy as np
import pandas as pd

from search import load
from search.confirmed import near_front
from tests.search.conftest import truth


def test_the_confirmed_table_holds_the_truth(known_run: Path) -> None:
    table = load(known_run).confirmed
    assert (table["seeds"] == 4).all()
    assert set(table["role"]) == {"plain", "uniform", "searched"}
    true = table["architecture"].map(truth)
    assert ((table["low"] <= true) & (true <= table["high"])).mean() > 0.8
    assert table["p_front"].between(0, 1).all()
    assert table.loc[table["role"] == "plain", "p_front"].item() == 1.0  # nothing is cheaper
    searched = table[table["role"] == "searched"]
    assert np.allclose(searched["gap"], searched["search_accuracy"] - searched["accuracy"])


def test_the_front_comes_first_and_then_what_lacks_least() -> None:
    summary = pd.DataFrame({"architecture": list("abcd"), "flops": [1, 2, 3, 4], "accuracy": [0.5, 0.8, 0.1, 0.79]})
    assert near_front(summary, ["flops"], 3) == ["a", "b", "d"]
    assert near_front(summary, ["flops"], 1) == ["a", "b"]
