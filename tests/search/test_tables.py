"""Tables of costs that a user's own function of networks gives, in a problem, its budget, a run and its front."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.cost import count_cost
from search import load
from search.objectives import BYTES, OBJECTIVES, Objective, list_objectives, register_objective
from search.problem import Problem
from search.tables import Costing, DifferenceTable, by_difference
from spaces import Architecture, NetworkSpec, Placement, SearchSpace
from spaces.errors import UsageError

NETWORK = NetworkSpec.classifier(16, 10, 1)


def size(model: nn.Module) -> int:
    """Bytes of the weights in half precision."""
    assert all(weight.device == torch.device("meta") for weight in model.parameters())
    return 2 * sum(weight.numel() for weight in model.parameters())


@pytest.fixture
def bytes_objective() -> Iterator[Objective]:
    """A user's objective, registered for one test."""
    yield register_objective(Objective("size", "bytes in half precision", BYTES, by_difference("size", size)))
    del OBJECTIVES._things["size"]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.build("attune_tiny", ["none", "se", "cbam"], reductions=[4, 16])


def test_differences_add_up_and_each_is_asked_for_once(space: SearchSpace) -> None:
    asked = []

    def count(model: nn.Module) -> int:
        asked.append(model)
        return size(model)

    table = by_difference("size", count)(Costing(space, NETWORK))
    assert isinstance(table, DifferenceTable)
    assert table.metrics == ("size",)
    for row in space.sample(np.random.default_rng(0), 5):
        arch = space.architecture(row)
        wanted = 2 * count_cost(arch, image_size=16, num_classes=10, in_chans=1).params
        assert table.total(arch).tolist() == [wanted]
    many = [*space.choices[1], Placement.parse("se-r2@slot")]
    before = len(asked)
    costs = table.stage_costs(1, many)
    assert costs.shape == (len(many), 1)
    assert costs[0, 0] == 0 < costs[-1, 0]
    assert table.stage_costs(1, many).tolist() == costs.tolist()
    assert len(asked) - before <= len(many)
    assert len(asked) <= 1 + sum(len(placements) for placements in space.choices)


@pytest.mark.usefixtures("bytes_objective")
def test_a_users_objective_is_a_cost_and_a_budget_like_any_other(space: SearchSpace) -> None:
    problem = Problem.build(space, NETWORK, costs=("size", "flops"), budget={"size": "1.02x", "flops": "1.3x"})
    assert problem.metrics == ("params", "macs", "flops", "activations", "size")
    everything = space.all_indices()
    costs_NM = problem.count(everything)
    assert costs_NM[:, -1].tolist() == (2 * costs_NM[:, 0]).tolist()
    plain = problem.cost(Architecture.plain("attune_tiny"))
    assert problem.limits == {"size": plain["size"] * 102 // 100, "flops": plain["flops"] * 13 // 10}
    inside_N = (costs_NM[:, -1] <= problem.limits["size"]) & (costs_NM[:, 2] <= problem.limits["flops"])
    assert 0 < inside_N.sum() < len(everything)
    assert problem.feasible.count == inside_N.sum()
    assert problem.feasible.contains(everything).tolist() == inside_N.tolist()
    assert problem.objectives(everything).tolist() == costs_NM[:, [-1, 2]].tolist()
    assert problem.to_dict()["costs"]["size"]["plain"] == plain["size"]
    assert problem.kept == {}  # nothing was measured
    with pytest.raises(UsageError, match=r"size <= 1kB, but the plain backbone alone needs [0-9.]+kB"):
        Problem.build(space, NETWORK, budget={"size": "1kB"})
    with pytest.raises(UsageError, match=r"budget size: cannot read '3ms'; valid: 4MB, 800kB"):
        Problem.build(space, NETWORK, budget={"size": "3ms"})
    with pytest.raises(UsageError, match=r"unknown objective 'sise'.*did you mean 'size'"):
        Problem.build(space, NETWORK, costs=("sise",))


@pytest.mark.usefixtures("bytes_objective")
def test_a_users_objective_is_a_column_of_the_run_and_of_its_front(
    run_maker: Callable[..., Path], tmp_path: Path
) -> None:
    results = load(run_maker(tmp_path / "run", 12, search={"costs": ["size"]}))
    assert results.evaluations["size"].tolist() == (2 * results.evaluations["params"]).tolist()
    assert results.front["size"].is_monotonic_increasing
    assert "size" in results.costs
    least = results.front.iloc[0]
    assert results.recommended({"size": least["size"]})["architecture"].tolist() == [least["architecture"]]
    assert results.pick({"size": "1x"})["architecture"] == "attune_tiny:none,none,none"


def test_a_relative_limit_needs_what_it_is_relative_to() -> None:
    with pytest.raises(
        UsageError, match=r"budget latency: '1\.1x' is relative, but the plain backbone's latency is not"
    ):
        OBJECTIVES["latency"].parse("1.1x", None)
    assert OBJECTIVES["latency"].parse("12 ms", None) == 12_000_000
    with pytest.raises(UsageError, match="cannot read True"):
        OBJECTIVES["flops"].parse(True, 1)


def test_amounts_are_written_with_their_units() -> None:
    units = {name: (one.unit.show(1_234_567), one.unit.brief(1_234_567)) for name, one in OBJECTIVES.items()}
    assert units["flops"] == units["params"] == ("1,234,567", "1.235M")
    assert units["latency"] == ("1.235 ms", "1.235ms")
    assert (BYTES.show(1_234_567), BYTES.brief(1_234_567), BYTES.read("1.5 MB")) == (
        "1,234,567 B",
        "1.235MB",
        1_500_000,
    )
    assert [row["name"] for row in list_objectives()] == ["flops", "macs", "params", "activations", "latency"]
    assert [one.label for _, one in OBJECTIVES.items()][:3] == ["FLOPs", "MACs", "parameters"]
    with pytest.raises(ValueError, match="objective 'flops' is registered already"):
        register_objective(Objective("flops", "others", BYTES, by_difference("flops", size)))
