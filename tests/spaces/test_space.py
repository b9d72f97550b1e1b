"""SearchSpace: size, views, what stored runs depend on, and that Optuna's parameters reach exactly its members."""

import hashlib
import json

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces import Architecture, SearchSpace
from spaces.errors import UsageError

SPACE = SearchSpace.build(
    "resnet18",
    ["none", "se", "eca", "cbam", "gam", "eca+cbam", "simam"],
    reductions=[4, 16],
    kernels=[3, 7],
    groups=[1, 4],
    arrangements=["series", "parallel"],
    sites=["slot", "stage"],
    stages={1: ["none", "se-r8@block"]},
)

seeds = st.integers(0, 2**32 - 1)


def test_size_is_the_product_of_distinct_choices() -> None:
    assert SPACE.sizes[0] == 2
    assert SPACE.size == np.prod(SPACE.sizes)
    assert all(len(set(stage)) == len(stage) for stage in SPACE.choices)


@given(seeds)
def test_indices_architectures_and_parameters_are_three_views_of_one_thing(seed: int) -> None:
    for indices in SPACE.sample(np.random.default_rng(seed), 5):
        arch = SPACE.architecture(indices)
        assert arch in SPACE
        assert np.array_equal(SPACE.indices(arch), indices)
        params = SPACE.params(indices)
        assert np.array_equal(SPACE.from_params(params), indices)
        for name, value in params.items():
            assert value in SPACE.distributions[name]


def test_every_choice_has_its_own_parameters() -> None:
    for stage, size in enumerate(SPACE.sizes):
        rows = []
        for choice in range(size):
            indices = np.zeros(len(SPACE.sizes), dtype=int)
            indices[stage] = choice
            rows.append(tuple(sorted(SPACE.params(indices).items(), key=lambda item: item[0])))
        assert len(set(rows)) == size


def test_a_type_without_a_gene_is_never_asked_for_it() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        trial = study.ask()
        arch = SPACE.architecture(SPACE.suggest(trial))
        for stage, placement in enumerate(arch.placements, start=1):
            asked = {name.partition(".")[2] for name in trial.params if name.startswith(f"stage{stage}.")}
            if placement.is_none or placement.type == "simam":
                assert not asked & {"r", "k", "g", "arrangement"}
            if placement.type == "gam" and stage > 1:
                assert {"r", "k", "g", "arrangement"} <= {name.partition("{")[0] for name in asked}


def test_gene_codes_tell_all_architectures_apart() -> None:
    small = SearchSpace.build("resnet18", ["none", "se", "eca"], reductions=[4, 16], stages={3: ["none"], 4: ["none"]})
    assert len(np.unique(small.genes(small.all_indices()), axis=0)) == small.size == 16


# Rules over the channels, lists, single values and words. What is expected of it below is what stored runs hold.
PINNED = SearchSpace.build(
    "resnet18",
    ["eca", "eca-k9", "sge", "gam", "se-r3", "cbam-r5-parallel@stage"],
    stages={2: ["none", "se-r8@block"], 3: ["sge", "gam-g2", "eca"], 4: ["eca+cbam"]},
    kernels=[3, 7],
    arrangements=["series", "parallel"],
)


def test_names_values_and_order_of_parameters_stay() -> None:
    assert list(PINNED.distributions.items()) == [
        ("stage1.type", ("eca", "sge", "gam", "se", "cbam")),
        ("stage1.k", (3, 7, 9)),
        ("stage1.arrangement", ("series", "parallel")),
        ("stage1.k{3,7}", (3, 7)),
        ("stage2.type", ("none", "se")),
        ("stage3.type", ("sge", "gam", "eca")),
        ("stage3.k", (3, 7)),
        ("stage4.arrangement", ("series", "parallel")),
        ("stage4.k", (3, 7)),
    ]
    assert list(PINNED.params([4, 1, 2, 3]).items()) == [
        ("stage1.type", "gam"),
        ("stage1.arrangement", "series"),
        ("stage1.k{3,7}", 3),
        ("stage2.type", "se"),
        ("stage3.type", "eca"),
        ("stage3.k", 3),
        ("stage4.arrangement", "parallel"),
        ("stage4.k", 7),
    ]


def test_gene_codes_stay() -> None:
    """Per stage: type, site, arrangement, r, k, g."""
    assert PINNED.genes(np.array([[4, 1, 2, 3]])).reshape(4, 6).tolist() == [
        [2, 0, 0, 1, 0, 0],
        [1, 0, -1, 0, -1, -1],
        [2, 0, -1, -1, 0, -1],
        [0, 0, 1, -1, 1, -1],
    ]


def test_what_identities_hash_stays() -> None:
    assert hashlib.sha256(repr(SPACE.choices).encode()).hexdigest()[:16] == "17109c1713e4fc89"
    assert hashlib.sha256(json.dumps(list(SPACE.distributions.items())).encode()).hexdigest()[:16] == "08d12dc292ea557d"


def test_what_is_not_in_the_space_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="se-r2@slot"):
        SPACE.indices(Architecture.parse("resnet18:none,se-r2,none,none"))
    with pytest.raises(UsageError, match="stages 1 to 4"):
        SearchSpace.build("resnet18", ["none"], stages={5: ["se"]})
    with pytest.raises(UsageError, match="valid"):
        SearchSpace.build("resnet18", ["nothing"])
    with pytest.raises(UsageError, match=r"'kernel'.*did you mean 'kernels'"):
        SearchSpace.build("resnet18", ["eca"], kernel=[3])
