"""The command line from outside: real processes, real Ray, real trainings, exit codes and what lies in the run directory."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pandas as pd
import pytest
import yaml

import run_search
from attune.cli.networks import Listed
from search import load

ROOT = Path(__file__).parents[1]

SMALL = {
    "data": "digits",
    "space": {"backbone": "attune_tiny", "attentions": ["none", "se", "eca", "cbam"], "reductions": [4, 16]},
    "training": {"preset": "short", "epochs": 1, "batch_size": 64},
    "search": {"trials": 6, "sampler": "random"},
    "resources": {"concurrency": 1},  # every worker imports torch and timm anew
}


def start(*args: object, **kwargs: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "run_search.py"), *map(str, args)]
    pipes: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kwargs
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload]


def run(*args: object, code: int = 0) -> tuple[str, str]:
    process = start(*args)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, f"exit code {process.returncode}, not {code}\n{out}\n{err}"
    return out, err


Here = Callable[..., tuple[str, str]]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """The same as ``run`` in this process, which has imported torch and timm already."""

    def run_here(*args: object, code: int = 0) -> tuple[str, str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["run_search.py", *map(str, args)])
        capsys.readouterr()
        found = run_search.main()
        out, err = capsys.readouterr()
        assert found == code, f"exit code {found}, not {code}\n{out}\n{err}"
        return out, err

    return run_here


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def dashboard_parameters(database: Path) -> set[str]:
    """The names of parameters that optuna-dashboard shows for the study of a run."""
    import optuna
    from optuna_dashboard import wsgi

    environ: dict[str, object] = {"PATH_INFO": "/api/studies/1", "CONTENT_TYPE": "application/json"}
    setup_testing_defaults(environ)
    app = wsgi(optuna.storages.RDBStorage(f"sqlite:///{database}"))
    study = json.loads(b"".join(app(environ, lambda status, headers, error=None: None)))
    return {param["name"] for trial in study["trials"] for param in trial["params"]}


def asked_first(database: Path) -> str:
    """The architecture of the first trial of a run's study."""
    import optuna

    study = optuna.load_study(study_name=None, storage=f"sqlite:///{database}")
    return str(study.trials[0].user_attrs["architecture"])


@pytest.mark.slow
def test_a_search_leaves_a_front_that_can_be_read_analysed_and_exported(
    config: Path, tmp_path: Path, here: Here
) -> None:
    folder = tmp_path / "run"
    out, _ = run(
        "search",
        config,
        "--run",
        folder,
        "--set",
        "search.budget.flops=1.2x",
        "--set",
        "loggers=[tensorboard]",
        "--set",
        "resources.concurrency=2",
        "--json",
    )
    front = json.loads(out)["front"]
    assert len(list((folder / "ray").rglob("events.out.tfevents.*"))) >= 1
    assert {"stage1.type", "stage2.type", "stage3.type"} <= dashboard_parameters(folder / "study.db")
    frame = pd.read_parquet(folder / "evaluations.parquet")
    assert len(frame) == 6
    assert frame["architecture"].is_unique
    assert asked_first(folder / "study.db") == "attune_tiny:none,none,none"  # of two at once, either may end first
    assert set(frame["state"]) == {"complete"}
    assert frame["accuracy"].between(0, 1).all()
    assert (frame["flops"] <= 1.2 * frame["flops"].min()).all()
    for name in ("config.yaml", "front.csv", "study.db"):
        assert (folder / name).exists()
    assert list(pd.read_csv(folder / "front.csv")["architecture"]) == [row["architecture"] for row in front]
    assert {"architecture", "accuracy", "accuracy_std", "seeds", "flops", "macs", "params"} <= set(front[0])

    out, _ = here("front", folder, "--json")
    assert json.loads(out) == front
    cheapest = front[0]
    out, _ = here("front", folder, "--max", f"flops={cheapest['flops']}", "--json")
    assert json.loads(out) == [cheapest]
    out, _ = here("cost", cheapest["architecture"], "--image-size", 32, "--classes", 10, "--channels", 1, "--json")
    assert json.loads(out)["uncounted_ops"] == []

    out, _ = here("analyze", folder)
    assert Path(out.strip()).read_text().lstrip().lower().startswith("<!doctype html>")
    out, _ = here("export", folder, "--max", "flops=1.2x", "--to", tmp_path / "best", "--json")
    exported = json.loads(out)
    assert exported["reason"].startswith("expected accuracy ")
    spec = json.loads((tmp_path / "best" / "architecture.json").read_text())
    assert spec["architecture"] == exported["architecture"]
    best = load(folder).pick({"flops": "1.2x"})["architecture"]
    if (
        best != exported["architecture"]
    ):  # the best expected one is not on the front of the search, whose weights are kept
        assert f"{best} is expected to be better, but its weights were not kept" in exported["reason"]
    assert (tmp_path / "best" / "weights.safetensors").stat().st_size > 1000

    _, err = here("search", config, "--run", folder, code=2)
    assert "--resume" in err


