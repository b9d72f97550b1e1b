"""Reading a run: its DataFrames, and what a budget picks."""

from pathlib import Path

import pandas as pd

from search import load
from search.store import COMPLETE


def test_a_pick_prefers_the_means_of_fresh_seeds(known_run: Path) -> None:
    results = load(known_run)
    picked = results.pick({"flops": "9x"})
    table = results.confirmed
    both = table[table["architecture"].isin(results.summary["architecture"])]
    assert picked["accuracy"] == both["accuracy"].max()


def test_loading_gives_data_frames(known_run: Path) -> None:
    results = load(known_run)
    for frame in (results.evaluations, results.front, results.attribution, results.confirmed):
        assert isinstance(frame, pd.DataFrame)
        assert len(frame)
    assert (results.searched["state"] == COMPLETE).sum() == 39
