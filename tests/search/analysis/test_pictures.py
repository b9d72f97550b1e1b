"""Where networks look, drawn from kept weights into a real report: what is shown, what lacks, how large it is, how it reads."""

from __future__ import annotations

import json
import shutil
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import run_search
from evaluators.brought import FunctionEvaluator
from evaluators.tasks.base import Explained
from evaluators.tasks.detection import DetectionConfig
from evaluators.tasks.video import VideoConfig
from evaluators.training import save_weights
from search import load
from search.analysis import analyze, pictures
from search.analysis.drawing import heat_map, photograph, picture_of, reduced, strongest_place
from search.analysis.pictures import (
    FILE,
    LIMIT,
    MOST,
    Pictures,
    choose,
    draw_pictures,
    explained_maps,
    read_pictures,
    why_not,
)
from search.build import create_trainer
from search.config import dump_config, validate
from search.store import SEARCH
from search.trainable import weights_path
from spaces import Architecture, build_model
from spaces.errors import UsageError

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def keep(run: Path, texts: list[str]) -> None:
    """Fresh networks as the weights that a run has kept of some architectures."""
    results = load(run)
    network = create_trainer(results.config).network
    for text in texts:
        arch = Architecture.parse(text)
        rows = results.evaluations[results.evaluations["architecture"] == text]
        assert len(rows), text
        for row in rows.to_dict("records"):
            torch.manual_seed(row["seed"])
            model = network.build(arch)
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    weight += 0.5 * name.endswith("blend")
            path = weights_path(run / "weights", arch, None if row["purpose"] == SEARCH else row["seed"])
            assert path is not None
            save_weights(model.state_dict(), path)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, known_run: Path) -> Path:
    """A run with the weights of the plain network, of two uniform ones and of all of the front, and four pictures of these."""
    run = tmp_path_factory.mktemp("drawn") / "run"
    shutil.copytree(known_run, run)
    results = load(run)
    uniform = results.confirmed[results.confirmed["role"] == "uniform"]["architecture"]
    keep(run, [str(Architecture.plain("attune_tiny")), *uniform, *results.summary["architecture"][1:12]])
    draw_pictures(run, 4)
    return run


def decoded(uri: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(uri.partition(",")[2])))


def test_plain_searched_and_uniform_stand_side_by_side(drawn: Path) -> None:
    results = load(drawn)
    found = read_pictures(results)
    assert found is not None
    assert found.cam == "Grad-CAM"
    assert [one.role for one in found.networks] == ["plain", "searched", "uniform"]
    assert len(found.pictures) == 4
    for picture in found.pictures:
        assert [one.role for one in picture.maps] == ["plain", "searched", "uniform"]
        assert max(decoded(picture.image).size) == 192
        for one in picture.maps:
            assert one.words.startswith("class ")
            assert one.alt.startswith(f"Grad-CAM of the {one.role} network for class ")
            assert decoded(one.image).size == decoded(picture.image).size
    searched = Architecture.parse(found.networks[1].architecture)
    placed = [str(one) for one in searched.placements if not one.is_none]
    assert [site.placement for site in found.pictures[0].sites] == placed
    assert all("multiplies by" in site.words for site in found.pictures[0].sites)


def test_the_uniform_network_is_the_one_of_the_best_expected_value(drawn: Path) -> None:
    chosen, notes = choose(load(drawn))
    rows = load(drawn).evidence.rows.set_index("architecture")["expected"]
    uniform = load(drawn).confirmed.query("role == 'uniform'")["architecture"]
    assert str(chosen[2].arch) == rows[list(uniform)].idxmax()
    assert all(one.weights.path.exists() for one in chosen)
    assert all("was not kept" not in note for note in notes)


