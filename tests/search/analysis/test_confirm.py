"""Training with fresh seeds after a real search, and its test accuracy in the export."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import ray
import yaml
from safetensors.torch import save_file

import run_search
from evaluators.training import TrainingEvaluator
from search import load
from search.analysis.confirm import Crew, Job, confirm, has_test
from search.build import create_problem, create_trainer
from search.cluster import ray_session
from search.config import dump_config, load_run_config
from search.confirmed import uniform_architectures
from search.store import COMPLETE, CONFIRM, TEST, Store, read_journal
from search.trainable import TrialResult, weights_path
from spaces import Architecture
from spaces.errors import UsageError
from tests.evaluators.data.pictures import picture
from tests.search.conftest import CONFIG


@pytest.mark.usefixtures("ray_here")
def test_a_broken_test_image_is_known_before_anything_is_trained(
    tmp_path: Path, run_maker: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """One line names it; once it is mended, what failed with it is measured."""
    for split in ("train", "test"):
        for label in range(10):
            for index in range(2):
                file = tmp_path / "digits" / split / str(label) / f"{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture(10 * index + label, (16, 16), "L").save(file)
    whole = file.read_bytes()
    file.write_bytes(whole[:50])
    folder = run_maker(tmp_path / "run", count=3)
    results = load(folder)
    config = results.config.model_copy(update={"data": f"folder:{tmp_path / 'digits'}"})
    (folder / "config.yaml").write_text(dump_config(config))
    before = (folder / "evaluations.jsonl").read_bytes()
    with pytest.raises(UsageError, match=f"^corrupt image {file}"):
        confirm(folder, 2)
    assert (folder / "evaluations.jsonl").read_bytes() == before

    file.write_bytes(whole)
    results = load(folder)
    evaluator = create_trainer(results.config)
    assert isinstance(evaluator, TrainingEvaluator)
    assert has_test(evaluator)
    plain = Architecture.parse("attune_tiny:none,none,none")
    weights = weights_path(folder / "weights", plain, 1000)
    assert weights is not None
    weights.parent.mkdir()
    save_file(evaluator.build(plain).state_dict(), weights)
    problem = create_problem(results.config, evaluator, folder)
    with (
        Store(folder, CONFIRM) as store,
        ray_session(results.config),
        Crew(results, evaluator, problem, store) as crew,
    ):
        job = Job(CONFIRM, str(plain), crew.fidelity, 1000, weights)
        store.add(crew._evaluation(job, TrialResult(COMPLETE, "", 0.5)))
        store.add(crew._evaluation(replace(job, purpose=TEST), TrialResult.failure(f"corrupt image {file}")))
        crew.test([str(plain)])
    assert crew._idle, "and they are referred to"
    until = time.monotonic() + 30
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < until, "its workers keep their cores, and the next search would wait for ever"
        time.sleep(0.1)
    tested = [one for one in read_journal(folder) if one.purpose == TEST]
    assert [one.state for one in tested] == [COMPLETE]
    assert tested[0].score == evaluator.test(plain, weights)["accuracy"]

    shutil.rmtree(tmp_path / "digits" / "test")
    assert not has_test(create_trainer(results.config))
    assert "has no test split: no test accuracy is measured" in caplog.text


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_confirming_a_real_run_survives_being_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "small.yaml"
    training = {"preset": "short", "epochs": 1, "batch_size": 64}
    search = {"trials": 3, "sampler": "random"}
    space = {**CONFIG["space"], "attentions": ["none", "se"]}  # type: ignore[dict-item]
    resources = {"concurrency": 1}
    settings = {"data": "digits", "space": space, "training": training, "search": search, "resources": resources}
    config.write_text(yaml.safe_dump(settings))

    def run(*args: object) -> str:
        monkeypatch.setattr(sys, "argv", ["run_search.py", *map(str, args)])
        capsys.readouterr()
        assert run_search.main() == 0
        return capsys.readouterr().out

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
