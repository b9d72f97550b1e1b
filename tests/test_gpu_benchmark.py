"""The benchmark of one GPU: parts are kept, left out, and may fail without stopping the others; its page says so."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from benchmarks.gpu import PartFailed, Record, load, measure_all, page, save
from benchmarks.gpu_parts import BY_NAME, EAGER, PARTS, Found, Part, Setup, beside_torchvision, over_bar, steps_part
from benchmarks.page import PAGES, read

FOUND = Found(["| a |", "|---|", "| 1 |"], "At least 5x: 6x: met.", True)


def parts(*names: str) -> list[Part]:
    return [replace(BY_NAME[name], minutes=1.0) for name in names]


def run(part: Part, limit: float) -> Found:
    if part.name == "supernet":
        raise PartFailed("RuntimeError: broken")
    return FOUND


def test_a_part_that_fails_is_kept_as_failed_and_tried_again(tmp_path: Path) -> None:
    keep, chosen = tmp_path / "gpu.json", parts("packing", "supernet", "detection")
    assert measure_all(chosen, Setup(), keep, 25, "a GPU", run) == ["supernet"]
    assert [(one.part, one.found, one.failed) for one in load(keep)] == [
        ("packing", FOUND, None),
        ("supernet", None, "RuntimeError: broken"),
        ("detection", FOUND, None),
    ]
    tried: list[str] = []

    def again(part: Part, limit: float) -> Found:
        tried.append(part.name)
        return FOUND

    assert measure_all(chosen, Setup(), keep, 25, "a GPU", again) == []
    assert tried == ["supernet"]
    assert measure_all(chosen, Setup(), keep, 25, "another GPU", again) == []
    assert tried == ["supernet", "packing", "supernet", "detection"]
    assert {one.device for one in load(keep)} == {"another GPU"}


def test_what_does_not_fit_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = []
    seconds = count(0.0, 30.0)  # half a minute passes whenever the clock is read

    def noted(part: Part, limit: float) -> Found:
        limits.append((part.name, limit))
        return FOUND

    chosen = parts("packing", "steps", "supernet")
    measure_all(chosen, Setup(), tmp_path / "gpu.json", 2.5, "a GPU", noted, clock=lambda: next(seconds))
    assert limits == [("packing", 120.0)]  # no part may go on when the minutes are over
    assert "steps: left out: it takes about 1 minutes, and 0.5 are left" in capsys.readouterr().out


def test_parts_say_what_they_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure_all(parts("throughput"), Setup(), tmp_path / "gpu.json", 25, "a GPU", run)
    assert "throughput: left out, as it needs --cifar" in capsys.readouterr().out
    assert load(tmp_path / "gpu.json") == []


def test_the_page_has_a_section_for_every_part(tmp_path: Path) -> None:
    done = Record("packing", "a GPU", "2.13.0", "2026-01-01", "python -m benchmarks.gpu", 60.0, False, FOUND)
    save(tmp_path / "gpu.json", done)
    save(tmp_path / "gpu.json", replace(done, part="supernet", found=None, failed="RuntimeError: broken"))
    text = page(load(tmp_path / "gpu.json"))
    assert text.count("## ") == len(PARTS)
    assert text.count("Not measured yet.") == len(PARTS) - 2
    assert "`python -m benchmarks.gpu`, a GPU, torch 2.13.0, 2026-01-01, 60 seconds.\n\n| a |\n" in text
    assert "**At least 5x: 6x: met.**" in text
    assert "It failed: `RuntimeError: broken`" in text
    written = read(PAGES / "gpu.md", "measured")
    assert [line for line in written.splitlines() if line.startswith("## ")] == [f"## {part.title}" for part in PARTS]


def test_bars() -> None:
    assert over_bar({"a": 6.0, "b": 2.0}, 5) == ("At least 5x: a 6.00x, b 2.00x: not met by b.", False)
    assert beside_torchvision(100, [(2.0, 1.0), (4.0, 2.0), (3.0, 1.5)], 8).met


def test_a_tiny_part_runs_here() -> None:
    found = steps_part(Setup(tiny=True), EAGER[:2])
    assert len(found.lines) == 4
    assert found.verdict.startswith("The quickest: attune_tiny with batch 32: ")
