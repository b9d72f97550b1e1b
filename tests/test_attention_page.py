"""The pages of the attention types describe the library as it is, docs/benchmarks/attention.md shows the measurements that
are kept; those survive a round trip."""

from dataclasses import replace
from pathlib import Path

from benchmarks.attention import (
    SPEED_PAGE,
    Row,
    Setting,
    load,
    measure,
    merged,
    save,
    speed_tables,
)
from benchmarks.page import read
from docs.site.attention import FOLDER, INDEX, listed, pages
from spaces.attention import attention_type, list_attentions


def test_the_pages_of_the_types_are_up_to_date() -> None:
    told = "run `python -m docs.site.attention`"
    assert read(INDEX, "types") == listed(), told
    for path, text in pages().items():
        assert path.read_text() == text, f"{path.name}: {told}"
    left = {path.stem for path in FOLDER.iterdir()} - set(list_attentions())
    assert not left, f"pages of types that are no more: {left}"


def test_every_type_says_when_to_try_it() -> None:
    assert [name for name in list_attentions() if not attention_type(name).use] == []


def test_the_tables_of_speed_are_up_to_date() -> None:
    for mark, text in speed_tables(load()).items():
        assert read(SPEED_PAGE, mark) == text, "run `python -m benchmarks.attention --no-run --docs`"


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
