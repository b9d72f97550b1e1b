"""The registry: genes, closed forms, mixes, canonical values, and what it refuses."""

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spaces import Architecture, build_model
from spaces.attention import IdentityStart, attention_type, create_attention, list_attentions, part
from spaces.errors import UsageError

CHANNELS = (16, 64, 96, 256)
CHANNEL_TYPES = [name for name in list_attentions() if "channel" in attention_type(name).parts]
SPATIAL_TYPES = [name for name in list_attentions() if "spatial" in attention_type(name).parts]

# The sheet's own closed forms, written once more and apart from the library: C, h, k, g -> parameters.
SHEET = {
    "se": lambda C, h, k, g: 2 * C * h + h + C,
    "cbam": lambda C, h, k, g: 2 * C * h + h + C + 2 * k**2 + 2,
    "bam": lambda C, h, k, g: 3 * C * h + C + 2 * k**2 * h**2 + 13 * h + 1,
    "eca": lambda C, h, k, g: k,
    "gam": lambda C, h, k, g: 2 * C * h + 2 * C * h * k**2 // g + 4 * h + 4 * C,
    "double_attention": lambda C, h, k, g: C * 3 * h + 3 * h + h * C + C,
    "coordinate": lambda C, h, k, g: 3 * C * max(8, h) + 3 * max(8, h) + 2 * C,
    "coordinate_h": lambda C, h, k, g: 2 * C * max(8, h) + 3 * max(8, h) + C,
    "coordinate_w": lambda C, h, k, g: 2 * C * max(8, h) + 3 * max(8, h) + C,
    "aam": lambda C, h, k, g: {16: 3, 64: 3, 96: 3, 256: 5}[C] + 2 * k**2,
    "triplet": lambda C, h, k, g: 3 * (2 * k**2 + 2),
    "gather_excite_minus": lambda C, h, k, g: 0,
    "gather_excite_theta": lambda C, h, k, g: 33 * C,
    "gather_excite": lambda C, h, k, g: 33 * C + 2 * C * h + h + C,
    "gala": lambda C, h, k, g: 3 * C * h + k**2 * h**2 + 4 * h + 3 * C + 1,
    "non_local": lambda C, h, k, g: 4 * C * h + 3 * h + C,
    "self_attention": lambda C, h, k, g: 4 * C * h + 3 * h + C,
    "pixel_attention": lambda C, h, k, g: C**2 + C,
    "effective_se": lambda C, h, k, g: C**2 + C,
    "global_context": lambda C, h, k, g: 2 * C * h + 2 * C + 3 * h + 1,
    "simam": lambda C, h, k, g: 0,
    "srm": lambda C, h, k, g: 4 * C,
    "shuffle_attention": lambda C, h, k, g: 3 * C // g,
    "sge": lambda C, h, k, g: 2 * g,
    "ema": lambda C, h, k, g: 10 * (C // g) ** 2 + 4 * (C // g),
    "fca": lambda C, h, k, g: 2 * C * h,
    "scse": lambda C, h, k, g: 2 * C * h + h + 2 * C + 1,
    "dual_attention": lambda C, h, k, g: C**2 + C + 2 * C * h + 2 * h + 2,
    "lska": lambda C, h, k, g: C**2 + {7: 17, 11: 21, 23: 29, 35: 37}[k] * C,
    "strip": lambda C, h, k, g: (2 * k + 1) * C**2 + 5 * C,
    "ela": lambda C, h, k, g: (k + 2) * C,
    "parnet": lambda C, h, k, g: C**2,
    "gct": lambda C, h, k, g: 3 * C,
    "second_order": lambda C, h, k, g: 5 * C * h + 4 * h**2 + 9 * h + C,
    "spatial_transformer": lambda C, h, k, g: C * h + 97 * h + 6,
    "residual_attention": lambda C, h, k, g: 2 * C * h + 27 * h**2 + 8 * h + C,
}


def every_choice(name: str, channels: int) -> list[dict[str, Any]]:
    """All combinations of valid genes that `check` lets through."""
    kind = attention_type(name)
    lists = {gene: kind.valid(gene, channels) for gene in kind.genes}
    chosen = []
    for values in product(*lists.values()):
        genes = dict(zip(lists, values, strict=True))
        try:
            kind.check(channels, **genes)
        except UsageError:
            continue
        chosen.append(genes)
    return chosen


@pytest.mark.parametrize("name", list_attentions())
def test_parameters_equal_the_closed_form(name: str) -> None:
    kind = attention_type(name)
    for channels in CHANNELS:
        choices = every_choice(name, channels)
        assert choices
        # Building every gam is slow: the largest kernels are left to the smaller channel counts.
        for genes in choices if channels < 256 or len(choices) < 30 else choices[:: len(choices) // 12]:
            built = sum(p.numel() for p in create_attention(name, channels, **genes).parameters())
            assert built == kind.params(channels, **genes), (channels, genes)
            if name in SHEET and genes.get("arrangement") == kind.arrangement:
                full = kind.resolve(channels, **genes)
                hidden = max(1, channels // full.get("reduction", 1))
                assert built == SHEET[name](channels, hidden, full.get("kernel"), full.get("groups"))


def test_every_type_but_one_has_its_closed_form_in_the_sheet() -> None:
    assert set(list_attentions()) - set(SHEET) == {"augmented_conv"}  # which the sheet leaves open


@pytest.mark.parametrize("name", [name for name in list_attentions() if 3 in attention_type(name).dims])
def test_parameters_of_volumes(name: str) -> None:
    built = sum(p.numel() for p in create_attention(name, 16, dims=3).parameters())
    assert built == attention_type(name).params(16, dims=3)


def test_adaptive_defaults() -> None:
    assert [attention_type("eca").resolve(c)["kernel"] for c in (16, 64, 96, 128, 256, 512, 2048)] == [
        3,
        3,
        3,
        5,
        5,
        5,
        7,
    ]
    assert attention_type("eca").default("kernel") is None
    assert [attention_type("sge").resolve(c)["groups"] for c in (1, 6, 64, 96, 256)] == [1, 2, 64, 32, 64]
    assert attention_type("shuffle_attention").resolve(64)["groups"] == 32
    assert attention_type("cbam").resolve(64) == {"reduction": 16, "kernel": 7, "arrangement": "series"}


@pytest.mark.parametrize("name", list_attentions())
def test_valid_values_build_different_networks_and_hold_the_default(name: str) -> None:
    kind = attention_type(name)
    for channels, gene in product(CHANNELS, kind.genes):
        values = kind.valid(gene, channels)
        assert kind.resolve(channels)[gene] in values
        assert len({kind.effective(channels, **{gene: value}) for value in values}) == len(values)


@given(
    channel=st.sampled_from(CHANNEL_TYPES),
    spatial=st.sampled_from(SPATIAL_TYPES),
    channels=st.sampled_from((6, 16, 24)),
    data=st.data(),
)
def test_mixes_build_what_they_count(channel: str, spatial: str, channels: int, data: st.DataObject) -> None:
    kind = attention_type(f"{channel}+{spatial}")
    genes = {gene: data.draw(st.sampled_from(kind.valid(gene, channels)), label=gene) for gene in kind.genes}
    try:
        kind.check(channels, **genes)
    except UsageError:
        return
    module = create_attention(kind.name, channels, **genes)
    assert sum(p.numel() for p in module.parameters()) == kind.params(channels, **genes)
    spelled = kind.resolve(channels, **genes)
    assert kind.effective(channels, **genes) == kind.effective(channels, **spelled)


def test_equal_networks_have_equal_effective_values() -> None:
    cbam, eca = attention_type("cbam"), attention_type("eca")
    assert attention_type("cbam+cbam").effective(64) == cbam.effective(64)
    assert eca.effective(64) == eca.effective(64, kernel=3) != eca.effective(256)
    assert cbam.effective(8, reduction=8) == cbam.effective(8, reduction=32)  # h = 1 by the floor
    assert cbam.effective(64) != cbam.effective(64, arrangement="parallel")
    coordinate = attention_type("coordinate")
    assert coordinate.effective(64, reduction=8) == coordinate.effective(64, reduction=32)  # m = 8 by its own floor
    assert attention_type("scse+cbam").effective(64) == attention_type("se+cbam").effective(64, reduction=2)
    assert attention_type("se+dual_attention").effective(64) == attention_type("se+dual_attention").effective(
        64, reduction=16
    )


def test_genes_of_mixes() -> None:
    mix = attention_type("eca+cbam")
    assert mix.parts == ("channel", "spatial")
    assert mix.genes == ("kernel", "arrangement")
    assert mix.ignored == ("reduction",)
    assert mix.default("arrangement") == "series"
    mix.check(64, reduction=16, kernel=7)
    assert mix.effective(64, reduction=16) == mix.effective(64)
    # The kernel is the spatial part's; the channel part keeps its rule.
    assert mix.params(64, kernel=5) == 3 + 2 * 25 + 2
    assert attention_type("eca+scse").params(64, kernel=5) == 5 + 64 + 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: create_attention("sse", 64), ["'sse'", "did you mean", "cbam"]),
        (lambda: create_attention("eca+se", 64), ["se has no spatial part", "cbam", "sge"]),
        (lambda: create_attention("coordinate+cbam", 64), ["coordinate has no channel part", "eca"]),
        (lambda: create_attention("eca+cbm", 64), ["'cbm'", "cbam"]),
        (lambda: create_attention("se", 64, kernel=3), ["se has no gene kernel=3", "reduction"]),
        (lambda: create_attention("simam", 64, reduction=3), ["simam has no gene", "none"]),
        (lambda: create_attention("cbam", 64, kernel=4), ["kernel 4 of cbam is even", "3, 5, 7"]),
        (lambda: create_attention("lska", 64, kernel=9), ["kernel 9 of lska", "7, 11, 23, 35"]),
        (lambda: create_attention("cbam", 64, arrangement="both"), ["'both'", "series, parallel"]),
        (lambda: create_attention("se", 64, reduction=0), ["reduction of se", "from 1 to", "0"]),
        (lambda: create_attention("se", 64, reduction=True), ["reduction of se", "True"]),
        (lambda: create_attention("se", 0), ["channels", "0"]),
        (lambda: create_attention("gam", 64, groups=3), ["groups 3 of gam at 64", "h = 16", "1, 2, 4, 8, 16"]),
        (lambda: create_attention("ema", 24, groups=16), ["groups 16 of ema at 24", "1, 2, 3, 4, 6, 8, 12, 24"]),
        (lambda: create_attention("shuffle_attention", 9), ["shuffle_attention at 9", "none fits"]),
        (lambda: create_attention("se", 64, heads=4), ["se has no flag 'heads'", "bias"]),
        (lambda: create_attention("bam", 64, fusion="mean"), ["fusion='mean' of bam", "sum, product"]),
        (lambda: create_attention("coordinate", 64, dims=4), ["dims=4 of coordinate", "2, 3"]),
        (lambda: attention_type("cbam").valid("groups", 64), ["cbam has no gene groups", "kernel"]),
    ],
)
def test_refuses_with_the_valid_choices(call: Any, words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_the_former_name_of_the_identity_start_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="identity_init is now called identity_start"):
        old = create_attention("se", 8, identity_init=True)
    assert isinstance(old, IdentityStart)
    arch = Architecture.parse("attune_tiny:se,none,none")
    with pytest.warns(DeprecationWarning, match="identity_start") as warned:
        network = build_model(arch, 10, identity_init=True)
    assert warned[0].filename == __file__
    assert any(isinstance(module, IdentityStart) for module in network.modules())


