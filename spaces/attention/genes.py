"""The table of genes: what a search can choose about an attention type besides its name and its site.

A gene is one entry of ``GENES``. The text form, the keys of a configuration, the parameters of a suggestion, the columns of
an analysis and the keywords of ``create_attention`` all follow from it. The order is that of the text form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from spaces.errors import UsageError, shortened, unknown

Value = int | str
MOST = 10**6  # of any gene: no network has as many channels


def _anything(value: int) -> str:
    return ""


def _as_it_is(value: int | None, default: int | None, channels: int) -> Iterable[int]:
    return ()


@dataclass(frozen=True)
class Gene:
    """One gene, of whole numbers from 1 (with a letter: ``r16``) or of words that stand for themselves (``series``).

    ``name``: the keyword in Python. ``plural``: the key of its list in a configuration. ``letter``: what precedes a number in
    a text; empty for words. ``usual``: the values to try; of words, all that there are, the first being the ordinary one.

    The rest is for numbers only. ``rule``: the valid ones in words. ``refusal``: says what is wrong with a number, as in
    "is even; valid are odd numbers", or nothing. ``measure``: the number as an analysis sees it; ``unit``: what one more of
    that is, as in "r doubled". ``alike``: given a value (None: the type's rule over C), the default (None: a rule) and the
    number of channels C, the numbers that may build the same, most wanted first; the first that does becomes canonical.

    ``shared``: in a type of two parts it goes to each part that has it, else to the last one that has it.
    ``auto``: in a suggestion, a type whose value follows from C offers it as ``auto``; else the type counts as without it.
    """

    name: str
    plural: str
    letter: str
    usual: tuple[Value, ...]
    rule: str = "whole numbers from 1"
    refusal: Callable[[int], str] = _anything
    unit: str = ""
    measure: Callable[[int], float] = float
    alike: Callable[[int | None, int | None, int], Iterable[int]] = _as_it_is
    shared: bool = False
    auto: bool = True

    @property
    def label(self) -> str:
        """What it is called where room is scarce: the letter, or the name of a gene of words."""
        return self.letter or self.name

    @property
    def grammar(self) -> str:
        """How a value looks in a text: ``rN``, or ``series|-parallel``."""
        return f"{self.letter}N" if self.letter else "|-".join(map(str, self.usual))

    def text(self, value: Value) -> str:
        """The word of a value in a placement's text."""
        return f"{self.letter}{value}"

    def read(self, word: str) -> Value | None:
        """The value that a word of a placement's text gives; None where the word is not of this gene."""
        if not self.letter:
            return word if word in self.usual else None
        number = re.fullmatch(rf"{self.letter}([1-9][0-9]{{0,8}})", word)
        return int(number[1]) if number else None

    def check(self, value: object, owner: str) -> None:
        """Raise UsageError for a value that no type could have; ``owner`` is the type to name in the message."""
        if not self.letter:
            if value not in self.usual:
                raise unknown(self.name, value, map(str, self.usual))
        elif isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            raise UsageError(
                f"{self.name} of {owner} must be a whole number from 1 to {MOST:,}, not {shortened(value)}"
            )
        elif reason := self.refusal(value):
            raise UsageError(f"{self.name} {shortened(value)} of {owner} {reason}")

    def readings(self) -> dict[str, Callable[[Value], float]]:
        """What an analysis fits an effect to: the name of each effect, and how a value is read as a number for it.

        A gene of numbers has one; a gene of words has one for each word but the first: 1 for that word and 0 for others.
        """
        if self.letter:
            return {self.unit: lambda value: float(self.measure(int(value)))}

        def equal_to(word: Value) -> Callable[[Value], float]:
            return lambda value: float(value == word)

        first, *others = self.usual
        return {f"{word} instead of {first}": equal_to(word) for word in others}


def _same_width(value: int | None, default: int | None, channels: int) -> Iterable[int]:
    """Ratios that may leave the same hidden width: the published one, then powers of two, then the smallest."""
    if value is not None:
        yield from () if default is None else (default,)
        yield from (2**power for power in range(13))
        yield from range(1, value)


def _spelled_out(value: int | None, default: int | None, channels: int) -> Iterable[int]:
    """Odd numbers that a rule over the logarithm of C (ECA's) may come to; a number that is given stays as it is."""
    return range(1, 2 * channels.bit_length() + 1, 2) if value is None else ()


GENES = (
    Gene(
        "reduction",
        "reductions",
        "r",
        (2, 4, 8, 16, 32),
        unit="r doubled",
        measure=math.log2,
        alike=_same_width,
        shared=True,
    ),
    Gene(
        "kernel",
        "kernels",
        "k",
        (3, 5, 7, 9),
        rule="odd numbers",
        refusal=lambda value: "" if value % 2 else "is even; valid are odd numbers such as 3, 5, 7",
        unit="k + 2",
        measure=lambda value: value / 2,
        alike=_spelled_out,
    ),
    Gene(
        "groups",
        "groups",
        "g",
        (1, 2, 4, 8, 16, 32, 64),
        unit="g doubled",
        measure=math.log2,
        auto=False,  # so that the studies of runs that exist keep the names of their parameters
    ),
    Gene("arrangement", "arrangements", "", ("series", "parallel")),
)
BY_NAME = {gene.name: gene for gene in GENES}
