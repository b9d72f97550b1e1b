"""The rungs beside training: supernet, proxies, tables, and the statistics that say how far to trust them."""

import math
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evaluators.base import EvaluationError
from evaluators.data import Data, load_data
from evaluators.proxies import PROXIES, ProxyEvaluator, naswot, snip, synflow
from evaluators.statistics import kendall, spearman, summarize
from evaluators.supernet import Average, Supernet, SupernetEvaluator, fair_paths, largest_path, train_supernet
from evaluators.table import TableEvaluator
from evaluators.training import Recipe, TrainingEvaluator
from spaces import Architecture, SearchSpace
from spaces.attention import list_attentions
from spaces.backbone import build_model
from spaces.errors import UsageError

CPU = torch.device("cpu")
PLAIN = Architecture.parse("attune_tiny:none,none,none")
RICH = Architecture.parse("attune_tiny:se-r2,cbam-r4@block,coordinate-r4")


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("cluttered_digits", train_size=256, val_size=100, test_size=10)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.build("attune_tiny", ("none", "se", "eca", "cbam"), reductions=(2, 4), sites=("slot", "block"))


def test_a_path_of_the_supernet_is_the_architecture(space: SearchSpace) -> None:
    """Its weights under the architecture's own names give the same network, whatever else the supernet holds."""
    torch.manual_seed(0)
    net = Supernet("attune_tiny", 10, 1, image_size=32, identity_init=False)
    x = torch.randn(4, 1, 32, 32)
    for arch in (RICH, PLAIN, Architecture.parse("attune_tiny:eca@block,none,se-r4")):
        net.eval()
        net.select(arch)
        model = build_model(arch, 10, 1, image_size=32).eval()
        weights = net.weights(arch)
        assert set(weights) == set(model.state_dict())
        model.load_state_dict(weights)
        assert torch.allclose(model(x), net(x), atol=1e-6)


def test_attention_weights_are_made_when_needed_and_shared() -> None:
    net = Supernet("attune_tiny", 10, 1, image_size=32)
    assert not [name for name, _ in net.named_parameters() if ".choices." in name]
    made = net.select(RICH)
    assert made
    assert net.select(PLAIN) == []
    assert net.select(RICH) == [], "the second time the same weights serve"


def test_fair_paths_use_every_choice_equally_often(space: SearchSpace) -> None:
    rounds = 3
    paths = list(islice(fair_paths(space, np.random.default_rng(0)), rounds * max(space.sizes)))
    for stage, choices in enumerate(space.choices):
        counts = Counter(str(path.placements[stage]) for path in paths)
        assert set(counts) == {str(choice) for choice in choices}
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_space_of_a_billion_makes_only_what_its_paths_need() -> None:
    genes = {"reductions": (4, 8, 16), "kernels": (3, 5, 7), "groups": (1, 2, 4), "sites": ("slot", "stage")}
    space = SearchSpace.build("resnet18", tuple(list_attentions()), **genes)
    assert space.size > 10**9
    net = Supernet("resnet18", 10, 3, image_size=16).eval()
    paths = list(islice(fair_paths(space, np.random.default_rng(0)), 3))
    for path in paths:
        net.select(path)
        assert torch.isfinite(net(torch.randn(2, 3, 16, 16))).all()
    placed = [pair for path in paths for pair in zip(net.stages, path.placements, strict=True)]
    sites = sum(len(kinds[placement.site]) for kinds, placement in placed if placement.site)
    assert 0 < sum(len(switch.choices) for switch in net.switches) <= sites


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


