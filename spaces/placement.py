"""Placement and Architecture: the genotype as frozen values, with one canonical form and its text, JSON and hash.

Text: ``BACKBONE:P1,P2,...`` with one placement per stage, ``P = none | TYPE[+TYPE][-rN][-kN][-gN][-series|-parallel][@SITE]``.
Two texts that build the same network have one canonical form; what a gene really builds depends on the channels of the
sites, so an Architecture is made canonical against its backbone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from spaces.attention import AttentionType, attention_type
from spaces.errors import UsageError, unknown

if TYPE_CHECKING:
    from spaces.backbone import Stage

SITES = ("slot", "block", "stage")
ARRANGEMENTS = ("series", "parallel")
LETTERS = {"reduction": "r", "kernel": "k", "groups": "g"}
GENES = (*LETTERS, "arrangement")

_NUMBER = re.compile(r"([rkg])([1-9][0-9]*)")
_GRAMMAR = "none or TYPE[-rN][-kN][-gN][-series|-parallel][@slot|@block|@stage]"


@dataclass(frozen=True)
class Placement:
    """What one stage gets: an attention type, its genes and its site.

    A gene left None takes the type's published default; ``kernel`` stays None only where that default is a rule over the
    channels (ECA). ``site`` None means the first kind of site that the stage offers.

    Raises UsageError for an unknown type, a gene that the type does not have, or a value out of range.
    """

    type: str
    reduction: int | None = None
    kernel: int | None = None
    groups: int | None = None
    arrangement: str | None = None
    site: str | None = None

    def __post_init__(self) -> None:
        if self.type == "none":
            for field in fields(self)[1:]:
                object.__setattr__(self, field.name, None)
            return
        first, _, second = self.type.partition("+")
        if first == second:
            object.__setattr__(self, "type", first)
        kind = attention_type(self.type)
        accepted = _accepted_genes(kind)
        for gene in GENES:
            value = getattr(self, gene)
            if value is not None and gene not in accepted:
                raise UsageError(f"placement {self.type!r} has no gene {_name(gene)}; its genes: {_names(kind.genes)}")
            object.__setattr__(self, gene, self._resolved(kind, gene, value))
        if self.site is not None and self.site not in SITES:
            raise unknown("site", self.site, SITES)

    @staticmethod
    def _resolved(kind: AttentionType, gene: str, value: Any) -> Any:
        if gene not in kind.genes:  # a mix leaves out what its two parts do not use
            return None
        if value is None:
            return kind.default(gene)
        if gene == "arrangement":
            if value not in ARRANGEMENTS:
                raise unknown("arrangement", value, ARRANGEMENTS)
        elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"placement {kind.name!r}: {gene} must be a positive integer, not {value!r}")
        return value

    @property
    def genes(self) -> dict[str, Any]:
        """The keyword arguments of ``create_attention``, ``AttentionType.check``, ``effective`` and ``params``."""
        return {gene: getattr(self, gene) for gene in GENES}

    @property
    def is_none(self) -> bool:
        return self.type == "none"

    def __str__(self) -> str:
        words = [self.type]
        words += [f"{letter}{value}" for gene, letter in LETTERS.items() if (value := getattr(self, gene)) is not None]
        words += [self.arrangement] if self.arrangement else []
        return "-".join(words) + (f"@{self.site}" if self.site else "")

    @classmethod
    def parse(cls, text: str) -> Placement:
        """Read one placement; raises UsageError with the valid choices."""
        body, at, site = text.strip().partition("@")
        if at and not site:
            raise UsageError(f"placement {text!r}: '@' needs a site; valid: {', '.join(SITES)}")
        type_, *words = body.split("-")
        if not type_:
            raise UsageError(f"empty placement {text!r}; expected {_GRAMMAR}")
        values: dict[str, Any] = {"site": site or None}
        letters = {letter: gene for gene, letter in LETTERS.items()}
        for word in words:
            number = _NUMBER.fullmatch(word)
            if not number and word not in ARRANGEMENTS:
                raise UsageError(f"placement {text!r}: cannot read {word!r}; expected {_GRAMMAR}")
            gene = letters[number[1]] if number else "arrangement"
            if gene in values:
                raise UsageError(f"placement {text!r}: {_name(gene)} is given twice")
            values[gene] = int(number[2]) if number else word
        if type_ == "none" and (words or site):
            raise UsageError(f"placement {text!r}: 'none' has neither genes nor a site")
        return cls(type_, **values)

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Placement:
        _refuse_unknown_keys("placement", data, [field.name for field in fields(cls)])
        if "type" not in data:
            raise UsageError(f"placement {dict(data)!r} needs the key 'type'")
        return cls(**data)

    def at(self, stage: Stage) -> Placement:
        """The canonical form at one stage of a backbone: among all placements that build the same network there, one.

        Raises UsageError where the stage lacks the site or the genes do not fit its channels (g must divide h).
        """
        if self.is_none:
            return self
        offered = [kind for kind in SITES if stage.sites.get(kind)]
        site = self.site or offered[0]
        if site not in offered:
            raise UsageError(f"placement '{self}': this stage has no {site} sites; valid: {', '.join(offered)}")
        if site == "stage" and stage.sites["stage"] == stage.sites.get("block"):
            site = "block"  # a stage of one block: after every block and after the last one are the same place
        channels = tuple(dict.fromkeys(where.channels for where in stage.sites[site]))
        for count in channels:
            attention_type(self.type).check(count, **self.genes)
        return replace(_canonical_genes(self, channels), site=site)


NONE = Placement("none")


@dataclass(frozen=True)
class Architecture:
    """A backbone and one placement per stage, always in canonical form.

    Raises UsageError for an unknown backbone, a wrong number of stages, or placements that do not fit their stage.
    """

    backbone: str
    placements: tuple[Placement, ...]

    def __post_init__(self) -> None:
        from spaces.backbone import describe_backbone  # the backbone knows its sites; the text form alone does not

        stages = describe_backbone(self.backbone).stages
        if len(self.placements) != len(stages):
            raise UsageError(
                f"{self.backbone} has {len(stages)} stages, but {len(self.placements)} placements are given: "
                f"{','.join(map(str, self.placements))}"
            )
        canonical = []
        for number, (placement, stage) in enumerate(zip(self.placements, stages, strict=True), start=1):
            try:
                canonical.append(placement.at(stage))
            except UsageError as error:
                raise UsageError(f"{self.backbone}, stage {number}: {error}") from None
        object.__setattr__(self, "placements", tuple(canonical))

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read ``BACKBONE:P1,P2,...``; raises UsageError in one line that names the valid choices."""
        backbone, colon, body = text.strip().rpartition(":")
        if not colon or not backbone:
            raise UsageError(
                f"architecture {text!r} is not of the form BACKBONE:P1,P2,... with one placement per stage"
            )
        return cls(backbone, tuple(Placement.parse(word) for word in body.split(",")))

    @classmethod
    def plain(cls, backbone: str) -> Architecture:
        """The backbone without attention."""
        from spaces.backbone import describe_backbone

        return cls(backbone, (NONE,) * len(describe_backbone(backbone).stages))

    @property
    def is_plain(self) -> bool:
        return all(placement.is_none for placement in self.placements)

    @property
    def key(self) -> str:
        """A stable hash of the content: 16 hexadecimal digits of SHA-256 over the canonical text."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:16]

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


def _placement(item: str | Mapping[str, Any]) -> Placement:
    return Placement.parse(item) if isinstance(item, str) else Placement.from_dict(item)


def _canonical_genes(placement: Placement, channels: tuple[int, ...]) -> Placement:
    """One representative of all genes that build the same modules at the given channels.

    A kernel given as a rule is spelled out where one number builds the same everywhere. Of the reduction ratios with the
    same hidden widths, the published default comes first, then powers of two, then the smallest.
    """
    kind = attention_type(placement.type)

    def built(genes: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(kind.effective(count, **genes) for count in channels)

    wanted = built(placement.genes)
    if "kernel" in kind.genes and placement.kernel is None:
        kernels = range(1, 2 * max(channels).bit_length() + 1, 2)
        spelled = [replace(placement, kernel=kernel) for kernel in kernels]
        placement = next((p for p in spelled if built(p.genes) == wanted), placement)
    if placement.reduction is not None:
        default = kind.default("reduction")
        preferred = [default, *(2**power for power in range(13)), *range(1, placement.reduction)]
        same = (r for r in preferred if built({**placement.genes, "reduction": r}) == wanted)
        placement = replace(placement, reduction=next(same, placement.reduction))
    return placement


def _accepted_genes(kind: AttentionType) -> set[str]:
    """Genes that may be written: the type's own, and for a mix those of the two types it is named after."""
    return set(kind.genes).union(*(attention_type(name).genes for name in kind.name.split("+")))


def _name(gene: str) -> str:
    return LETTERS.get(gene, gene)


def _names(genes: Sequence[str]) -> str:
    return ", ".join(_name(gene) for gene in genes) or "none"


def _refuse_unknown_keys(what: str, data: Mapping[str, Any], valid: Sequence[str]) -> None:
    for key in data:
        if key not in valid:
            raise unknown(f"{what} key", key, valid)
