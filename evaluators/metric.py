"""What evaluations are judged by, as a value: whoever only reads a run needs no more of a task than this."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """What an evaluation is judged by: its name, which is that of its column, its unit, and which way is better.

    A ``share`` lies in [0, 1], and differences of it are told in points of a hundredth; any other unit is shown as it is.
    ``by_class``: what the values of single classes are called, which metrics hold as ``BY_CLASS CLASS``; empty where there are
    none.
    """

    name: str = "accuracy"
    unit: str = "share"
    higher_is_better: bool = True
    by_class: str = ""

    @property
    def sign(self) -> float:
        """1 where more is better, else -1: values times this sign are to be maximised."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def scale(self) -> float:
        """What a value is multiplied by when it, or a difference, is told to a person."""
        return 100.0 if self.unit == "share" else 1.0

    @property
    def ceiling(self) -> float:
        """What no value times ``sign`` can exceed: 1 of a share, 0 of one of which less is better, else infinity."""
        if self.unit != "share":
            return math.inf
        return 1.0 if self.higher_is_better else 0.0

    @property
    def step(self) -> str:
        """What one of a difference is called."""
        return "points" if self.unit == "share" else self.unit

    def of_classes(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """The values of single classes among an evaluation's metrics, by class."""
        start = f"{self.by_class} "
        named = {key.removeprefix(start): value for key, value in metrics.items() if key.startswith(start)}
        return {name: float(value) for name, value in named.items()} if self.by_class else {}

    def difference(self, value: float, digits: int = 1) -> str:
        """A difference as a number of ``step``, with its sign."""
        return f"{self.scale * value:+.{digits}f}"

    def told(self, value: float) -> str:
        """A value as people read it: 46.9 % of a share, else the number and its unit."""
        return f"{self._number(value)} {self._unit}"

    def interval(self, low: float, high: float) -> str:
        """Two ends as people read them: 45.1 to 48.7 %."""
        return f"{self._number(low)} to {self._number(high)} {self._unit}"

    @property
    def _unit(self) -> str:
        return "%" if self.unit == "share" else self.unit

    def _number(self, value: float) -> str:
        return f"{100 * value:.1f}" if self.unit == "share" else f"{value:.4g}"
