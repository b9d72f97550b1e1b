"""The drawings of the documentation, as SVG: how a type is composed, where attention sits in a network, how a candidate flows.

Fills are dark enough for white words, lines and free words of a grey that reads on light and on dark pages alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

import torch

from spaces.attention import AttentionType, Gate, attention_type
from spaces.backbone import describe_backbone
from spaces.placement import Architecture

GREY, BLUE, GREEN, ORANGE, PURPLE = "#7d8590", "#2f6fbd", "#2c7f4f", "#b35a1f", "#7a4fb0"
FONT = "font-family='system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif'"
SHAPES = {(1, 8, 1, 1): "B × C × 1 × 1", (1, 1, 6, 6): "B × 1 × H × W", (1, 8, 6, 6): "B × C × H × W"}


@dataclass
class Drawing:
    """An SVG that grows by shapes; ``title`` is read to those who do not see it."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def line(self, *points: tuple[float, float], arrow: bool = True, dashed: bool = False) -> None:
        """A line through points, with an arrow at its end."""
        path = " ".join(f"{'M' if i == 0 else 'L'}{x:g} {y:g}" for i, (x, y) in enumerate(points))
        end = " marker-end='url(#arrow)'" if arrow else ""
        dash = " stroke-dasharray='5 4'" if dashed else ""
        self.parts.append(f"<path d='{path}' fill='none' stroke='{GREY}' stroke-width='1.6'{end}{dash}/>")

    def box(self, x: float, y: float, width: float, height: float, fill: str, *lines: str, size: float = 13) -> None:
        """A filled box around the point (x, y), with lines of words, the first of them bold."""
        left, top = x - width / 2, y - height / 2
        self.parts.append(
            f"<rect x='{left:g}' y='{top:g}' width='{width:g}' height='{height:g}' rx='6' fill='{fill}'/>"
        )
        for index, words in enumerate(lines):
            at = y + size * 0.36 + (index - (len(lines) - 1) / 2) * size * 1.3
            weight = " font-weight='600'" if index == 0 else ""
            self.text(x, at, words, size=size if index == 0 else size - 1.5, fill="#fff", more=weight)

    def circle(self, x: float, y: float, sign: str) -> None:
        """An operation: what comes in is multiplied, or added."""
        self.parts.append(f"<circle cx='{x:g}' cy='{y:g}' r='12' fill='none' stroke='{GREY}' stroke-width='1.6'/>")
        self.text(x, y + 5.5, sign, size=16)

    def dot(self, x: float, y: float) -> None:
        """Where one map goes two ways."""
        self.parts.append(f"<circle cx='{x:g}' cy='{y:g}' r='3' fill='{GREY}'/>")

    def text(
        self, x: float, y: float, words: str, size: float = 13, fill: str = GREY, anchor: str = "middle", more: str = ""
    ) -> None:
        """Words around, or from, a point of their base line."""
        self.parts.append(
            f"<text x='{x:g}' y='{y:g}' font-size='{size:g}' text-anchor='{anchor}' fill='{fill}'{more}>"
            f"{escape(words)}</text>"
        )

    def svg(self) -> str:
        """The whole as text."""
        arrow = (
            "<defs><marker id='arrow' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
            f"<path d='M0 0 L8 4 L0 8 z' fill='{GREY}'/></marker></defs>"
        )
        size = f"viewBox='0 0 {self.width} {self.height}' width='{self.width}' height='{self.height}'"
        head = f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img' {FONT}>"
        return "\n".join([head, f"<title>{escape(self.title)}</title>", arrow, *self.parts, "</svg>", ""])


