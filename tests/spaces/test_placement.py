"""Placements and architectures: what parses, what is refused, and that equal networks have equal texts."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces import Architecture, Placement, build_model
from spaces.attention import attention_type, list_attentions
from spaces.errors import UsageError

CONTRACT = "resnet50:se-r16,none,cbam-r16-k7-series,gam-r4-k7-g4@stage"


def test_the_example_of_the_contract_gets_its_defaults_spelled_out() -> None:
    arch = Architecture.parse(CONTRACT)
    assert str(arch) == "resnet50:se-r16@slot,none,cbam-r16-k7-series@slot,gam-r4-k7-g4-series@stage"


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    name = draw(st.sampled_from(["none", *list_attentions(), "eca+cbam", "se+bam", "cbam+gam"]))
    if name == "none":
        return Placement("none")
    kind = attention_type(name)
    genes = {gene: draw(st.sampled_from([None, *kind.valid(gene, 256)])) for gene in kind.genes}
    if genes.get("groups"):
        genes["groups"] = min(genes["groups"], 4)  # divides every hidden width that comes up here
    return Placement(name, **genes, site=draw(st.sampled_from([None, "slot", "block", "stage"])))


@given(placements())
def test_a_placement_survives_its_text_and_its_dict(placement: Placement) -> None:
    assert Placement.parse(str(placement)) == placement
    assert Placement.from_dict(placement.to_dict()) == placement


@given(st.lists(placements(), min_size=4, max_size=4))
def test_an_architecture_survives_its_text_its_dict_and_a_second_canonicalisation(genes: list[Placement]) -> None:
    arch = Architecture("resnet50", tuple(genes))
    assert Architecture.parse(str(arch)) == arch
    assert Architecture.from_dict(arch.to_dict()) == arch
    assert Architecture(arch.backbone, arch.placements) == arch
    assert Architecture.parse(str(arch)).key == arch.key


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("resnet50:eca,none,none,none", "resnet50:eca-k5@slot,none,none,none"),  # the rule gives 5 at 256 channels
        ("resnet50:cbam,none,none,none", "resnet50:cbam-r16-k7-series,none,none,none"),
        ("resnet50:cbam+cbam,none,none,none", "resnet50:cbam,none,none,none"),
        ("resnet50:eca+cbam-r16-k7-parallel,none,none,none", "resnet50:eca+cbam-k7-parallel,none,none,none"),
        ("resnet50:se-r200,none,none,none", "resnet50:se-r255,none,none,none"),  # both have one hidden channel
        ("resnet50:se-r17,none,none,none", "resnet50:se-r17@slot,none,none,none"),
        ("mobilenetv2_100:se@block,none,none,none,none", "mobilenetv2_100:se@stage,none,none,none,none"),  # one block
    ],
)
def test_texts_that_build_the_same_network_print_the_same(first: str, second: str) -> None:
    one, two = Architecture.parse(first), Architecture.parse(second)
    assert str(one) == str(two)
    assert one.key == two.key
    shapes = [[p.shape for p in build_model(arch, 10).parameters()] for arch in (one, two)]
    assert shapes[0] == shapes[1]


def test_different_networks_print_differently() -> None:
    texts = {
        str(Architecture.parse(f"resnet50:{p},none,none,none"))
        for p in ("se-r8", "se-r16", "se@block", "eca-k3", "eca")
    }
    assert len(texts) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resnet50", ["BACKBONE:P1,P2"]),
        ("resnet50:se,none", ["4 stages", "2 placements"]),
        ("resnet51:none,none,none,none", ["resnet51", "did you mean"]),
        ("resnet50:sse,none,none,none", ["sse", "valid", "cbam"]),
        ("resnet50:se-k3,none,none,none", ["no gene k", "r"]),
        ("resnet50:se-x3,none,none,none", ["x3", "TYPE"]),
        ("resnet50:se-r0,none,none,none", ["r0"]),
        ("resnet50:se-r4-r8,none,none,none", ["twice"]),
        ("resnet50:se@head,none,none,none", ["head", "slot", "block", "stage"]),
        ("resnet50:none@slot,none,none,none", ["none"]),
        ("resnet50:gam-r4-g7,none,none,none", ["7", "64"]),
        ("resnet50:se-series,none,none,none", ["arrangement"]),
        ("resnet50:,none,none,none", ["empty"]),
    ],
)
def test_a_mistake_gets_one_line_that_names_it(text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as refusal:
        Architecture.parse(text)
    message = str(refusal.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_key_is_stable_across_processes_and_versions() -> None:
    assert Architecture.parse("resnet50:none,none,none,none").key == "3ebb0d1dd309c513"


@pytest.mark.parametrize(
    ("placement", "text", "shown"),
    [
        (Placement("none", reduction=4, site="slot"), "none", "'none', None, None, None, None, None"),
        (Placement("eca"), "eca", "'eca', None, None, None, None, None"),
        (Placement("se", reduction=16, site="slot"), "se-r16@slot", "'se', 16, None, None, None, 'slot'"),
        (Placement("gam", groups=4), "gam-r4-k7-g4-series", "'gam', 4, 7, 4, 'series', None"),
        (Placement("eca+cbam", reduction=8), "eca+cbam-k7-series", "'eca+cbam', None, 7, None, 'series', None"),
    ],
)
def test_text_and_repr_stay(placement: Placement, text: str, shown: str) -> None:
    """Stores hold the one, and identities in them hash the other."""
    names = ("type", "reduction", "kernel", "groups", "arrangement", "site")
    assert str(placement) == text
    assert repr(placement) == f"Placement({', '.join(map('='.join, zip(names, shown.split(', '), strict=True)))})"
    assert [repr(getattr(placement, name)) for name in names] == shown.split(", ")
    assert pickle.loads(pickle.dumps(placement)) == placement
    assert hash(copy.deepcopy(placement)) == hash(placement)


def test_a_placement_takes_the_genes_of_the_table_only() -> None:
    with pytest.raises(UsageError, match=r"unknown gene 'ratio'; valid: reduction, kernel, groups, arrangement"):
        Placement("se", ratio=4)
    with pytest.raises(AttributeError, match="ratio"):
        _ = Placement("se").ratio


def test_unknown_keys_of_a_dict_are_refused() -> None:
    with pytest.raises(UsageError, match="reductoin"):
        Placement.from_dict({"type": "se", "reductoin": 4})
