"""Plug-ins: things by name, and how users bring their own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spaces.errors import UsageError
from spaces.plugins import Registry, bring, is_brought, load_plugins, source_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, from which modules come; what a test imports is forgotten after it."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_registry_knows_names_and_refuses_others() -> None:
    fruits: Registry[int] = Registry("fruit")
    assert fruits.register("apple", 1) == 1
    fruits.register("pear", 2)
    fruits.register("apple", 1)  # a module may be imported by two names
    with pytest.raises(ValueError, match="fruit 'apple' is registered already"):
        fruits.register("apple", 3)
    assert fruits["pear"] == 2
    assert (list(fruits), fruits.items()) == (["apple", "pear"], [("apple", 1), ("pear", 2)])
    assert "apple" in fruits
    assert "plum" not in fruits
    with pytest.raises(UsageError, match=r"^unknown fruit 'aple' \(did you mean 'apple'\?\); valid: apple, pear$"):
        fruits["aple"]


def test_the_files_of_a_package_register_what_they_hold_when_a_name_is_asked_for(folder: Path) -> None:
    (folder / "orchard").mkdir()
    (folder / "orchard" / "__init__.py").write_text(
        "from spaces.plugins import Registry\nFRUITS = Registry('fruit', 'orchard')\n"
    )
    (folder / "orchard" / "apple.py").write_text(
        "from orchard import FRUITS\nassert 'plum' not in FRUITS\nFRUITS.register('apple', 1)\n"
    )
    (folder / "orchard" / "pear.py").write_text("from orchard import FRUITS\nFRUITS.register('pear', 2)\n")
    (folder / "orchard" / "_worm.py").write_text("raise RuntimeError('nobody asked for this file')\n")
    fruits = bring("module:orchard:FRUITS", "fruits")
    assert "orchard.apple" not in sys.modules
    assert list(fruits) == ["apple", "pear"]
    assert "orchard._worm" not in sys.modules


def test_every_registry_of_this_project_is_found() -> None:
    from evaluators.base import EVALUATORS
    from evaluators.tasks.base import TASKS

    assert {"training", "supernet", "proxy", "table"} <= set(EVALUATORS)
    assert "classification" in TASKS


def test_a_name_brings_an_object_of_the_current_folder(folder: Path) -> None:
    (folder / "own").mkdir()
    (folder / "own" / "things.py").write_text("answer = 42\n")
    assert is_brought("module:own.things:answer")
    assert not is_brought("answer")
    assert bring("module:own.things:answer", "thing") == 42
    assert source_of("own.things") == folder / "own"
    (folder / "alone.py").write_text("")
    load_plugins(["alone"])
    assert source_of("alone") == folder / "alone.py"


def test_no_pythonpath_is_needed(tmp_path: Path) -> None:
    """As the command line is used: a script that lies elsewhere, started where the user's file is."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "things.py").write_text("answer = 42\n")
    (tmp_path / "work" / "json.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "script.py").write_text(
        f"import sys; sys.path.append({str(Path(__file__).parents[2])!r})\n"
        "from spaces.plugins import bring, load_plugins\n"
        "load_plugins(['json'])\n"  # an installed module comes first
        "print(bring('module:things:answer', 'thing'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-E", str(tmp_path / "script.py")], cwd=tmp_path / "work", capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("module:things", r"thing 'module:things' is not of the form module:package\.file:name"),
        ("module::answer", "not of the form"),
        ("module:things:more:answer", "not of the form"),
        ("module:things:reply", r"'module:things:reply': things \(.*things\.py\) has no 'reply'"),
        ("module:nothing:answer", "'module:nothing:answer': ModuleNotFoundError: No module named 'nothing'"),
        ("module:slip:answer", "'module:slip:answer': SyntaxError: .*slip.py"),
        ("module:loud:answer", "'module:loud:answer': RuntimeError: two lines"),
    ],
)
def test_what_cannot_be_brought_gets_one_line(folder: Path, name: str, words: str) -> None:
    (folder / "things.py").write_text("answer = 42\n")
    (folder / "slip.py").write_text("answer = = 42\n")
    (folder / "loud.py").write_text("raise RuntimeError('two\\nlines')\n")
    with pytest.raises(UsageError, match=words) as caught:
        bring(name, "thing")
    assert "\n" not in str(caught.value)


def test_a_broken_plug_in_is_named(folder: Path) -> None:
    (folder / "loud.py").write_text("raise RuntimeError('two\\nlines')\n")
    with pytest.raises(UsageError, match=r"^plugins: 'loud': RuntimeError: two lines \(loud\.py, line 1\)$"):
        load_plugins(["loud"])


def test_installed_packages_register_by_their_entry_point(folder: Path) -> None:
    info = folder / "fruits-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fruits\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[attune.plugins]\nplums = plums\n")
    (folder / "plums.py").write_text("loaded = True\n")
    sys.path.insert(0, str(folder))
    load_plugins()
    assert sys.modules["plums"].loaded
    (info / "entry_points.txt").write_text("[attune.plugins]\nplums = nowhere\n")
    with pytest.raises(
        UsageError, match=r"plug-in 'plums' \(nowhere\): ModuleNotFoundError: No module named 'nowhere'"
    ):
        load_plugins()
