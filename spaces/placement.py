"""Placement and Architecture: the genotype as frozen values, with one canonical form and its text, JSON and hash.

Text: ``BACKBONE:P1,P2,...`` with one placement per stage, ``P = none | TYPE[+TYPE][-rN][-kN][-gN][-series|-parallel][@SITE]``,
``SITE = slot | block | block/N | stage``, and ``decoder`` for stages beyond the backbone's, which follow them;
which genes there are, and how they are written, is told by the table in ``spaces.attention.genes``.
Two texts that build the same network have one canonical form; what a gene really builds depends on the channels of the
sites, so an Architecture is made canonical against its backbone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spaces.attention import AttentionType, attention_type
from spaces.attention.genes import BY_NAME, GENES, Value
from spaces.backbone import Stage, describe_backbone
from spaces.errors import UsageError, cut, shortened, unknown
from spaces.plugins import is_brought
from spaces.written import SITES as SITES
from spaces.written import key_of

BEYOND = "decoder"  # of the stages that a head has of its own
_EVERY = re.compile(r"block/([1-9][0-9]{0,5})")  # after every N-th block

_WRITTEN = (*SITES, "block/N", BEYOND)
_GRAMMAR = f"none or TYPE{''.join(f'[-{gene.grammar}]' for gene in GENES)}[{'|'.join('@' + site for site in _WRITTEN)}]"
# Stored identities hash the repr of placements: it names these genes always, and one that came later where it has a value.
_ALWAYS_NAMED = ("reduction", "kernel", "groups", "arrangement")


@dataclass(frozen=True, init=False, repr=False)
class Placement:
    """What one stage gets: an attention type, its genes and its site.

    Genes are given by keyword and read as attributes: ``Placement("se", reduction=16, site="slot").reduction``. A gene that
    is left out, or None, takes the type's published default. It stays None where that default is a rule over the channels
    (ECA's kernel) and where the type has no such gene. ``site`` None means the first kind of site that the stage offers.

    Raises UsageError for an unknown type, a gene that the type does not have, or a value out of range.
    """

    type: str
    values: tuple[tuple[str, Value], ...]  # of the genes that have one, in the order of the table
    site: str | None

    def __init__(self, type: str, *, site: str | None = None, **genes: Value | None) -> None:
        for name in genes:
            if name not in BY_NAME:
                raise unknown("gene", name, BY_NAME)
        first, _, second = type.partition("+")
        type = first if first == second else type
        values: list[tuple[str, Value]] = []
        if type == "none":
            site = None
        else:
            entry = attention_type(type)
            accepted = _accepted_genes(entry)
            for gene in BY_NAME:
                value = genes.get(gene)
                if value is not None and gene not in accepted:
                    raise UsageError(
                        f"placement {shortened(type)} has no gene {_label(gene)}; its genes: {_labels(entry.genes)}"
                    )
                if gene not in entry.genes:  # a mix leaves out what its two parts do not use
                    continue
                if value is None:
                    value = entry.default(gene)
                else:
                    entry.check_value(gene, value)
                values += [(gene, value)] if value is not None else []
            if site is not None:
                site = check_site(site)
        for key, content in (("type", type), ("values", tuple(values)), ("site", site)):
            object.__setattr__(self, key, content)

    def __getattr__(self, gene: str) -> Value | None:
        if gene in BY_NAME:
            return self.genes.get(gene)
        raise AttributeError(f"a placement has no attribute {gene!r}")

    def __repr__(self) -> str:
        genes = {**dict.fromkeys(_ALWAYS_NAMED), **self.genes}
        return f"Placement({', '.join(f'{key}={value!r}' for key, value in self._named(genes))})"

    def _named(self, genes: Mapping[str, Value | None]) -> list[tuple[str, Value | None]]:
        return [("type", self.type), *((gene, genes[gene]) for gene in BY_NAME if gene in genes), ("site", self.site)]

    @property
    def genes(self) -> dict[str, Any]:
        """The genes that have a value: keywords of ``create_attention``, ``AttentionType.check`` and ``effective``."""
        return dict(self.values)

    @property
    def is_none(self) -> bool:
        return self.type == "none"

    def __str__(self) -> str:
        words = [self.type, *(BY_NAME[gene].text(value) for gene, value in self.values)]
        return "-".join(words) + (f"@{self.site}" if self.site else "")

    @classmethod
    def parse(cls, text: str) -> Placement:
        """Read one placement; raises UsageError with the valid choices."""
        body, at, site = text.strip().partition("@")
        if at and not site:
            raise UsageError(f"placement {shortened(text)}: '@' needs a site; valid: {', '.join(_WRITTEN)}")
        type_, *words = body.split("-")
        if not type_:
            raise UsageError(f"empty placement {shortened(text)}; expected {_GRAMMAR}")
        values: dict[str, Value] = {}
        for word in words:
            read = {gene.name: value for gene in GENES if (value := gene.read(word)) is not None}
            if not read:
                raise UsageError(f"placement {shortened(text)}: cannot read {shortened(word)}; expected {_GRAMMAR}")
            for gene in read:
                if gene in values:
                    raise UsageError(f"placement {shortened(text)}: {_label(gene)} is given twice")
            values |= read
        if type_ == "none" and (words or site):
            raise UsageError(f"placement {shortened(text)}: 'none' has neither genes nor a site")
        return cls(type_, site=site or None, **values)

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in self._named(self.genes) if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Placement:
        _refuse_unknown_keys("placement", data, ["type", *BY_NAME, "site"])
        if "type" not in data:
            raise UsageError(f"placement {shortened(dict(data))} needs the key 'type'")
        return cls(**data)

    def at(self, stage: Stage) -> Placement:
        """The canonical form at one stage of a backbone: among all placements that build the same network there, one.

        Raises UsageError where the stage lacks the site or the genes do not fit its channels (g must divide h).
        """
        if self.is_none:
            return self
        offered = [site for site in (*SITES, BEYOND) if stage.sites.get(site)]
        site = self.site or offered[0]
        if not stage.at(site):
            more = [f"block/2 to block/{len(stage.blocks)}"] if len(stage.blocks) > 1 else []
            raise UsageError(
                f"placement {shortened(str(self))}: this stage has no {site} sites; valid: {', '.join([*offered, *more])}"
            )
        # In a short stage, every (N-th) block and the last one can be the same place: one name for it.
        site = next((kind for kind in ("block", "stage") if site != "slot" and stage.at(site) == stage.at(kind)), site)
        channels = tuple(dict.fromkeys(where.channels for where in stage.at(site)))
        for count in channels:
            attention_type(self.type).check(count, dims=stage.at(site)[0].dims, **self.genes)
        return Placement(self.type, site=site, **_canonical_genes(self, channels))


def check_site(site: str) -> str:
    """The site as it is written in canonical texts: ``block/1`` is ``block``. Raises UsageError for one that is none."""
    if site not in (*SITES, BEYOND) and not (isinstance(site, str) and _EVERY.fullmatch(site)):
        raise unknown("site", site, (*SITES, "block/N (after every N-th block)", BEYOND))
    return "block" if site == "block/1" else site


NONE = Placement("none")


@dataclass(frozen=True)
class Architecture:
    """A backbone and one placement per stage, always in canonical form.

    More placements than the backbone has stages belong to the head, whose stages follow. They can be checked, and be made
    canonical, only against a network (``NetworkSpec.placed``); those at the end that are ``none`` are left out.
    Raises UsageError for an unknown backbone, too few placements, or placements that do not fit their stage.
    """

    backbone: str
    placements: tuple[Placement, ...]

    def __post_init__(self) -> None:
        stages = describe_backbone(self.backbone).stages
        if len(self.placements) < len(stages):
            raise UsageError(
                f"{self.backbone} has {len(stages)} stages, but {len(self.placements)} placements are given: "
                f"{cut(','.join(map(str, self.placements)), 200)}"
            )
        found = [*check_each(self.backbone, self.placements, stages), *map(_beyond, self.placements[len(stages) :])]
        while len(found) > len(stages) and found[-1].is_none:
            found.pop()
        object.__setattr__(self, "placements", tuple(found))

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read ``BACKBONE:P1,P2,...``; raises UsageError in one line that names the valid choices."""
        backbone, colon, body = text.strip().rpartition(":")
        if not colon or not backbone:
            raise UsageError(
                f"architecture {shortened(text)} is not of the form BACKBONE:P1,P2,... with one placement per stage"
            )
        return cls(backbone, tuple(Placement.parse(word) for word in body.split(",")))

    @classmethod
    def read(cls, text: str) -> Architecture:
        """As ``parse``; the name of a backbone alone is the plain one."""
        return cls.parse(text) if names_backbone(text) else cls.plain(text)

    @classmethod
    def plain(cls, backbone: str) -> Architecture:
        """The backbone without attention."""
        return cls(backbone, (NONE,) * len(describe_backbone(backbone).stages))

    @property
    def is_plain(self) -> bool:
        return all(placement.is_none for placement in self.placements)

    @property
    def key(self) -> str:
        """A stable hash of the content: 16 hexadecimal digits of SHA-256 over the canonical text."""
        return key_of(str(self))

    def __str__(self) -> str:
        return f"{self.backbone}:{','.join(map(str, self.placements))}"

    def to_dict(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "placements": [placement.to_dict() for placement in self.placements]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        _refuse_unknown_keys("architecture", data, ("backbone", "placements"))
        if not isinstance(data.get("backbone"), str) or not isinstance(data.get("placements"), Sequence):
            raise UsageError("an architecture needs 'backbone' (a name) and 'placements' (a list, one per stage)")
        return cls(data["backbone"], tuple(_placement(item) for item in data["placements"]))


def names_backbone(text: str) -> bool:
    """Whether there are placements behind the name of a backbone; of a user's own network, its name has colons itself."""
    return text.count(":") > 2 if is_brought(text) else ":" in text


def canonical(arch: Architecture, stages: Sequence[Stage]) -> tuple[Placement, ...]:
    """One canonical placement for each stage of a network, ``none`` for those that an architecture leaves out.

    Raises UsageError for more placements than there are stages, and for one that does not fit its stage.
    """
    given = arch.placements
    if len(given) > len(stages):
        beyond = [stage.name for stage in stages if stage.name]
        own = f", of which the last {len(beyond)} are {', '.join(beyond)}" if beyond else ""
        raise UsageError(
            f"this network on {arch.backbone} has {len(stages)} stages{own}, but {len(given)} placements are given: "
            f"{cut(','.join(map(str, given)), 200)}"
        )
    return tuple(check_each(arch.backbone, (*given, *[NONE] * (len(stages) - len(given))), stages))


def check_each(backbone: str, placements: Sequence[Placement], stages: Sequence[Stage]) -> list[Placement]:
    found = []
    for number, (placement, stage) in enumerate(zip(placements, stages, strict=False), start=1):
        try:
            found.append(placement.at(stage))
        except UsageError as error:
            raise UsageError(f"{backbone}, stage {number}: {error}") from None
    return found


def _beyond(placement: Placement) -> Placement:
    """A placement of a head's stage, which has one kind of site."""
    if placement.site not in (None, BEYOND):
        raise UsageError(
            f"placement {shortened(str(placement))} is beyond the backbone's stages; valid there: @{BEYOND}"
        )
    return placement if placement.is_none else Placement(placement.type, site=BEYOND, **placement.genes)


def _placement(item: str | Mapping[str, Any]) -> Placement:
    return Placement.parse(item) if isinstance(item, str) else Placement.from_dict(item)


def _canonical_genes(placement: Placement, channels: tuple[int, ...]) -> dict[str, Value]:
    """One representative of all genes that build the same modules at the given channels; ``Gene.alike`` says which."""
    entry = attention_type(placement.type)

    def built(genes: Mapping[str, Value]) -> tuple[Any, ...]:
        return tuple(entry.effective(count, **genes) for count in channels)

    genes, wanted = placement.genes, built(placement.genes)
    for gene in (BY_NAME[name] for name in entry.genes if BY_NAME[name].letter):
        value, default = genes.get(gene.name), entry.default(gene.name)
        candidates = gene.alike(_number(value), _number(default), max(channels))
        same = (one for one in candidates if built({**genes, gene.name: one}) == wanted)
        if (found := next(same, value)) is not None:
            genes[gene.name] = found
    return genes


def _number(value: Value | None) -> int | None:
    return None if value is None else int(value)


def _accepted_genes(entry: AttentionType) -> set[str]:
    """Genes that may be written: the type's own, and for a mix those of the two types it is named after."""
    return set(entry.genes).union(*(attention_type(name).genes for name in entry.name.split("+")))


def _label(gene: str) -> str:
    return BY_NAME[gene].label


def _labels(genes: Sequence[str]) -> str:
    return ", ".join(_label(gene) for gene in genes) or "none"


def _refuse_unknown_keys(what: str, data: Mapping[str, Any], valid: Sequence[str]) -> None:
    for key in data:
        if key not in valid:
            raise unknown(f"{what} key", key, valid)
