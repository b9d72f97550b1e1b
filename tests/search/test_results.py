"""Reading a run: its DataFrames, and what a budget picks."""

import json
import subprocess
import sys
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


def test_the_recommended_front_is_what_a_limit_can_pick(known_run: Path) -> None:
    """One function chooses: the rows of `front` are those that `pick` takes under the limits between them."""
    results = load(known_run)
    front = results.recommended()
    assert [results.pick({"flops": int(cost)})["architecture"] for cost in front["flops"]] == [*front["architecture"]]
    assert results.pick({})["architecture"] in set(front["architecture"])
    assert front["expected"].is_monotonic_increasing
    some = int(front["flops"].iloc[1])
    assert results.recommended({"flops": some})["architecture"].tolist() == front["architecture"].tolist()[:2]
    raw = results.summary.set_index("architecture")["accuracy"]
    for row in front.to_dict("records"):
        assert pd.isna(row["search_accuracy"]) or row["search_accuracy"] == raw[row["architecture"]]
        assert row["seeds"] == row["search_seeds"] + row["fresh_seeds"] + row["random_seeds"]
    results.write_front()
    assert pd.read_csv(known_run / "front.csv")["architecture"].tolist() == front["architecture"].tolist()


def test_a_front_is_read_without_what_builds_networks(known_run: Path) -> None:
    """`front` answers within two seconds: torch alone takes longer to import."""
    program = (
        "import sys, run_search; sys.argv = ['run_search.py', 'front', sys.argv[1], '--max', 'flops=1.05x', '--json']; "
        "code = run_search.main(); "
        "heavy = {'torch', 'timm', 'torchvision', 'ray', 'optuna', 'sqlalchemy', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(known_run)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert rows == json.loads(
        load(known_run).recommended({"flops": "1.05x"}).to_json(orient="records", double_precision=15)
    )
