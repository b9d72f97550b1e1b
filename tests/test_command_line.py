"""What the command line says of itself and of the machine, and how loud it is."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from attune import doctor
from attune.cli.about import config_schema
from attune.cli.main import main

ROOT = Path(__file__).parents[1]
Said = Callable[..., tuple[str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Runs the command in this process; gives what it wrote to stdout and stderr."""

    def run(*words: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", ["attune", *words])
        capsys.readouterr()
        assert main() == code
        out, err = capsys.readouterr()
        return out, err

    return run


@pytest.fixture(scope="module")
def checker() -> jsonschema.Draft202012Validator:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_schema_takes_every_configuration(path: Path, checker: jsonschema.Draft202012Validator) -> None:
    checker.validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"serch": {}},
        {"search": {"trials": "many"}},
        {"search": {"scheduler": {"name": "asha", "frist": 1}}},
        {"evaluator": {"name": "training", "seeds": 0}},
        {"training": {"optimiser": "sgd"}},
    ],
)
def test_the_schema_refuses_what_a_search_would(
    wrong: dict[str, object], checker: jsonschema.Draft202012Validator
) -> None:
    assert not checker.is_valid({"data": "digits", "space": {"backbone": "attune_tiny"}, **wrong})


def test_the_schema_is_printed(said: Said) -> None:
    assert "search" in json.loads(said("schema")[0])["properties"]


def test_doctor_says_what_is_found_and_fails_where_something_does(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ray", lambda: "ray starts")
    out, _ = said("doctor")
    assert "ok    ray         ray starts" in out
    assert "[onnx]" in out

    def refuses() -> str:
        raise RuntimeError("no\nroom")

    monkeypatch.setattr(doctor, "_ray", refuses)
    told = json.loads(said("doctor", "--json", code=1)[0])
    assert told["findings"][-1] == {"what": "ray", "found": "RuntimeError: no room", "fine": False}


@pytest.mark.slow
def test_doctor_starts_ray_as_a_search_does(ray_here: None) -> None:
    assert "starts" in doctor._ray()


def test_quiet_says_nothing_but_results_and_errors(said: Said, caplog: pytest.LogCaptureFixture) -> None:
    words = ("list", "backbones")
    assert "--json" in said(*words)[1]
    with caplog.at_level("WARNING"):  # sets the level back at the end
        out, err = said("--quiet", *words)
        assert (len(out.splitlines()) > 100, err) == (True, "")
        assert said("-q", "list", "backbone", code=2)[1].startswith("error: ")
    assert "exclude each other" in said("-q", "-v", code=2)[1]


def test_no_colour_where_none_is_wanted(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in said("list", "samplers")[0]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in said("list", "samplers")[0]
