"""Training with fresh seeds after a real search, and its test accuracy in the export."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from search.config import load_run_config
from search.confirmed import uniform_architectures
from tests.search.conftest import CONFIG

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_confirming_a_real_run_survives_being_asked_twice(tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    training = {"preset": "short", "epochs": 1, "batch_size": 64}
    search = {"trials": 3, "sampler": "random"}
    space = {**CONFIG["space"], "attentions": ["none", "se"]}  # type: ignore[dict-item]
    resources = {"concurrency": 1}
    settings = {"data": "digits", "space": space, "training": training, "search": search, "resources": resources}
    config.write_text(yaml.safe_dump(settings))

    def run(*args: object) -> str:
        done = subprocess.run(
            [sys.executable, ROOT / "run_search.py", *map(str, args)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    folder = tmp_path / "run"
    run("search", config, "--run", folder)
    report = json.loads(run("analyze", folder, "--confirm", 2, "--baselines", "uniform,random", "--json"))
    rows = pd.read_parquet(folder / "evaluations.parquet")
    kinds = rows["purpose"].value_counts()
    assert kinds["search"] == kinds["random"] == 3
    assert (rows[rows["purpose"] == "confirm"].groupby("architecture")["seed"].nunique() == 2).all()
    assert set(rows.loc[rows["purpose"] == "test", "seed"]) <= set(rows.loc[rows["purpose"] == "confirm", "seed"])
    uniform = uniform_architectures(load_run_config(folder).space)
    assert {"attune_tiny:none,none,none", *uniform} <= set(rows.loc[rows["purpose"] == "test", "architecture"])
    assert any("random search" in sentence for sentence in report["sentences"])

    run("analyze", folder, "--confirm", 2, "--baselines", "uniform,random")
    assert len(pd.read_parquet(folder / "evaluations.parquet")) == len(rows)
    exported = json.loads(run("export", folder, "--to", tmp_path / "best", "--format", "hf", "--json"))
    assert [one["difference"] for one in exported["checks"]] == [0.0]
    card = (tmp_path / "best" / "README.md").read_text()
    assert "fresh seeds" in card
    assert "test" in card
