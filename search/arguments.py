"""What the values of the command line's options say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.errors import UsageError, shortened

if TYPE_CHECKING:
    from spaces import Architecture  # at run time it brings torch, which takes seconds


def read_architecture(text: str) -> Architecture:
    """An architecture as text; the name of a backbone alone is the plain one. Raises UsageError in one line."""
    from spaces import Architecture

    return Architecture.read(text)


def read_size(text: str) -> tuple[int, ...]:
    """(H, W) of ``224`` or ``180x240``, (T, H, W) of ``16x112x112``; raises UsageError for anything else."""
    sides = text.lower().split("x")
    if not (1 <= len(sides) <= 3 and all(side.isdecimal() and len(side) < 10 and int(side) > 0 for side in sides)):
        raise UsageError(
            f"--image-size {shortened(text)}; valid: a number of pixels such as 224, or HEIGHTxWIDTH such as 180x240 "
            "(clips: FRAMESxHEIGHTxWIDTH)"
        )
    return tuple(map(int, sides if len(sides) > 1 else sides * 2))


def read_limits(limits: list[str] | None) -> dict[str, str]:
    """``["flops=310M"]`` as a mapping; raises UsageError for what is not METRIC=LIMIT."""
    found: dict[str, str] = {}
    for limit in limits or []:
        metric, equals, value = limit.partition("=")
        if not equals or not value:
            raise UsageError(
                f"--max {shortened(limit)} is not of the form METRIC=LIMIT, as in --max flops=310M or --max params=1.05x"
            )
        if metric in found:
            raise UsageError(
                f"--max {shortened(metric)} is given twice: {shortened(found[metric])} and {shortened(value)}"
            )
        found[metric] = value
    return found
