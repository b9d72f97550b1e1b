"""The report in a real headless Chromium: slider, hover, sort, copy, and nothing on the console."""

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search import load
from search.analysis import analyze
from search.analysis.latencies import measure_latencies
from search.analysis.page import embed
from search.analysis.papers import latex, markdown
from search.analysis.payload import progress
from spaces.errors import UsageError

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def report(known_run: Path) -> Path:
    measure_latencies(known_run)
    return analyze([known_run]).path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The report, open and drawn; afterwards its console must be empty and it must have asked for nothing."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else problems.append(request.url),
    )
    page.goto(report.resolve().as_uri(), timeout=120_000)  # beside other tests Chromium may wait for a core
    page.wait_for_selector("body[data-ready=yes]")
    yield page
    assert problems == []
    context.close()


@needs_chromium
def test_it_opens_at_what_export_takes_and_the_slider_and_the_field_follow_export(page: Any, known_run: Path) -> None:
    results = load(known_run)
    rows = results.evidence.rows
    least, most, plain = int(rows["flops"].min()), int(rows["flops"].max()), 91904
    assert page.inner_text("#text") == results.pick({})["architecture"]
    assert (
        page.inner_text("#command") == f"python run_search.py export {known_run} --retrain --to best"
    )  # no weights kept
    for value in (1000, 400, 0):
        page.fill("#budget", str(value))
        limit = int(re.search(r"--max flops=(\d+)", page.inner_text("#command")).group(1))  # type: ignore[union-attr]
        assert limit == pytest.approx(least * (most / least) ** (value / 1000), abs=1)
        picked = results.pick({"flops": limit})
        assert page.inner_text("#text") == picked["architecture"]
        assert f"{100 * picked['expected']:.1f} %" in page.inner_text("#numbers")
        marked = page.evaluate("Array.from(document.querySelectorAll('tr.chosen'), (row) => row.dataset.architecture)")
        assert marked in ([picked["architecture"]], [])
    for text, limit in (("1.05x", int(1.05 * plain)), ("0.1M", 100_000), ("95_000", 95_000)):
        page.fill("#limit", text)
        page.keyboard.press("Enter")
        assert page.inner_text("#text") == results.pick({"flops": limit})["architecture"]
        assert f"--max flops={text.replace('_', '')} " in page.inner_text("#command")
    page.fill("#limit", "twelve")
    page.keyboard.press("Enter")
    assert "valid: 1.05x, 310M" in page.inner_text("#limit-error")
    page.click("#knee")
    assert page.inner_text("#text") == results.pick({})["architecture"]
    page.click("#copy-command")
    page.wait_for_selector("#status.shown")
    assert page.evaluate("navigator.clipboard.readText()") == page.inner_text("#command")


@needs_chromium
def test_axes_switch_between_costs_and_scales(page: Any) -> None:
    for cost, title in (("params", "parameters"), ("macs", "MACs"), ("latency", "latency, ms"), ("flops", "FLOPs")):
        page.select_option("#cost", cost)
        assert page.evaluate("document.getElementById('front-chart').layout.xaxis.title.text").startswith(title)
    page.check("#log")
    assert page.evaluate("document.getElementById('front-chart').layout.xaxis.type") == "log"
    off = page.evaluate(
        """() => {  // pixels between the ring as drawn and the point that it marks, which is the expected value
            const chart = document.getElementById('front-chart');
            const ring = chart.querySelector('.shapelayer path').getBoundingClientRect();
            const { xaxis, yaxis, shapes: [{ xanchor, yanchor }] } = chart._fullLayout;
            const box = chart.getBoundingClientRect();
            const marked = rowOf.get(document.getElementById('text').textContent);
            return [(ring.left + ring.right) / 2 - box.left - xaxis._offset - xaxis.d2p(xanchor),
                    (ring.top + ring.bottom) / 2 - box.top - yaxis._offset - yaxis.d2p(yanchor), yanchor - marked.expected];
        }"""
    )
    assert off == pytest.approx([0, 0, 0], abs=1)


@needs_chromium
def test_hover_shows_placements_and_click_copies_the_text(page: Any, known_run: Path) -> None:
    best = load(known_run).recommended().iloc[-1]["architecture"]
    place = page.evaluate(
        """(text) => {
            const chart = document.getElementById('front-chart');
            const number = chart.data.findIndex((trace) => trace.name === 'recommended front');
            const point = chart.data[number].customdata.indexOf(text);
            const { xaxis, yaxis } = chart._fullLayout;
            const box = chart.getBoundingClientRect();
            return [box.left + xaxis._offset + xaxis.d2p(chart.data[number].x[point]),
                    box.top + yaxis._offset + yaxis.d2p(chart.data[number].y[point])];
        }""",
        best,
    )
    page.mouse.move(*place)
    page.wait_for_selector("#front-chart .hoverlayer .hovertext")
    shown = page.evaluate("document.querySelector('#front-chart .hoverlayer').textContent")
    for stage, placement in enumerate(best.partition(":")[2].split(","), start=1):
        assert f"stage {stage}: {placement}" in shown
    page.mouse.click(*place)
    page.wait_for_selector("#status.shown")
    assert page.evaluate("navigator.clipboard.readText()") == best