def composition(name: str) -> str:
    """How a type is put together; one of two parts in both arrangements, its published one first."""
    entry = attention_type(name)
    if len(entry.members) == 1:
        drawing = Drawing(520, 150, f"How {name} is put together")
        _one(drawing, entry)
        return drawing.svg()
    drawing = Drawing(680, 330, f"How {name} is put together, in series and in parallel")
    orders = ("series", "parallel") if entry.arrangement == "series" else ("parallel", "series")
    for index, arrangement in enumerate(orders):
        top = 165 * index
        published = " (as published)" if index == 0 else ""
        drawing.text(14, top + 20, f"in {arrangement}{published}", anchor="start", size=12.5)
        (_series if arrangement == "series" else _parallel)(drawing, entry, top)
    return drawing.svg()


def _one(drawing: Drawing, entry: AttentionType) -> None:
    """One part: a gate beside x, something that is added to x, or a module of its own."""
    (part,) = entry.members
    sign = {"x *": "×", "x +": "+"}.get(entry.equation[:3])
    drawing.text(20, 45, "x", size=16)
    drawing.text(500, 45, "y", size=16)
    if sign is None:
        drawing.line((35, 40), (180, 40))
        drawing.box(260, 40, 160, 48, PURPLE, entry.name, "x is transformed")
        drawing.line((340, 40), (485, 40))
        drawing.text(260, 100, "no gate: the module's output takes the place of x", size=12)
        return
    drawing.line((35, 40), (378, 40))
    drawing.dot(90, 40)
    drawing.circle(391, 40, sign)
    drawing.line((403, 40), (485, 40))
    drawing.line((90, 40), (90, 110), (160, 110))
    fill = {"channel": BLUE, "spatial": GREEN}.get(part.role, PURPLE)
    words = {"channel": "channel gate", "spatial": "spatial gate"}.get(part.role, entry.name)
    shape = _gates(entry)[0] or ("gates of x" if sign == "×" else "B × C × H × W")
    drawing.box(245, 110, 170, 48, fill, words, shape)
    drawing.line((330, 110), (391, 110), (391, 53))


def _series(drawing: Drawing, entry: AttentionType, top: int) -> None:
    channel, spatial = _gates(entry)
    drawing.text(20, top + 60, "x", size=16)
    drawing.line((35, top + 55), (290, top + 55))
    drawing.dot(60, top + 55)
    drawing.circle(303, top + 55, "×" if entry.members[0].gated else "+")
    drawing.line((60, top + 55), (60, top + 120), (100, top + 120))
    drawing.box(180, top + 120, 160, 48, BLUE, "channel part", channel or "B × C × H × W")
    drawing.line((260, top + 120), (303, top + 120), (303, top + 68))
    drawing.line((315, top + 55), (608, top + 55))
    drawing.dot(370, top + 55)
    drawing.line((370, top + 55), (370, top + 120), (410, top + 120))
    drawing.box(490, top + 120, 160, 48, GREEN, "spatial part", spatial or "B × C × H × W")
    drawing.line((570, top + 120), (620, top + 120), (620, top + 68))
    drawing.circle(620, top + 55, "×" if entry.members[1].gated else "+")
    drawing.line((632, top + 55), (652, top + 55))
    drawing.text(664, top + 60, "y", size=16)


RULES = {
    "sum": ("sum of both maps", "x · C(x) + x · S(x)"),
    "bam": ("BAM's rule", "x · (1 + s(C + S))"),
    "gala": ("GALA's rule", "x · s(α(S+C) + βSC)"),
    "scse": ("sum of both maps", "x · C(x) + x · S(x)"),
}


def _parallel(drawing: Drawing, entry: AttentionType, top: int) -> None:
    channel, spatial = _gates(entry)
    gated = all(member.gated for member in entry.members)
    rule = RULES.get(entry.fusion.id, (f"rule: {entry.fusion.id}", ""))
    if not gated:
        rule = ("sum of both maps", "C(x) + S(x)")
    drawing.text(20, top + 95, "x", size=16)
    drawing.line((35, top + 90), (400 if gated else 90, top + 90), arrow=gated)
    drawing.dot(90, top + 90)
    for y, fill, words, shape in ((55, BLUE, "channel part", channel), (125, GREEN, "spatial part", spatial)):
        drawing.line((90, top + 90), (90, top + y), (140, top + y))
        drawing.box(220, top + y, 160, 46, fill, words, shape or "B × C × H × W")
        end = top + (78 if y < 90 else 102)
        drawing.line((300, top + y), (360, top + y), (360, end), (400, end))
    drawing.box(495, top + 90, 190, 54, ORANGE, *(one for one in rule if one))
    drawing.line((590, top + 90), (645, top + 90))
    drawing.text(660, top + 95, "y", size=16)


