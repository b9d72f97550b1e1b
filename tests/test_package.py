"""The distribution: what is in the wheel, and that it works in an empty folder beside nothing but its requirements."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("attune", "spaces", "evaluators", "search")
SHIPPED = {".py", ".jinja", ".css", ".js", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves its own files beside the sources, with the setuptools that is here."""
    source = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(source),
        str(source),
    ]
    subprocess.run(pip, check=True)
    return next(source.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-compile",
        "--target",
        str(folder),
        str(wheel),
    ]
    subprocess.run(pip, check=True)
    return folder


Installed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def installed(site: Path, tmp_path: Path) -> Installed:
    """Runs the installed command, or ``python -c``, in an empty folder."""

    def run(*words: str, code: int = 0, python: str | None = None) -> subprocess.CompletedProcess[str]:
        given = ["-c", python] if python else [str(site / "bin" / "attune"), *words]
        environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *given], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def test_the_wheel_holds_all_that_the_packages_and_the_commands_need(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.suffix in SHIPPED]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names
    assert {f"search/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")} <= names
    assert {f"{name}/py.typed" for name in PACKAGES} <= names
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, "attune-0.1.0.dist-info"}, (
        "nothing else at the top"
    )
    assert wheel.stat().st_size < 2_000_000


def test_every_extra_that_code_names_is_one_of_the_distribution(site: Path) -> None:
    from spaces.extras import EXTRAS

    found = Distribution.at(next(site.glob("attune-*.dist-info"))).metadata
    assert {*EXTRAS, "all", "dev"} <= set(found.get_all("Provides-Extra") or [])


def test_the_command_answers_at_once_in_an_empty_folder(installed: Installed) -> None:
    installed("--help")  # compiles
    started = time.perf_counter()
    assert "search" in installed("--help").stdout
    assert time.perf_counter() - started < 4, "about a third of a second on an idle machine; this one may be busy"
    told = json.loads(
        installed(
            python="import sys, json, attune, spaces; import attune.cli.main; print(json.dumps([*sys.modules]))"
        ).stdout
    )
    assert not {"torch", "timm", "ray", "pandas"} & set(told), "what takes seconds is not imported for help"
    assert installed("--version").stdout.startswith("attune 0.1.0 (Python 3.")
    error = installed("list", "nonsense", code=2).stderr
    assert error.count("\n") == 1
    assert "(see attune --help)" in error


def test_the_configurations_come_along(installed: Installed, site: Path, tmp_path: Path) -> None:
    code = "from pathlib import Path; from search.shipped import find_config; print(find_config(Path('configs/default.yaml')))"
    assert Path(installed(python=code).stdout.strip()) == site / "search" / "configs" / "default.yaml"
    own = tmp_path / "configs" / "default.yaml"
    own.parent.mkdir()
    own.write_text("")
    assert installed(python=code).stdout.strip() == "configs/default.yaml", "a file of one's own comes first"


def test_a_package_that_stands_in_front_is_named(installed: Installed, tmp_path: Path, site: Path) -> None:
    (tmp_path / "search.py").write_text("")
    for code in ("import attune\nattune.Architecture", "import runpy; runpy.run_module('attune', run_name='__main__')"):
        error = installed(python=code, code=1 if "runpy" not in code else 2).stderr.strip().splitlines()[-1]
        assert f"another 'search' ({tmp_path / 'search.py'})" in error
        assert str(site / "search") in error


def test_a_missing_extra_is_named_in_one_line(installed: Installed) -> None:
    blocked = (
        "import sys; sys.modules['matplotlib'] = None; sys.argv = ['attune', 'analyze', 'nowhere']\n"
        "from attune.__main__ import main; sys.exit(main())"
    )
    error = installed(python=blocked, code=2).stderr
    assert error.count("\n") == 1
    assert (
        'the report needs matplotlib, which is not installed: the extra attune[report]; pip install "attune[report]"'
        in error
    )


def test_a_format_whose_packages_are_missing_is_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from search.export import export
    from spaces.extras import MissingExtra

    monkeypatch.setattr("spaces.extras.find_spec", lambda package: None if package == "onnxruntime" else package)
    with pytest.raises(MissingExtra, match=r"--format onnx needs onnxruntime, .* the extra attune\[onnx\]"):
        export("attune_tiny:none,none,none", to="never", formats=["onnx"])
