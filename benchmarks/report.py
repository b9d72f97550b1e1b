"""How long a report of many evaluations takes to write, and how long Chromium takes to open it.

    python -m benchmarks.report --evaluations 5000 [--markdown [FILE]]

The peer is Optuna's plot_pareto_front of the same trials written by plotly: one chart of the six that the report holds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna

from benchmarks.page import add_option, write
from evaluators.cost import METRICS
from search import load
from search.analysis import analyze
from search.config import dump_config, load_config
from search.problem import Problem
from search.store import COMPLETE, FAILED, Evaluation, Store
from spaces import NetworkSpec

DATA = {"num_classes": 10, "in_chans": 1, "image_size": 32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    add_option(parser, "report.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = make_run(Path(name) / "run", arguments.evaluations)
        peer = Path(name) / "peer.html"
        ours = [timed(lambda: analyze([folder])) for _ in range(arguments.repeats)]
        theirs = [timed(lambda: write_optuna(folder, peer)) for _ in range(arguments.repeats)]
        rows = [("Attune's report", ours, folder / "report.html"), ("Optuna's Pareto plot", theirs, peer)]
        table = "| | write, s | open in Chromium, s | size, MB |\n|---|---|---|---|\n"
        for title, seconds, path in rows:
            opened = open_in_chromium(path, arguments.repeats)
            shown = f"{statistics.median(opened):.2f}" if opened else "no Chromium here"
            table += f"| {title} | {statistics.median(seconds):.2f} | {shown} | {path.stat().st_size / 1e6:.2f} |\n"
    text = f"{arguments.evaluations:,} evaluations, median of {arguments.repeats}:\n\n{table}"
    print(text)
    if arguments.markdown:
        write(arguments.markdown, "measured", text)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make_run(folder: Path, count: int) -> Path:
    """A run directory of random architectures of the default space with their real costs and invented accuracies."""
    config = load_config("configs/default.yaml")
    space = config.space.build()
    problem = Problem.build(space, NetworkSpec.from_dict(DATA))
    rng = np.random.default_rng(0)
    effects = [0.05 * rng.standard_normal(len(one)) for one in space.choices]
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(config))
    (folder / "data.json").write_text(json.dumps(DATA))
    indices_NS = np.vstack([[0] * len(space.choices), problem.feasible.sample(rng, count - 1)])
    costs_NM = problem.count(indices_NS)
    lines = []
    for number, (indices_S, costs_M) in enumerate(zip(indices_NS, costs_NM, strict=True)):
        state = FAILED if number % 100 == 99 else COMPLETE
        evaluation = Evaluation(
            architecture=str(space.architecture(indices_S)),
            fidelity=2,
            seed=0,
            state=state,
            reason="" if state == COMPLETE else "the validation loss became nan",
            score=float(
                0.7 + sum(e[i] for e, i in zip(effects, indices_S, strict=True)) + 0.01 * rng.standard_normal()
            ),
            costs=dict(zip(METRICS, map(int, costs_M), strict=True)),
            seconds=3.0,
            finished=1.7e9 + 3 * number,
            identity="benchmark",
        )
        lines.append(json.dumps({k: None if v != v else v for k, v in evaluation.to_dict().items()}))
    (folder / "evaluations.jsonl").write_text("\n".join(lines) + "\n")
    Store(folder).close()  # writes the table
    return folder


def write_optuna(folder: Path, path: Path) -> None:
    """Optuna's chart of the same trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize", "maximize"])
    rows = load(folder).searched
    done = rows[rows["state"] == COMPLETE]
    study.add_trials(
        [
            optuna.trial.create_trial(values=[float(flops), float(accuracy)])
            for flops, accuracy in zip(done["flops"], done["accuracy"], strict=True)
        ]
    )
    optuna.visualization.plot_pareto_front(study).write_html(path, include_plotlyjs=True)


def open_in_chromium(path: Path, repeats: int) -> list[float]:
    """Seconds until the page has drawn its charts; empty where there is no Chromium."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        return []
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])

        def once() -> None:
            page = browser.new_page()
            page.goto(path.resolve().as_uri())
            page.wait_for_selector("#front-chart .main-svg, .plotly-graph-div .main-svg")
            if "report" in path.name:
                page.wait_for_selector("body[data-ready=yes]")
            page.close()

        once()
        seconds = [timed(once) for _ in range(repeats)]
        browser.close()
    return seconds


if __name__ == "__main__":
    main()
