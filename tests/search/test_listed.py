"""Lists are found once, and kept for as long as nothing that is installed changes; formulas are printed as they are."""

import sys
from pathlib import Path

import pytest

from search import listed
from search.terminal import print_rows


def test_a_list_is_kept_until_its_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(listed.LISTED, "trifles", "trifles_of_a_test:rows")
    module = tmp_path / "trifles_of_a_test.py"
    module.write_text("def rows():\n    return ['a', 'b']\n")
    assert listed.rows_of("trifles") == [{"name": "a"}, {"name": "b"}]
    del sys.modules["trifles_of_a_test"]
    module.unlink()
    assert listed.rows_of("trifles") == [{"name": "a"}, {"name": "b"}]  # not imported again
    next((tmp_path / "cache").iterdir()).write_text("{")
    module.write_text("def rows():\n    return ['c']\n")
    assert listed.rows_of("trifles") == [{"name": "c"}]  # a damaged one is found anew
    module.write_text("")
    sys.modules["trifles_of_a_test"].rows = lambda: ["brought"]  # type: ignore[attr-defined]
    assert listed.rows_of("trifles") == [{"name": "brought"}]  # what is there is asked


def test_formulas_and_brackets_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    row = {"name": "a", "formula": "x * s([mean_C(x), max_C(x)]) " + "and " * 20, "genes": {"kernel": {"default": 7}}}
    print_rows([row])
    out = capsys.readouterr().out
    assert "s([mean_C(x), max_C(x)])" in out
    assert "kernel default 7" in out
    assert max(map(len, out.splitlines())) <= 60