def test_a_part_has_the_genes_of_the_table_only() -> None:
    with pytest.raises(UsageError, match=r"gene of a part 'kernels'.*did you mean 'kernel'"):
        part("toy", "whole", nn.Identity, lambda s: 0, kernels=3)


@pytest.mark.parametrize("name", [*list_attentions(), "eca+cbam"])
def test_description_is_json_and_complete(name: str) -> None:
    described = json.loads(json.dumps(attention_type(name).to_dict()))
    assert list(described) == ["name", "formula", "parts", "genes", "paper", "parameters", "dims", "flags"]
    assert described["name"] == name
    assert set(described["genes"]) == set(attention_type(name).genes)
    assert all(gene["default"] is not None and gene["valid"] for gene in described["genes"].values())
    assert described["formula"]
    assert described["paper"]
    assert described["parameters"]


def test_rules_name_what_fits() -> None:
    rules = {name: attention_type(name).to_dict()["genes"] for name in ("gam", "shuffle_attention", "lska", "cbam")}
    assert rules["gam"]["groups"]["valid"].startswith("g divides C and h; ")
    assert rules["shuffle_attention"]["groups"]["valid"].startswith("2g divides C; ")
    assert rules["lska"]["kernel"]["valid"] == "7, 11, 23, 35"
    assert rules["cbam"]["kernel"]["valid"] == "odd numbers; usual: 3, 5, 7, 9"
