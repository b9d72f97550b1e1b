"""Whatever a user hands in ends in one line: a property over configurations, overrides, architectures and damaged runs.

ATTUNE_EXAMPLES: how many examples each property gets (a few in CI; 2,000 or 20,000 by hand: a few minutes to an hour).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run_search
from evaluators.latency import LatencyTable, Setting
from search import runner
from search.build import create_evaluator, create_problem, read_tables
from search.config import dump_config, load_config, validate
from search.reuse import adopt
from search.runner import _describe, open_study
from search.schedulers._asha import DominationASHA
from search.schedulers.rungs import Rungs
from search.store import Evaluation, Store
from spaces import Architecture, NetworkSpec
from spaces.errors import UsageError

ROOT = Path(__file__).parents[1]
EXAMPLES = int(os.environ.get("ATTUNE_EXAMPLES", "25"))
SECONDS = 10.0  # of CPU: beside other work the clock says nothing, and what waits for ever is noticed without
many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SMALL = {
    "data": {"name": "digits"},
    "space": {"backbone": "attune_tiny", "attentions": ["none", "se"], "reductions": [4, 16], "sites": ["slot"]},
    "training": {"preset": "short", "epochs": 1, "lr": 0.1},
    "evaluator": {"name": "training", "seeds": 1},
    "search": {"trials": 8, "costs": ["flops"], "budget": {"flops": "1.5x", "params": 100000}, "scheduler": "none"},
    "resources": {"cpus": 1, "memory": "2G"},
}
odd_numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30, 10**400, True, 1e308, 1e-320])
)
odd_texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", " ", "\n", "\0", "310X", "1e999999999", "9" * 5000, "../x", "/", "~", "none", "{{ 7 }}", "\u2028"]
    ),
    st.sampled_from(
        ["'", '"', "\\", "a" * 5000, "module:os:path", "module:", "module:a:b:c", ".inf", "-0", "1:30", "010"]
    ),
)
odd = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_numbers, odd_texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_texts, inner, max_size=3)),
    max_leaves=4,
)


def paths(value: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The keys of every value below a mapping."""
    found = [(*before, key) for key in value]
    return found + [path for key, one in value.items() if isinstance(one, dict) for path in paths(one, (*before, key))]


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """A configuration that works, with one to three values replaced, removed or added."""
    config = json.loads(json.dumps(SMALL))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(paths(SMALL))))
        node = config
        for key in path[:-1]:
            node = node.get(key) if isinstance(node.get(key), dict) else {}
        change = draw(st.sampled_from(["replace", "replace", "wrap", "remove", "add"]))
        if change == "replace":
            node[path[-1]] = draw(odd)
        elif change == "wrap" and path[-1] in node:
            node[path[-1]] = [node[path[-1]]]
        elif change == "remove":
            node.pop(path[-1], None)
        else:
            node[draw(odd_texts)] = draw(odd)
    return config


