"""The examples of docs/own_trainer.md train networks with attention in them: their code is what the page shows."""

from pathlib import Path

import pytest

from search.build import create_evaluator, create_problem
from search.config import load_config
from spaces import Architecture

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.mark.parametrize(
    ("example", "placements"),
    [
        ("plain_loop", "se-r4,none,cbam-r4"),
        ("lightning_style", "none,cbam-r4,se-r4"),
        ("detector", "se-r4,coordinate-r4"),
    ],
)
def test_an_example_of_the_page_trains_what_a_search_proposes(
    example: str, placements: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    config = load_config(f"{example}.yaml")
    evaluator = create_evaluator(config)
    arch = Architecture.parse(f"{config.space.backbone}:{placements}")
    create_problem(config, evaluator).space.indices(arch)  # refuses what the search would not propose
    reported: list[tuple[int, float]] = []

    def report(epoch: int, metrics: dict[str, float]) -> bool:
        reported.append((epoch, metrics[evaluator.metric.name]))
        return epoch < 2  # as a scheduler that ends it

    found = evaluator.evaluate(arch, fidelity=config.fidelity, seed=0, report=report)
    assert [epoch for epoch, _ in reported] == [1, 2]
    assert found[evaluator.metric.name] == reported[-1][1] > 0.2  # chance: 0.1, and 0 for boxes
