"""Placements and architectures: what parses, what is refused, and that equal networks have equal texts."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spaces import Architecture, Placement, build_model
from spaces.attention import attention_type, list_attentions
from spaces.backbone import describe_backbone
from spaces.errors import UsageError
from spaces.placement import canonical

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
    with torch.device("meta"):
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


GRAMMAR = r"none or TYPE[-rN][-kN][-gN][-series|-parallel][@slot|@block|@stage|@block/N|@decoder]"
SITES = "valid: slot, block, stage, block/N (after every N-th block), decoder"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("se@", "placement 'se@': '@' needs a site; valid: slot, block, stage, block/N, decoder"),
        ("-r4", f"empty placement '-r4'; expected {GRAMMAR}"),
        ("se-x3", f"placement 'se-x3': cannot read 'x3'; expected {GRAMMAR}"),
        ("se-r4-r4", "placement 'se-r4-r4': r is given twice"),
        ("gam-series-parallel", "placement 'gam-series-parallel': arrangement is given twice"),
        ("none-r4", "placement 'none-r4': 'none' has neither genes nor a site"),
        ("none@slot", "placement 'none@slot': 'none' has neither genes nor a site"),
        ("se@block/1000000", f"unknown site 'block/1000000'; {SITES}"),
        ("se@slot@x", f"unknown site 'slot@x' (did you mean 'slot'?); {SITES}"),
        ("se-k3", "placement 'se' has no gene k; its genes: r"),
        ("simam-r4", "placement 'simam' has no gene r; its genes: none"),
        ("eca+cbam-g4", "placement 'eca+cbam' has no gene g; its genes: k, arrangement"),
    ],
)
def test_what_is_wrong_with_a_placement_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Placement.parse(text)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (":se", "architecture ':se' is not of the form BACKBONE:P1,P2,... with one placement per stage"),
        ("resnet18:se,none", "resnet18 has 4 stages, but 2 placements are given: se-r16,none"),
        (
            "resnet50:se,se@block/9,none,none",
            "resnet50, stage 2: placement 'se-r16@block/9': this stage has no block/9 sites; "
            "valid: slot, block, stage, block/2 to block/4",
        ),
        (
            "mobilenetv2_100:se@block/2,none,none,none,none",
            "mobilenetv2_100, stage 1: placement 'se-r16@block/2': this stage has no block/2 sites; "
            "valid: slot, block, stage",
        ),
    ],
)
def test_what_is_wrong_with_an_architecture_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Architecture.parse(text)
    assert str(refusal.value) == message


def test_a_long_list_of_placements_is_cut_in_a_message() -> None:
    arch = Architecture(
        "resnet18", (Placement("se", site=None),) * 99
    )  # of a head with many stages, for all that it knows
    with pytest.raises(UsageError, match=r"has 4 stages, but 99 placements are given: se-r16@slot,se") as refusal:
        canonical(arch, describe_backbone("resnet18").stages)
    assert 200 < len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "an architecture needs 'backbone' (a name) and 'placements' (a list, one per stage)"),
        ({"backbone": 3, "placements": ["se"] * 4}, "an architecture needs 'backbone' (a name) and 'placements'"),
        ({"backbone": "resnet18", "placements": 4}, "an architecture needs 'backbone' (a name) and 'placements'"),
        (
            {"backbone": "resnet18", "placement": []},
            "unknown architecture key 'placement' (did you mean 'placements'?)",
        ),
        ({"backbone": "resnet18", "placements": [{"reduction": 4}]}, "placement {'reduction': 4} needs the key 'type'"),
        ({"backbone": "resnet18", "placements": [{"typ": "se"}]}, "unknown placement key 'typ' (did you mean 'type'?)"),
    ],
)
def test_what_is_wrong_with_a_dict_is_said(data: dict, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Architecture.from_dict(data)
    assert str(refusal.value).startswith(message)


def test_dicts_name_what_has_a_value() -> None:
    arch = Architecture.from_dict({"backbone": "resnet18", "placements": ["se", {"type": "eca"}, "none", "gam@stage"]})
    gam = {"type": "gam", "reduction": 4, "kernel": 7, "groups": 1, "arrangement": "series", "site": "stage"}
    placements = [{"type": "se", "reduction": 16, "site": "slot"}, {"type": "eca", "kernel": 5, "site": "slot"}]
    assert arch.to_dict() == {"backbone": "resnet18", "placements": [*placements, {"type": "none"}, gam]}
    assert list(arch.to_dict()["placements"][3]) == list(gam)


def test_the_plain_architecture() -> None:
    plain = Architecture.plain("resnet18")
    assert str(plain) == "resnet18:none,none,none,none"
    assert plain.is_plain
    assert not Architecture.parse("resnet18:none,none,none,se").is_plain


def test_space_around_a_text_means_nothing() -> None:
    assert str(Placement.parse(" se-r4@slot\n")) == "se-r4@slot"
    assert str(Architecture.parse("\tresnet18: se ,none, none,none ")) == "resnet18:se-r16@slot,none,none,none"


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        (
            "resnet18:se@block/1,se@block/2,se,none",
            "se-r16@block,se-r16@stage,se-r16@slot,none",
        ),  # stages of two blocks
        (
            "resnet50:se@block/2,se@block/2,se@block/3,none",
            "se-r16@block/2,se-r16@block/2,se-r16@block/3,none",
        ),  # 3, 4, 6
        ("resnet50:se@block/3,se@block/4,se@block/6,none", "se-r16@stage,se-r16@stage,se-r16@stage,none"),
    ],
)
def test_a_place_has_one_name(given: str, canonical: str) -> None:
    assert str(Architecture.parse(given)).partition(":")[2] == canonical


def test_a_canonical_form_builds_what_was_asked_for_at_every_site() -> None:
    for text in ("se-r16", "se-r4", "se-r3", "eca", "eca-k5", "cbam-r8-k3-parallel"):
        for stage in [*describe_backbone("resnet18").stages, *describe_backbone("mobilenetv2_100").stages]:
            asked = Placement.parse(text)
            one = asked.at(stage)
            kind, channels = attention_type(asked.type), [site.channels for site in stage.at(one.site)]
            built = [[kind.effective(count, **genes) for count in channels] for genes in (asked.genes, one.genes)]
            assert built[0] == built[1]
            assert one.at(stage) == one


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
    with pytest.raises(AttributeError, match=r"^a placement has no attribute 'ratio'$"):
        _ = Placement("se").ratio


def test_unknown_keys_of_a_dict_are_refused() -> None:
    with pytest.raises(UsageError, match="reductoin"):
        Placement.from_dict({"type": "se", "reductoin": 4})


def test_the_end_of_a_stage_of_one_block_is_called_its_block() -> None:
    """As the texts of all runs so far have it."""
    for site in ("block", "stage"):
        arch = Architecture.parse(f"mobilenetv2_100:se@{site},none,none,none,none")
        assert str(arch) == "mobilenetv2_100:se-r16@block,none,none,none,none"


def test_a_backbone_of_ones_own_has_colons_in_its_name() -> None:
    name = "module:tests.spaces.backbones.test_insertion:tv_resnet18"
    arch = Architecture.parse(f"{name}:se,none,none,none")
    assert (arch.backbone, arch.placements[0].type, len(arch.placements)) == (name, "se", 4)
    assert Architecture.parse(str(arch)) == arch
