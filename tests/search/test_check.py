"""`check`: what a search will read and take, and what would fail later, before anything is written."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import run_search
from search.build import create_evaluator, data_summary
from search.check import chance, check, spell
from search.config import validate
from search.store import Store
from tests.evaluators.data.pictures import picture

BASE: dict[str, Any] = {
    "name": "checked",
    "data": {"name": "digits", "image_size": 12},
    "space": {"backbone": "attune_tiny", "attentions": ["none", "se", "eca"], "reductions": [4]},
    "training": {"epochs": 3, "batch_size": 64, "crop": 0},
    "search": {"trials": 9, "budget": {"flops": "1.03x"}},
    "resources": {"concurrency": 1},
}


def merged(**sections: Any) -> dict[str, Any]:
    """BASE with single keys of its sections replaced."""
    found = json.loads(json.dumps(BASE))
    for name, values in sections.items():
        found[name] = {**found.get(name, {}), **values} if isinstance(values, dict) else values
    return found


def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["run_search.py", *map(str, args)])
    capsys.readouterr()
    code = run_search.main()
    return code, *capsys.readouterr()


def test_a_configuration_is_told_in_full_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(BASE))
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(capsys, monkeypatch, "check", "small.yaml", "--run", "run", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert list(found) == ["data", "space", "estimate", "warnings"]
    data, estimate = found["data"], found["estimate"]
    assert sum(data["classes"].values()) == data["splits"]["train"] + data["splits"]["val"]
    assert (len(data["classes"]), data["channels"], data["size"], data["skipped"]) == (10, 1, [12, 12], {})
    assert 1 < found["space"]["feasible"] < found["space"]["size"]
    trials = min(9, found["space"]["feasible"])
    assert (estimate["trials"], estimate["concurrency"]) == (trials, 1)
    assert 0.01 < estimate["seconds"] < 60
    assert 10e6 < estimate["memory"] < 10e9
    assert estimate["search_seconds"] > trials * estimate["seconds"]
    code, out, _ = cli(capsys, monkeypatch, "check", "small.yaml", "--run", "run")
    lines = out.splitlines()
    assert any(line.startswith("splits: train ") for line in lines)
    assert any(line.startswith("one trial: about ") for line in lines)
    assert any(line.startswith("search: about ") and line.endswith(f"for {trials} trials, 1 at once") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_the_estimate_grows_with_what_is_trained() -> None:
    space = {"attentions": ["none"]}
    short = check(validate(merged(training={"epochs": 2}, space=space), "test"))
    long = check(
        validate(merged(training={"epochs": 40}, space=space, evaluator={"name": "training", "seeds": 3}), "test")
    )
    assert short.estimate is not None
    assert long.estimate is not None
    assert long.estimate.seconds > 10 * short.estimate.seconds
    assert long.estimate.memory == short.estimate.memory


def test_what_the_data_call_for_is_a_warning(tmp_path: Path) -> None:
    for name, count in (("rare", 6), ("many", 40)):
        for index in range(count):
            file = tmp_path / "train" / name / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(index).save(file)
    found = check(validate(merged(data=f"folder:{tmp_path}", space={"attentions": ["none"]}), "test"))
    assert any(text.startswith("classes are uneven (many 40, rare 6)") for text in found.warnings)
    assert any("one of them is" in text for text in found.warnings)
    assert found.to_dict()["warnings"] == list(found.warnings)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"training": {"optimizer": "adamn"}}, ["optimizer", "adamn", "adamw"]),
        ({"training": {"weights": "/nowhere.pth"}}, ["training.weights", "/nowhere.pth", "pretrained"]),
        ({"search": {"sampler": "module:nowhere:Sampler"}}, ["nowhere"]),
        ({"search": {"sampler": "best"}}, ["best", "known_cost"]),
        ({"search": {"latency": {"device": "tpu"}}}, ["tpu", "cuda"]),
        ({"search": {"budget": {"flops": "0.5x"}}}, ["flops", "plain backbone"]),
        ({"search": {"scheduler": {"name": "domination_asha", "first": 99}}}, ["99"]),
        ({"space": {"backbone": "attune_tyni"}}, ["attune_tyni", "attune_tiny"]),
        ({"ray": {"storage": "nothing://x"}}, ["ray.storage", "nothing"]),
        ({"ray": {"address": "127.0.0.1:1"}}, ["ray.address", "127.0.0.1:1"]),
        ({"reuse": ["nowhere"]}, ["nowhere"]),
        ({"data": {"name": "digits", "image_size": 0}}, ["image_size", "0"]),
        ({"training": {"lr": 1000, "optimizer": "sgd", "clip": None, "momentum": 0.99}}, ["plain network"]),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_what_would_fail_later_fails_now_in_one_line(
    sections: dict[str, Any],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(merged(**sections)))
    code, out, err = cli(capsys, monkeypatch, "check", tmp_path / "config.yaml", "--run", tmp_path / "run")
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert not (tmp_path / "run").exists()


def test_a_folder_below_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(BASE))
    code, _, err = cli(capsys, monkeypatch, "check", tmp_path / "small.yaml", "--run", tmp_path / "small.yaml" / "run")
    assert code == 2
    assert "is a file" in err


def test_a_search_refuses_the_same_before_its_folder_exists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "other", metric="accuracy", identity="x"):
        pass
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(merged(reuse=[str(tmp_path / "other")])))
    code, _, err = cli(capsys, monkeypatch, "search", tmp_path / "config.yaml", "--run", tmp_path / "run")
    assert code == 2
    assert "is not a run directory" in err
    assert not (tmp_path / "run").exists()


def test_accuracies_at_chance_level_are_told() -> None:
    evaluator = create_evaluator(validate(BASE, "test"))
    summary = data_summary(evaluator)
    assert summary is not None
    share, images = max(summary.classes.values()) / sum(summary.classes.values()), summary.splits["val"]
    said = chance(evaluator, [share, share - 0.02])
    assert f"the best is {share:.4f} on {images} images" in said
    assert not chance(evaluator, [share, share + 2 / math.sqrt(images)])
    assert not chance(evaluator, [])


def test_seconds_are_told_in_a_unit_that_fits() -> None:
    assert [spell(seconds) for seconds in (0.32, 42, 200, 7200)] == ["0.3 s", "42 s", "3 min", "2.0 h"]
