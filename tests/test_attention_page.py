"""docs/attention.md describes the library as it is, docs/benchmarks/attention.md shows the measurements that are kept; those
survive a round trip."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.attention import (
    LIBRARY_PAGE,
    SPEED_PAGE,
    Row,
    Setting,
    library_tables,
    load,
    measure,
    merged,
    save,
    speed_tables,
)
from benchmarks.page import read


@pytest.mark.parametrize(
    ("page", "tables"),
    [(LIBRARY_PAGE, library_tables), (SPEED_PAGE, lambda: speed_tables(load()))],
    ids=["library", "speed"],
)
def test_the_tables_are_up_to_date(page: Path, tables: Callable[[], dict[str, str]]) -> None:
    for mark, text in tables().items():
        assert read(page, mark) == text, "run `python -m benchmarks.attention --no-run --docs`"


def test_a_measurement_is_kept_and_replaced_by_a_newer_one(tmp_path: Path) -> None:
    row = measure("se", (2, 8, 5, 5), Setting("fp32", 1), seconds=0.01)
    assert row.low <= row.high
    assert row.ours_bytes > 2 * 8 * 5 * 5 * 4  # the output at least
    assert 0 < row.products < 1
    path = tmp_path / "rows.jsonl"
    save([row, replace(row, name="eca")], path)
    save([replace(row, ours_ms=2.0, peer_ms=5.0, low=2.4, high=2.6)], path)
    kept = load(path)
    assert [(r.name, r.ours_ms == 2.0) for r in kept] == [("eca", False), ("se", True)]
    assert kept[1].ratio == 2.5
    assert Row.from_json(kept[1].to_json()) == kept[1]


def test_rows_of_two_machines_are_not_mixed() -> None:
    row = measure("eca", (2, 8, 5, 5), Setting("fp32", 1), seconds=0.01)
    gpu = replace(row, setting=Setting("bf16", 1, "cuda"), machine="a GPU")
    other = replace(row, name="se", machine="another processor")
    assert merged([row, gpu], [other]) == [other, gpu]