def test_what_has_no_weights_is_left_out_and_the_report_says_how_to_get_it(known_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "a run"
    shutil.copytree(known_run, run)
    keep(run, [str(Architecture.plain("attune_tiny"))])
    draw_pictures(run, 2)
    found = read_pictures(load(run))
    assert found is not None
    assert [one.role for one in found.networks] == ["plain"]
    assert all(len(picture.maps) == 1 and not picture.sites for picture in found.pictures)
    assert found.notes[0] == "No weights are kept of: searched, uniform."
    page = analyze([run]).path.read_text()
    command = f"python run_search.py analyze &#39;{run}&#39; --confirm 3 --baselines uniform --pictures 2"
    assert f"<code>{command}</code>" in page


class Silent:
    """A user's task that says nothing of what is to be explained."""


def test_where_nothing_can_be_explained_a_line_says_why(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator: Any = create_trainer(load(drawn).config)
    assert why_not(evaluator) == ""
    video = VideoConfig().build({"name": "moving_digits", "train_size": 8, "val_size": 4, "test_size": 4}, seed=0)
    assert why_not(replace(evaluator, task=video)).startswith("Nothing is drawn of clips")
    silent = FunctionEvaluator(lambda model: {}, evaluator.network, evaluator.metric, "a")
    object.__setattr__(silent, "task", Silent())
    assert "the task does not say what is to be explained" in why_not(silent)

    run = tmp_path / "run"
    shutil.copytree(drawn, run)
    (tmp_path / "own_trainer.py").write_text("def train(model, *, epochs):\n    return {'accuracy': 0.5}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = load(run).config.model_dump(mode="json") | {"evaluator": {"name": "module:own_trainer:train"}}
    (run / "config.yaml").write_text(dump_config(validate(config, "test")))
    draw_pictures(run, 2)
    found = read_pictures(load(run))
    assert found is not None
    assert found.pictures == ()
    assert "knows its data alone" in found.notes[0]
    assert found.notes[0].replace("'", "&#39;") in analyze([run]).path.read_text()


def test_the_most_pictures_take_less_than_a_megabyte_of_the_report(drawn: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(drawn, run)
    (run / FILE).unlink()
    without = analyze([run]).path.read_text()
    assert 'href="#pictures"' not in without
    before = len(without.encode())
    draw_pictures(run, MOST)
    assert len(analyze([run]).path.read_bytes()) - before <= LIMIT
    found = read_pictures(load(run))
    assert found is not None
    assert len(found.pictures) == MOST


def test_pictures_that_are_too_large_become_smaller_and_then_fewer() -> None:
    noise_HW3 = np.random.default_rng(0).random((640, 640, 3))
    asked: list[tuple[int, int, int]] = []

    def at(side: int, quality: int, most: int) -> Pictures:
        asked.append((side, quality, most))
        uri = photograph(noise_HW3, side, quality)
        return Pictures(pictures=tuple(pictures.Picture(image=uri, maps=()) for _ in range(most)))

    found = pictures.fitting(at, 600)
    assert len(found.model_dump_json()) <= LIMIT
    assert [one[:2] for one in asked[:4]] == [*pictures.SIZES]
    assert 100 < len(found.pictures) == asked[-1][2] < 600


def test_numbers_of_pictures_and_damaged_files_are_refused(drawn: Path, tmp_path: Path) -> None:
    for count in (0, MOST + 1):
        with pytest.raises(UsageError, match=f"--pictures {count}; valid: 1 to {MOST}"):
            draw_pictures(drawn, count)
    run = tmp_path / "run"
    shutil.copytree(drawn, run)
    content = json.loads((run / FILE).read_text())
    content["pictures"][0]["image"] = "https://elsewhere.example/x.png"
    for damaged in (json.dumps(content), "{"):
        (run / FILE).write_text(damaged)
        with pytest.raises(UsageError, match=r"pictures.json cannot be read.*draws again"):
            analyze([run])


def test_words_from_outside_are_text(drawn: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(drawn, run)
    content = json.loads((run / FILE).read_text())
    for one in content["pictures"][0]["maps"]:
        one["words"] = one["alt"] = '"><b>class</b>'
    (run / FILE).write_text(json.dumps(content))
    page = analyze([run]).path.read_text()
    assert "<b>class</b>" not in page
    assert "&#34;&gt;&lt;b&gt;class&lt;/b&gt;" in page


@pytest.mark.slow
def test_the_command_line_draws_and_reports(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (drawn / FILE).stat().st_mtime_ns
    monkeypatch.setattr("sys.argv", ["run_search.py", "analyze", str(drawn), "--pictures", "4"])
    assert run_search.main() == 0
    assert (drawn / FILE).stat().st_mtime_ns > before
    monkeypatch.setattr("sys.argv", ["run_search.py", "analyze", str(drawn), "--pictures", "99"])
    assert run_search.main() == 2


def test_boxes_are_explained_on_the_last_map_that_they_were_found_on() -> None:
    data = {"name": "cluttered_digits", "train_size": 8, "val_size": 4, "test_size": 4, "image_size": 48, "sizes": [16]}
    task = DetectionConfig(head="ssdlite").build(data, seed=0)
    torch.manual_seed(0)
    model = task.network.build(Architecture.plain("attune_tiny")).eval()
    x_BCHW, target = next(iter(task.batches("val", batch_size=2, device=torch.device("cpu"))))
    maps_BHW, words = explained_maps(model, x_BCHW, target, task, pictures.last_layers(task.network, "attune_tiny"))
    assert maps_BHW.shape == (2, 48, 48)
    assert (maps_BHW.amax((1, 2)) == 1).all()
    assert all(one.startswith("the 10 strongest boxes, the first of class ") for one in words)


@dataclass(frozen=True)
class Odd:
    """A user's task that explains what it should not."""

    cam: Any = "Grad-CAM"
    words: tuple[str, ...] = ("one",)

    def explain(self, output: torch.Tensor, target: Any) -> Explained:
        return Explained(output[:, 0], self.words)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Odd(), "explains 1 of 2 pictures in words; valid: each"),
        (Odd(cam="GradCAM"), "cam of a task 'GradCAM'.*valid: Grad-CAM, LayerCAM"),
    ],
)
def test_a_task_that_explains_wrongly_is_told(task: Odd, message: str) -> None:
    model = build_model(Architecture.plain("attune_tiny"), num_classes=3, in_chans=1).eval()
    with pytest.raises(UsageError, match=message):
        explained_maps(model, torch.randn(2, 1, 16, 16), None, task, ["stages.0"])


# --- small pictures ---------------------------------------------------------------------------------------------------


def test_a_picture_is_what_it_was_before_it_was_normalised() -> None:
    original_3HW = torch.rand(3, 4, 5, dtype=torch.float64)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    x_3HW = (original_3HW - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    np.testing.assert_allclose(picture_of(x_3HW, mean, std), original_3HW.permute(1, 2, 0).numpy(), atol=1e-6)
    grey_HW3 = picture_of(torch.tensor([[[-3.0, 1.0]]]), None, None)
    assert grey_HW3.tolist() == [[[0, 0, 0], [1, 1, 1]]]
    assert picture_of(torch.randn(7, 4, 5), [0.5] * 7, [0.2] * 7).shape == (4, 5, 3)


def test_a_map_colours_a_picture_where_it_is_not_zero() -> None:
    grey_HW3, map_HW = np.full((64, 32, 3), 0.5), np.zeros((64, 32))
    map_HW[40:, :] = 1
    image = decoded(photograph(grey_HW3, 64, 95, map_HW)).convert("RGB")
    assert image.size == (32, 64)
    assert image.getpixel((16, 8)) == pytest.approx((128, 128, 128), abs=3)
    red, green, blue = image.getpixel((16, 60))  # type: ignore[misc]
    assert red > 120 > 2 * blue - 60
    assert green < 100


def test_a_heat_map_goes_from_dark_to_bright_and_is_grey_where_nothing_is_known() -> None:
    image = decoded(heat_map(np.array([[0.0, 1.0, np.nan]]), 0, 1)).convert("RGB")
    dark, bright, unknown = (image.getpixel((column, 0)) for column in range(3))
    assert sum(dark) < sum(bright)  # type: ignore[arg-type]
    assert unknown == (150, 150, 150)


def test_blocks_are_means_of_what_is_known() -> None:
    values_HW = np.array([[1.0, 3.0, np.nan, np.nan], [5.0, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(reduced(values_HW, 1, 2), [[3.0, np.nan]])
    np.testing.assert_array_equal(reduced(values_HW, 9, 9), values_HW)


def test_the_strongest_place_has_a_name() -> None:
    map_HW = np.zeros((9, 12))
    assert strongest_place(map_HW) == "nowhere"
    map_HW[7, 1] = 1
    assert strongest_place(map_HW) == "lower left"
    assert strongest_place(np.ones((2, 2))) == "upper left"


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(drawn: Path) -> Iterator[Any]:
    """The report, open and drawn; afterwards its console must be empty and it must have asked for nothing."""
    from playwright.sync_api import sync_playwright

    report = analyze([drawn]).path
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="dark").new_page()
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url),
        )
        page.goto(report.resolve().as_uri(), timeout=120_000)
        page.wait_for_selector("body[data-ready=yes]")
        yield page
        assert problems == []
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1400, 390])
def test_it_reads_at_any_width(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
    page.click("nav a[href='#pictures']")
    images = page.locator(".looks img")
    assert images.count() > 16
    assert page.evaluate("Array.from(document.querySelectorAll('.looks img'), (one) => one.alt).every(Boolean)")
    assert page.evaluate(
        "Array.from(document.querySelectorAll('.looks img'), (one) => one.naturalWidth).every(Boolean)"
    )
    tops = page.evaluate(
        "Array.from(document.querySelector('.tiles').children, (one) => Math.round(one.getBoundingClientRect().top))"
    )
    assert len(set(tops)) == (1 if width == 1400 else 2)
    page.locator(".looks summary").nth(1).click()
    assert page.locator(".looks details").nth(1).get_attribute("open") is not None
    page.locator(".looks summary").nth(1).click()
