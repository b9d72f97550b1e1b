"""The one training: fair to every choice, whose weights learn in every step."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evaluators.recipe import Recipe
from evaluators.supernet.training import Average, fair_paths, largest_path, train_supernet
from evaluators.tasks.classification import Classification
from spaces import Architecture, SearchSpace, build_model

CPU = torch.device("cpu")


def test_fair_paths_use_every_choice_equally_often(space: SearchSpace) -> None:
    rounds = 3
    paths = list(islice(fair_paths(space, np.random.default_rng(0)), rounds * max(space.sizes)))
    for stage, choices in enumerate(space.choices):
        counts = Counter(str(path.placements[stage]) for path in paths)
        assert set(counts) == {str(choice) for choice in choices}
        assert max(counts.values()) - min(counts.values()) <= 1


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(0.1, 0.99))
@settings(max_examples=30, deadline=None)
def test_the_average_of_weights_follows_them(values: list[float], decay: float) -> None:
    weight, late = nn.Parameter(torch.zeros(1, dtype=torch.float64)), nn.Parameter(torch.ones(1, dtype=torch.float64))
    average = Average([weight], decay)
    expected = 0.0
    for step, value in enumerate(values, start=1):
        weight.data.fill_(value)
        average.update()
        keep = min(decay, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * value
    average.add([late])
    average.store()
    assert weight.item() == pytest.approx(expected, abs=1e-9)
    assert late.item() == 1


def test_largest_path_has_no_larger_neighbour(space: SearchSpace) -> None:
    def size(arch: Architecture) -> int:
        with torch.device("meta"):
            return sum(weight.numel() for weight in build_model(arch, 10, 1).parameters())

    largest = largest_path(space)
    for stage, choices in enumerate(space.choices):
        for placement in choices:
            placements = (*largest.placements[:stage], placement, *largest.placements[stage + 1 :])
            assert size(Architecture(space.backbone, placements)) <= size(largest)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_every_choice_learns_in_every_step(clutter: Classification, space: SearchSpace, ema: float | None) -> None:
    """One batch is one step: after it no placement is where it began, though no path has had more than one."""
    recipe = Recipe(batch_size=clutter.count("train"), epochs=1, warmup=0, schedule="constant", ema=ema)
    network = replace(clutter.network, identity_start=True)
    net = train_supernet(space, clutter, network, recipe, epochs=1, seed=0, device=CPU)
    for places, choices in zip(net.stages, space.choices, strict=True):
        for placement in choices:
            for switch in places[placement.site] if placement.site else ():
                blend = [w for name, w in switch.choices[str(placement)].named_parameters() if name.endswith("blend")]
                assert all(float(weight.detach().abs().max()) > 0 for weight in blend), placement


def test_the_sandwich_trains_the_largest_path_in_every_step(clutter: Classification, space: SearchSpace) -> None:
    network = replace(clutter.network, identity_start=True)
    net = train_supernet(
        space, clutter, network, Recipe(batch_size=128), epochs=1, seed=0, device=CPU, paths=1, sandwich=True
    )
    largest = largest_path(space)
    assert net.select(largest) == []
    moved = [weight for name, weight in net.named_parameters() if ".choices." in name and name.endswith("blend")]
    assert any(float(weight.detach().abs().max()) > 0 for weight in moved)