def test_supernet_evaluates_by_forward_passes(data: Data, space: SearchSpace) -> None:
    recipe = Recipe(batch_size=32, crop=0)
    evaluator = SupernetEvaluator(data, space, recipe, calibration=128, device=CPU)
    first = evaluator.evaluate(RICH, fidelity=1, seed=0)
    other = evaluator.evaluate(PLAIN, fidelity=1, seed=0)
    assert len(evaluator.nets) == 1, "one training serves all"
    assert 0 <= other["accuracy"] <= 1
    again = evaluator.evaluate(RICH, fidelity=1, seed=0)
    assert (again["accuracy"], again["loss"]) == (first["accuracy"], first["loss"]), "others in between change nothing"
    fresh = SupernetEvaluator(data, space, recipe, calibration=128, device=CPU)
    assert fresh.evaluate(RICH, fidelity=1, seed=0)["loss"] == first["loss"]
    trained = TrainingEvaluator(data, recipe, device=CPU).train(
        RICH, fidelity=1, seed=0, start=evaluator.net(1, 0).weights(RICH)
    )
    assert trained.metrics["train_loss"] < 3


def test_a_step_is_the_mean_over_the_paths_that_a_weight_was_on(space: SearchSpace) -> None:
    torch.manual_seed(0)
    net = Supernet("attune_tiny", 10, 1, image_size=32, identity_init=False).eval()
    x, y = torch.randn(4, 1, 32, 32), torch.arange(4)
    stem, head = (next(weight for name, weight in net.named_parameters() if end in name) for end in ("conv1", "fc"))

    def gradients(*paths: Architecture) -> list[torch.Tensor]:
        net.zero_grad(set_to_none=True)
        for path in paths:
            net.select(path)
            nn.functional.cross_entropy(net(x), y).backward()
        net.average_gradients(len(paths))
        squeeze = next(iter(net.stages[0]["slot"][0].choices["se-r2@slot"].parameters()))
        return [weight.grad.clone() for weight in (stem, head, squeeze) if weight.grad is not None]

    other = Architecture.parse("attune_tiny:se-r2,none,none")
    of_rich, of_other = gradients(RICH), gradients(other)
    for both, a, b in zip(gradients(RICH, other), of_rich, of_other, strict=True):
        torch.testing.assert_close(both, (a + b) / 2)
    stem_grad, _, squeeze_grad = gradients(RICH, PLAIN)
    torch.testing.assert_close(squeeze_grad, of_rich[2])
    torch.testing.assert_close(stem_grad, (of_rich[0] + gradients(PLAIN)[0]) / 2)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_every_choice_learns_in_every_step(data: Data, space: SearchSpace, ema: float | None) -> None:
    """One batch is one step: after it no placement is where it began, though no path has had more than one."""
    recipe = Recipe(batch_size=len(data.train), epochs=1, warmup=0, schedule="constant", ema=ema)
    net = train_supernet(space, data, recipe, epochs=1, seed=0, device=CPU)
    for kinds, choices in zip(net.stages, space.choices, strict=True):
        for placement in choices:
            for switch in kinds[placement.site] if placement.site else ():
                blend = [w for name, w in switch.choices[str(placement)].named_parameters() if name.endswith("blend")]
                assert all(float(weight.detach().abs().max()) > 0 for weight in blend), placement


def test_the_sandwich_trains_the_largest_path_in_every_step(data: Data, space: SearchSpace) -> None:
    net = train_supernet(space, data, Recipe(batch_size=128), epochs=1, seed=0, device=CPU, paths=1, sandwich=True)
    largest = largest_path(space)
    assert net.select(largest) == []
    moved = [weight for name, weight in net.named_parameters() if ".choices." in name and name.endswith("blend")]
    assert any(float(weight.detach().abs().max()) > 0 for weight in moved)


def relu_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def test_proxies_follow_their_formulas() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(6, 1, 8, 8), torch.randint(10, (6,))
    model = relu_net()
    loss = nn.functional.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    pairs = list(zip(model.parameters(), gradients, strict=True))
    assert snip(model, x, y) == pytest.approx(sum(float((w * g).detach().abs().sum()) for w, g in pairs), rel=1e-5)

    on = (model[1](model[0](x)).flatten(1) > 0).numpy()
    kernel = np.array([[(a == b).sum() for b in on] for a in on], dtype=float)
    assert naswot(model, x, y) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)

    before = [weight.detach().clone() for weight in model.parameters()]
    value = synflow(model, x, y)
    assert all(torch.allclose(a, b) for a, b in zip(before, model.parameters(), strict=True)), "weights come back"
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    assert synflow(linear, x, y) == pytest.approx(math.log(float(linear[1].weight.abs().sum())), rel=1e-6)
    assert math.isfinite(value)


