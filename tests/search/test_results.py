"""Reading a run: its DataFrames, and what a budget picks."""

from pathlib import Path

import pandas as pd

from search import load
from search.store import COMPLETE


def test_a_pick_has_the_best_expected_value_among_all_that_was_trained(known_run: Path) -> None:
    results = load(known_run)
    rows = results.evidence.rows
    trained = results.evaluations[results.evaluations["state"] == COMPLETE]
    assert set(rows["architecture"]) == set(trained["architecture"])
    assert len(rows) > len(results.summary)  # baselines too
    assert results.pick({"flops": "9x"})["expected"] == rows["expected"].max()
    for limit in sorted(rows["flops"]):
        inside = rows[rows["flops"] <= limit]
        assert results.pick({"flops": int(limit)})["expected"] == inside["expected"].max()
    picks = {results.pick({"flops": int(limit)})["architecture"] for limit in rows["flops"]}
    assert picks == set(results.evidence.staircase("flops"))


def test_loading_gives_data_frames(known_run: Path) -> None:
    results = load(known_run)
    for frame in (results.evaluations, results.front, results.attribution, results.confirmed):
        assert isinstance(frame, pd.DataFrame)
        assert len(frame)
    assert (results.searched["state"] == COMPLETE).sum() == 39