def _gates(entry: AttentionType) -> list[str]:
    """The shape of each part's gate, by computing it; empty where a part is no gate."""
    sizes = [member.sizes(8, {}) for member in entry.members]
    flags = [{name: values[0] for name, values in member.flags.items()} for member in entry.members]
    found = []
    for member, size, flag in zip(entry.members, sizes, flags, strict=True):
        module = member.build(size, **flag, **({"zero_init": True} if member.zero_init else {})).eval()
        with torch.no_grad():
            shape = tuple(module.gate(torch.ones(1, 8, 6, 6)).shape) if isinstance(module, Gate) else ()
        found.append(f"gate {SHAPES[shape]}" if shape in SHAPES else "")
    return found


WHERE = {"slot": "inside every block", "block": "after every block", "stage": "after the last block"}


def strip(text: str, image: int = 224) -> str:
    """A network as a strip of its stages, with what each gets below."""
    arch = Architecture.parse(text)
    stages = describe_backbone(arch.backbone).stages
    drawing = Drawing(130 + 168 * len(stages), 232, f"{text}: its stages, and where attention sits in each")
    drawing.text(36, 84, "image")
    drawing.text(36, 102, f"{image} × {image}", size=11)
    before = 70.0
    for index, (stage, placement) in enumerate(zip(stages, arch.placements, strict=True)):
        middle, height = 150.0 + 168 * index, 120 - 18 * index
        drawing.line((before, 90), (middle - 54, 90))
        before = middle + 54
        side = -(-image // stage.stride)
        drawing.box(middle, 90, 108, height, BLUE, f"stage {index + 1}", f"{stage.channels} × {side} × {side}")
        if placement.type == "none":
            drawing.text(middle, 194, "none", size=12)
            continue
        drawing.line((middle, 90 + height / 2), (middle, 170), arrow=False, dashed=True)
        words = str(placement).partition("@")[0]
        drawing.box(middle, 192, 156, 42, GREEN, words, WHERE.get(placement.site or "", ""), size=12)
    drawing.line((before, 90), (before + 26, 90))
    drawing.text(before + 30, 95, "head", anchor="start")
    return drawing.svg()


def flow() -> str:
    """How a candidate flows, from its proposal to the front."""
    drawing = Drawing(
        760, 250, "How a candidate flows: proposed, counted, evaluated, kept, and the sampler learns from it"
    )
    boxes = [
        (85, PURPLE, "sampler", "proposes"),
        (235, BLUE, "costs", "counted exactly"),
        (385, ORANGE, "evaluator", "trains, in a worker"),
        (535, GREEN, "store", "the record, on disk"),
        (685, GREEN, "front", "report, export"),
    ]
    for x, fill, *words in boxes:
        drawing.box(x, 70, 126, 56, fill, *words)
    for x in (148, 298, 448, 598):
        drawing.line((x, 70), (x + 22, 70))
    drawing.line((235, 98), (235, 160))
    drawing.text(235, 180, "over the budget:", size=12)
    drawing.text(235, 196, "refused, for nothing", size=12)
    drawing.line((535, 98), (535, 226), (85, 226), (85, 100))
    drawing.text(330, 218, "metric, costs, seconds: the sampler learns", size=12)
    drawing.text(160, 24, "an architecture", size=12)
    drawing.line((160, 30), (160, 58), arrow=False, dashed=True)
    return drawing.svg()