@pytest.mark.parametrize("proxy", sorted(PROXIES))
def test_every_proxy_scores_an_attention_architecture(data: Data, proxy: str) -> None:
    evaluator = ProxyEvaluator(data, proxy, batch_size=16, device=CPU)
    first = evaluator.evaluate(RICH, fidelity=2, seed=0)
    assert math.isfinite(first["score"])
    assert evaluator.evaluate(RICH, fidelity=2, seed=0)["score"] == first["score"]
    plain = evaluator.evaluate(PLAIN, fidelity=2, seed=0)["score"]
    # Absolute weights drive every sigmoid to 1: synflow does not see gates at all (docs/evaluators.md).
    assert (plain == pytest.approx(first["score"], rel=1e-9)) == (proxy == "synflow")


def test_unknown_proxy() -> None:
    with pytest.raises(UsageError, match=r"unknown proxy 'snipp'.*did you mean 'snip'"):
        ProxyEvaluator(load_data("digits"), "snipp")


def test_table_of_a_run(data: Data, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "architecture": [str(RICH)] * 3 + [str(PLAIN)],
            "fidelity": [1, 1, 5, 1],
            "seed": [0, 1, 0, 0],
            "accuracy": [0.5, 0.6, 0.9, 0.4],
            "flops": [7, 7, 7, 3],
            "state": ["complete"] * 3 + ["failed"],
        }
    )
    rows.to_parquet(tmp_path / "evaluations.parquet")
    table = TableEvaluator.read(tmp_path / "evaluations.parquet", data)
    assert table.evaluate(RICH, fidelity=1, seed=1)["accuracy"] == 0.6
    assert table.evaluate(RICH, fidelity=1, seed=3)["accuracy"] == 0.6, "seed 3 takes the second of two"
    assert table.evaluate(RICH, fidelity=5, seed=0)["flops"] == 7
    with pytest.raises(EvaluationError, match=r"has no fidelity 9 .*\[1, 5\]"):
        table.evaluate(RICH, fidelity=9, seed=0)
    with pytest.raises(EvaluationError, match="is not in table"):
        table.evaluate(PLAIN, fidelity=1, seed=0)


def test_wide_table_and_its_mistakes(data: Data, tmp_path: Path) -> None:
    wide = pd.DataFrame({"architecture": [str(RICH)], "accuracy_0": [0.1], "accuracy_1": [0.2], "params": [5]})
    wide.to_csv(tmp_path / "wide.csv.gz", index=False)
    table = TableEvaluator.read(tmp_path / "wide.csv.gz", data)
    assert [table.evaluate(RICH, fidelity=1, seed=seed)["accuracy"] for seed in (0, 1)] == [0.1, 0.2]
    assert table.evaluate(RICH, fidelity=1, seed=0)["params"] == 5
    wide.drop(columns="architecture").to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(UsageError, match=r"bad.csv has no column 'architecture'; it has: accuracy_0"):
        TableEvaluator.read(tmp_path / "bad.csv", data)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_summary_brackets_the_mean(values: list[float]) -> None:
    found = summarize(values, resamples=200)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1) if len(values) > 1 else 0)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=30, unique=True))
def test_rank_correlations_see_the_order_only(values: list[int]) -> None:
    cubes = [value**3 for value in values]
    for correlation in (kendall, spearman):
        assert correlation(values, cubes) == pytest.approx(1)
        assert correlation(values, [-value for value in values]) == pytest.approx(-1)
    with pytest.raises(ValueError, match="equally long"):
        kendall(values, values[:-1])