def outcome(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    """The exit code and stderr of the command line in this process, which may take SECONDS."""
    before, here = sys.argv, Path.cwd()
    sys.argv = ["run_search.py", *args]
    capsys.readouterr()
    started = time.process_time()
    try:
        os.chdir(ROOT)
        code = run_search.main()
    finally:
        sys.argv = before
        os.chdir(here)
    took = time.process_time() - started
    assert took < SECONDS, f"{took:.1f} s: {args}"
    return code, capsys.readouterr().err


def check_outcome(code: int, err: str) -> None:
    lines = [line for line in err.splitlines() if line.startswith(("error:", "failed:"))]
    assert code in (0, 1, 2)
    assert len(lines) == (code != 0), err
    assert "Traceback" not in err
    assert all(len(line) < 2000 for line in lines), err


@many
@given(config=configurations())
def test_any_configuration_is_counted_or_refused_in_one_line(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    try:
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    except ValueError:  # an integer that has no text
        path.write_text(repr(10**400))
    check_outcome(*outcome(capsys, "space", str(path), "--json"))


@many
@given(content=st.one_of(st.binary(max_size=200), st.text(alphabet="{}[]&*!|>-:,?#'\"%@`\t\n \\ab01~.<", max_size=60)))
def test_any_bytes_are_no_configuration_in_one_line(
    content: bytes | str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    code, err = outcome(capsys, "space", str(path))
    check_outcome(code, err)
    assert code == 2


@many
@given(
    key=st.one_of(st.sampled_from([".".join(path) for path in paths(SMALL)]), odd_texts),
    value=st.one_of(odd_texts, st.text(alphabet="{}[]&*!|>:,'\"ab01~.- ", max_size=20), odd.map(repr)),
    equals=st.sampled_from(["=", "=", "=", "", "=="]),
)
def test_any_override_is_taken_or_refused_in_one_line(key: str, value: str, equals: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    started = time.process_time()
    message = ""
    try:
        load_config(path, [f"{key}{equals}{value}"])
    except UsageError as error:
        message = str(error)
    assert len(message) < 2000
    assert time.process_time() - started < SECONDS


WORDS = (
    "none",
    "se",
    "cbam",
    "eca",
    "se+cbam",
    "-r4",
    "-k7",
    "-g2",
    "-r0",
    "-r" + "9" * 30,
    "-parallel",
    "@slot",
    "@stage",
)


@many
@given(
    backbone=st.one_of(st.sampled_from(["attune_tiny", "resnet18", "timm:resnet18", "module:os:path"]), odd_texts),
    placements=st.one_of(
        st.lists(st.lists(st.sampled_from(WORDS), max_size=4).map("".join), max_size=5).map(",".join), odd_texts
    ),
    colon=st.sampled_from([":", ":", ":", "", "::"]),
    options=st.sampled_from(
        [[], ["--image-size", "0"], ["--image-size", "9" * 30], ["--classes", "9" * 12], ["--channels", "7"]]
    ),
)
def test_any_architecture_is_counted_or_refused_in_one_line(
    backbone: str, placements: str, colon: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    check_outcome(*outcome(capsys, "cost", *options, "--json", "--", f"{backbone}{colon}{placements}"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with all of its four evaluations, made without training."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    config = validate({**SMALL, "search": {**SMALL["search"], "trials": 4}}, "it")
    evaluator = create_evaluator(config)
    problem = create_problem(config, evaluator)
    rng = np.random.default_rng(0)
    with Store(folder, metric=evaluator.metric.name, identity=evaluator.identity) as store:
        for number, words in enumerate(
            ("none,none,none", "se-r4@slot,none,none", "none,se-r4@slot,none", "none,none,se-r4@slot")
        ):
            arch = f"attune_tiny:{words}"
            costs = problem.cost(Architecture.parse(arch))
            score = float(rng.random())
            store.add(Evaluation(arch, 1, 0, "complete", "", score, costs, 1.0, float(number), evaluator.identity))
        _describe(config, problem, evaluator, folder)
    (folder / "reused.json").write_text(json.dumps({"evaluations": 0, "runs": []}))
    (folder / "searched.json").write_text(json.dumps({"seconds": 12.5}))
    return folder


DAMAGED = (
    *("config.yaml", "data.json", "run.json", "reused.json", "searched.json"),
    *("evaluations.jsonl", "evaluations.parquet"),
)


@many
@given(
    verb=st.sampled_from([["front", "--json"], ["search", "--resume"]]),
    name=st.sampled_from(DAMAGED),
    damage=st.sampled_from(["cut", "remove", "replace", "flip", "folder", "empty"]),
    where=st.floats(0, 1),
    content=st.one_of(
        st.binary(max_size=60), st.sampled_from([b"null", b"[]", b"{}", b"5", b'{"metric": 5}', b"\0" * 40])
    ),
)
def test_any_damaged_run_is_read_resumed_or_refused_in_one_line(
    verb: list[str],
    name: str,
    damage: str,
    where: float,
    content: bytes,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runner, "_fit", lambda *_: None)  # what is left to do where evaluations were lost: Ray's part
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(finished, folder)
    file = folder / name
    before = file.read_bytes()
    at = int(where * (len(before) - 1))
    if damage in ("remove", "folder"):
        file.unlink()
        if damage == "folder":
            file.mkdir()
    else:
        changed = {
            "cut": before[:at],
            "replace": content,
            "empty": b"",
            "flip": before[:at] + content + before[at + 1 :],
        }
        file.write_bytes(changed[damage])
    code, err = outcome(capsys, *verb, str(folder))
    if code == 130 and "search" in verb:  # evaluations were lost, and Ray's part did not make them again
        assert "--resume" in err
    else:
        check_outcome(code, err)


@many
@given(where=st.floats(0, 1), content=st.binary(max_size=60), cut=st.booleans())
def test_any_damaged_study_is_opened_anew(where: float, content: bytes, cut: bool, tmp_path: Path) -> None:
    """The journal holds the truth; what a study cannot tell any more is put aside."""
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    file = tmp_path / "study.db"
    optuna.create_study(study_name="it", storage=open_study(file)).enqueue_trial({"x": 1})
    before = file.read_bytes()
    at = int(where * (len(before) - 1))
    file.write_bytes(before[:at] + content + (b"" if cut else before[at + len(content) :]))
    started = time.process_time()
    study = optuna.create_study(study_name="it", storage=open_study(file), load_if_exists=True)
    study.ask()
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize(
    ("name", "verb"),
    [("run.json", "front"), ("data.json", "analyze"), ("latency.json", "analyze"), ("run.json", "resume")],
)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"metric": {"na',
        b"[]",
        b"\xff",
        b"[" * 10000,
        b'{"metric": 5, "a": "b"}',
        b'{"meaning": {"code": 3}, "num_classes": "x", "in_chans": 1, "image_size": 16}',
        b"folder",
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    name: str, verb: str, content: bytes, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(finished, folder)
    (folder / "config.yaml").write_text(dump_config(validate(SMALL, "it")))
    (folder / name).unlink(missing_ok=True)
    if content == b"folder":
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(content)
    code, err = outcome(capsys, *(["search", "--resume"] if verb == "resume" else [verb]), str(folder))
    check_outcome(code, err)
    assert code == 2
    assert f"{folder / name} cannot be read: " in err


def test_a_damaged_file_of_a_run_that_goes_on_is_named(tmp_path: Path) -> None:
    for name in ("latency_table.json", "reused.json", "asha.jsonl"):
        for content in (b"", b"[]", b'{"evaluations": "x"}', b"\xff", b'{"plan"'):
            (tmp_path / name).write_bytes(content + b"\n")
    with pytest.raises(UsageError, match=r"latency_table.json cannot be read: .*new run"):
        read_tables(tmp_path)
    with Store(tmp_path) as store, pytest.raises(UsageError, match=r"reused.json cannot be read: .*remove it"):
        adopt([], store, None, identity="", fidelity=1, seeds=[0], weights=False)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"asha.jsonl cannot be read: .*remove it"):
        DominationASHA(Rungs(9), journal=tmp_path / "asha.jsonl")
    network = NetworkSpec.classifier(16, 10)
    described = {"backbone": "attune_tiny", **{k: v for k, v in network.to_dict().items() if k != "identity_start"}}
    whole = {
        "network": described,
        "setting": asdict(Setting()),
        "machine": "it",
        "plain": 5,
        "factor": 1.0,
        "shares": {},
    }
    assert LatencyTable("attune_tiny", network, known=whole).base.tolist() == [5]
    for key, value in (
        *{"plain": "x", "factor": None, "shares": [1], "setting": 3, "network": None}.items(),
        *[("plain", 0), ("plain", -5), ("factor", float("nan")), ("factor", 100.0), ("shares", {"1 se": float("inf")})],
    ):
        with pytest.raises(UsageError, match=r"damaged|another network"):
            LatencyTable("attune_tiny", network, known={**whole, key: value})
    with pytest.raises(UsageError, match="damaged"):
        LatencyTable("attune_tiny", network, known={})


def test_a_search_is_no_longer_without_the_list_of_what_it_reused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the search evaluated by itself is not taken for reused, so that as much would be searched again."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "reused.json").unlink()
    assert outcome(capsys, "search", "--resume", str(folder))[0] == 0
    assert json.loads((folder / "reused.json").read_text())["evaluations"] == 0


BROUGHT = """

from torch import nn

def none(**_): return None
def wrong(a, b, c): return None
def raises(*_, **__): raise KeyError("in here")
def exits(*_, **__): raise SystemExit(3)
def __getattr__(name): raise RuntimeError("odd") if name == "odd" else AttributeError(name)

class Deaf(nn.Module):
    def __init__(self, num_classes, in_chans): super().__init__()
    def forward(self, x): raise KeyError("forward")
"""


@pytest.mark.parametrize("key", ["space.backbone", "evaluator", "task", "search.sampler", "search.scheduler"])
def test_what_a_user_brings_is_refused_in_one_line(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "of_a_user.py").write_text(BROUGHT)
    (tmp_path / "leaving.py").write_text("raise SystemExit('bye')")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(SMALL))
    for name, words in {
        "os:path": "is a module, neither a function nor a class",
        "os:": "not of the form",
        "builtins:nope": "has no 'nope'",
        "of_a_user:wrong": "missing a required argument",
        "of_a_user:odd": "RuntimeError: odd (of_a_user.py, line 9)",
        "leaving:x": "SystemExit: bye (leaving.py, line 1)",
        **(
            {}
            if key == "evaluator"  # which is called in trials only
            else {
                "of_a_user:none": "too many" if key == "search.sampler" else "NoneType",
                "of_a_user:raises": "raised KeyError: 'in here' (of_a_user.py, line 7)",
                "of_a_user:exits": "raised SystemExit: 3",
            }
        ),
        **({"of_a_user:Deaf": "KeyError: 'forward'"} if key == "space.backbone" else {}),
    }.items():
        given = f"{key}='module:{name}'"
        code, err = outcome(capsys, "check", str(config), "--set", given, "--run", str(tmp_path / "run"))
        check_outcome(code, err)
        assert code == 2, name
        assert words in err, (name, err)


LONG = "a" * 5000


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["cost", f"{LONG}:none"], "list backbones"),
        (["cost", f"module:{LONG}:x:none"], "No module named"),
        (["cost", f"attune_tiny:se-r{'9' * 5000},none,none"], "expected none or TYPE"),
        (["cost", "attune_tiny:se-r999999999,none,none"], "from 1 to 1,000,000"),
        (["cost", f"attune_tiny:se@block/{'9' * 5000},none,none"], "block/N"),
        (["cost", f"attune_tiny:{'se,' * 3000}se"], "3 stages"),
        (["cost", "attune_tiny:none,none,none", "--image-size", "9" * 5000], "180x240"),
        (["cost", "attune_tiny:none,none,none", "--plugin", LONG], "No module named"),
        (["export", "attune_tiny:none,none,none", "--to", LONG], "give another folder"),
        (["export", LONG, "--to", "x"], "not a run directory"),
        (["search", "--run", LONG], "give another folder"),
        (["list", LONG], "'schedulers'"),
    ],
)
def test_a_long_text_is_quoted_in_part(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = outcome(capsys, *args)
    check_outcome(code, err)
    assert code == 2
    assert words in err
    assert len(err) < 1200