@needs_chromium
def test_the_first_screen_answers_in_words_and_as_a_picture(page: Any, known_run: Path) -> None:
    """What to take, its expected accuracy with its interval, its cost beside the plain network, and the command."""
    taken = load(known_run).pick({})
    words = page.inner_text("#verdict").replace("\u00a0", " ")
    assert f"expected to reach {100 * taken['expected']:.1f} %" in words
    assert f"{taken['flops'] / 91904:.3f}\u00d7 the FLOPs" in words
    for one in ("#verdict", "#front-chart", "#numbers", "#picture", "#command"):
        box = page.locator(one).bounding_box()
        assert box["y"] + box["height"] <= 900, f"{one} is below the first screen"
    chips = page.locator("#picture .chip").all_inner_texts()
    assert len(chips) == 3
    for chip, placement in zip(chips, taken["architecture"].partition(":")[2].split(","), strict=True):
        assert chip.split("\n")[0].lower() == placement.partition("-")[0].partition("@")[0]
    assert taken["architecture"].partition(":")[2].split(",")[0] in page.get_attribute("#picture", "aria-label")


@needs_chromium
def test_the_table_sorts_copies_and_downloads(page: Any, known_run: Path, tmp_path: Path) -> None:
    def column(label: str) -> list[float]:
        cells = page.locator(f"#rows tbody td[data-label='{label}']").all_inner_texts()
        return [float(cell.split()[0].split("%")[0].replace(",", "")) for cell in cells if cell]

    assert column("FLOPs") == sorted(column("FLOPs"))
    page.click("#rows th button[data-column=score]")
    assert column("search") == sorted(column("search"))
    assert page.get_attribute("#rows th:nth-child(3)", "aria-sort") == "ascending"
    page.keyboard.press("Enter")  # the focus stays on the heading
    assert column("search") == sorted(column("search"), reverse=True)
    first = page.locator("#rows tbody tr").first
    first.locator(".strip").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#status.shown")
    assert page.evaluate("navigator.clipboard.readText()") == first.get_attribute("data-architecture")
    with page.expect_download() as download:
        page.click("#csv")
    download.value.save_as(tmp_path / "front.csv")
    rows = list(csv.DictReader((tmp_path / "front.csv").open()))
    assert set(load(known_run).recommended()["architecture"]) <= {row["architecture"] for row in rows}


@needs_chromium
def test_it_can_be_read_on_a_phone_and_in_the_dark(page: Any) -> None:
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("document.documentElement.scrollWidth <= 390")  # plotly follows the width a moment later
    legend, drawn = (page.locator(one).bounding_box() for one in ("#legend", "#front-chart .gridlayer"))
    assert legend["y"] + legend["height"] <= drawn["y"] + 2, "the legend lies over the points"
    cut = page.evaluate(
        """Array.from(document.querySelectorAll('#picture .chip, #numbers div, #rows td, .command')).filter(
            (one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert cut == []
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", light)[:3])) < 60


@needs_chromium
def test_names_from_outside_are_text(page: Any) -> None:
    assert page.locator("#failures ~ div td.wide b").count() == 0
    assert "<b>loss</b> is NaN & void" in page.inner_text("main")


def test_it_is_one_small_file(report: Path, known_run: Path) -> None:
    text = report.read_text()
    assert len(text.encode()) < 6e6
    assert "&lt;b&gt;loss&lt;/b&gt; is NaN &amp; void" in text
    assert not re.search(r"<(script|img|link)[^>]+(src|href)=.http", text)
    for name in ("figures/front.png", "figures/front.svg", "figures/gains.svg", "tables/front.csv", "tables/front.tex"):
        assert (known_run / name).stat().st_size > 100


def test_json_in_a_page_cannot_end_its_script() -> None:
    assert "<" not in embed({"name": "</script><script>alert(1)</script>"})


def test_tables_escape_what_their_format_reads() -> None:
    table = pd.DataFrame({"a_b": ["x|y", "50%"], "n": [1234, 5]})
    assert markdown(table).splitlines()[2] == "| x\\|y | 1,234 |"
    assert r"a\_b & n \\" in latex(table)
    assert r"50\% & 5 \\" in latex(table)


def test_hypervolume_never_falls_and_ends_at_one(known_run: Path) -> None:
    found = progress(load(known_run))
    assert found["share"][-1] == 1
    assert (np.diff(found["share"]) >= 0).all()
    assert len(found["count"]) == len(load(known_run).searched)


def test_several_runs_are_compared(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    runs = [run_maker(tmp_path / f"run{seed}", 15 + 10 * (seed > 1), seed=seed, name=f"n{seed}") for seed in range(4)]
    report = analyze(runs)
    assert report.path == runs[0] / "comparison.html"
    assert "<h2>Coverage</h2>" in report.path.read_text()
    assert "largest hypervolume" in report.sentences[0]
    config = runs[3] / "config.yaml"
    config.write_text(config.read_text().replace("trials: 40", "trials: 41"))
    config = runs[2] / "config.yaml"
    config.write_text(config.read_text().replace("trials: 40", "trials: 41"))
    assert "permutation test" in analyze(runs).sentences[1]
    config.write_text(config.read_text().replace("data: digits", "data: cluttered_digits"))
    with pytest.raises(UsageError, match="differ in data"):
        analyze(runs)


def test_a_run_without_evaluations_is_named(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no complete evaluation"):
        analyze([run_maker(tmp_path / "run", 1, failures=1)])