@pytest.mark.matrix
@pytest.mark.slow
def test_a_search_for_low_latency(config: Path, tmp_path: Path, here: Here) -> None:
    folder = tmp_path / "run"
    options = ["--set", "search.costs=[latency]", "--set", "search.trials=2", "--set", "search.latency.batch=2"]
    out, _ = here("search", config, "--run", folder, *options, "--json")
    front = json.loads(out)["front"]
    table = json.loads((folder / "latency_table.json").read_text())
    assert table["setting"]["batch"] == 2
    rows = pd.read_parquet(folder / "evaluations.parquet")
    assert table["plain"] > 0
    assert rows["latency"].notna().all()
    assert [row["latency"] for row in front] == sorted(row["latency"] for row in front)
    out, _ = here("front", folder, "--max", "latency=1s", "--json")
    assert json.loads(out) == front
    here("analyze", folder)
    kept = (folder / "latency_table.json").read_text()
    here("search", "--resume", folder)  # finished as it is: reads its table, and measures nothing
    assert (folder / "latency_table.json").read_text() == kept


@pytest.mark.matrix
@pytest.mark.slow
def test_a_trial_that_cannot_fit_is_refused_and_recorded(config: Path, tmp_path: Path, here: Here) -> None:
    folder = tmp_path / "run"
    options = ["--set", "resources.memory=1M", "--set", "search.trials=1"]
    _, err = here("search", config, "--run", folder, *options, code=1)
    assert "all 1 evaluations failed" in err
    rows = pd.read_parquet(folder / "evaluations.parquet")
    assert set(rows["state"]) == {"failed"}
    assert rows["reason"].str.fullmatch(r"not started: .* needs about [0-9,]+ MiB, but there are 1 MiB").all()


def test_the_cost_within_a_configuration(here: Here) -> None:
    """Classes, channels and size are those of its data, unless they are given; a backbone alone is the plain one."""
    options = ("cost", "attune_tiny", "--config", "configs/default.yaml", "--json")
    read = json.loads(here(*options)[0])
    assert read["architecture"] == "attune_tiny:none,none,none"
    given = ("cost", "attune_tiny", "--image-size", 32, "--classes", 10, "--channels", 1, "--json")
    assert json.loads(here(*given)[0]) == read
    other = json.loads(here(*options, "--classes", 7, "--channels", 3)[0])
    assert other["params"] == read["params"] - 3 * 65 + 2 * 4 * 16
    _, err = here("cost", "attune_tiny", "--set", "seed=1", code=2)
    assert "valid: with --config FILE" in err


def test_the_cost_of_the_contract(here: Here) -> None:
    out, _ = here("cost", "resnet50:none,none,none,none", "--json")
    cost = json.loads(out)
    assert cost["params"] == 25557032
    assert cost["architecture"] == "resnet50:none,none,none,none"
    assert [stage["placement"] for stage in cost["stages"]] == ["none"] * 4


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["cost", "resnet50:sse,none,none,none"], ["sse", "valid"]),
        (["cost"], ["architecture"]),
        (["list", "nothing"], ["nothing", "backbones"]),
        (["search", "nope.yaml"], ["nope.yaml", "configs"]),
        (["search", "--set", "search.trails=3"], ["trails", "trials"]),
        (["search", "--set", "search.sampler=best"], ["best", "tpe"]),
        (["search", "--set", "data=nothing"], ["nothing", "digits"]),
        (["search", "--set", "search.budget.flops=0.5x"], ["plain backbone"]),
        (["space", "--set", "search.budget.flops=1k"], ["flops <= 1k", "the plain backbone alone needs"]),
        (["search", "--set", "search.budget.latency=12"], ["12", "12ms"]),
        (["search", "--set", "resources.memory=lots"], ["resources.memory", "lots", "1.5G"]),
        (["front", "nowhere"], ["nowhere"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_and_exit_code_2(args: list[str], words: list[str], tmp_path: Path, here: Here) -> None:
    args = [*args, "--run", str(tmp_path / "run")] if args[0] == "search" else args
    _, err = here(*args, code=2)
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    for word in words:
        assert word in lines[0]


def test_a_mistake_in_a_process_of_its_own_is_one_line_and_exit_code_2() -> None:
    _, err = run("serch", code=2)
    assert err.count("\n") == 1
    assert "serch" in err


def test_the_space_is_counted_before_anything_is_trained(config: Path, here: Here) -> None:
    out, _ = here("space", config, "--set", "search.budget.flops=1.02x", "--json")
    space = json.loads(out)
    assert space["size"] == 6**3
    assert 1 <= space["feasible"] < space["size"]
    assert space["limits"]["flops"] == int(1.02 * space["costs"]["flops"]["plain"])
    assert space["costs"]["flops"]["least"] == space["costs"]["flops"]["plain"] < space["costs"]["flops"]["most"]


@pytest.mark.parametrize("what", [one.value for one in Listed if one.value != "backbones"])
def test_lists_are_json(what: str, here: Here) -> None:
    out, _ = here("list", what, "--json")
    rows = json.loads(out)
    assert rows
    assert all(row["name"] for row in rows)
