"""The product of Optuna's distributions as a space of candidates: every parameter has a finite list of values.

Letters: N candidates, G parameters, F numbers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from spaces.errors import UsageError

Indices = NDArray[np.int64]
Array = NDArray[np.float64]
ABSENT = -1  # the index of a parameter that a trial did not ask for
VALUES = 10_000  # that one number may have
EACH = 10  # a number with more values is only a number: too few trials have the same one for each to be a choice


class MappingSpace:
    """Parameters by name, some of which a define-by-run objective may leave out.

    A CategoricalDistribution has its choices, an IntDistribution and a FloatDistribution with a step the values of their
    grid. Raises UsageError for a FloatDistribution without a step, whose values cannot be listed, and where there is nothing.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        if not distributions:
            raise UsageError("the space has no parameter")
        self.asked = dict(distributions)  # what Optuna is told
        self.distributions = {name: _values(name, distribution) for name, distribution in distributions.items()}
        self.sizes = tuple(len(values) for values in self.distributions.values())
        categorical = [isinstance(distribution, CategoricalDistribution) for distribution in distributions.values()]
        self._choices = np.array(categorical) | (np.array(self.sizes) <= EACH)

    def params(self, indices_S: Indices, /) -> dict[str, Any]:
        return {
            name: values[int(i)]
            for (name, values), i in zip(self.distributions.items(), indices_S, strict=True)
            if i != ABSENT
        }

    def from_params(self, params: Mapping[str, Any], /) -> Indices:
        """The indices of a trial's parameters, ABSENT for what it left out; ValueError for what is no value of the space.

        KeyError where no parameter of the space is among them.
        """
        if not any(name in params for name in self.distributions):
            raise KeyError(f"none of {list(self.distributions)} is given")
        return np.array(
            [self._index(name, params[name]) if name in params else ABSENT for name in self.distributions],
            dtype=np.int64,
        )

    def _index(self, name: str, value: Any) -> int:
        values, distribution = self.distributions[name], self.asked[name]
        if isinstance(distribution, FloatDistribution) and distribution.step is not None:  # 0.1 + 0.2 counts as 0.3
            nearest = round((value - distribution.low) / distribution.step)
            if not 0 <= nearest < len(values) or abs(values[nearest] - value) > 1e-6 * distribution.step:
                raise ValueError(f"{value} is no value of {name!r}")
            return nearest
        return values.index(value)

    def genes(self, indices_NS: Indices, /) -> Indices:
        """The parameters whose every value may have a worth of its own: all but numbers with many values."""
        return indices_NS[:, self._choices]

    def numbers(self, indices_NG: Indices, /) -> Array:
        """Integers and floats on scales of unit variance, logarithmic where they are asked for so; ABSENT is the middle.

        (N, G) -> (N, F); parameters of a single value are left out.
        """
        columns = [np.zeros((len(indices_NG), 0))]
        for g, (name, distribution) in enumerate(self.asked.items()):
            if isinstance(distribution, CategoricalDistribution) or self.sizes[g] == 1:
                continue
            values = np.array(self.distributions[name], dtype=float)
            values = np.log(values) if getattr(distribution, "log", False) else values
            middle, spread = (values[0] + values[-1]) / 2, (values[-1] - values[0]) / np.sqrt(12)
            indices_N = indices_NG[:, g]
            columns.append(np.where(indices_N == ABSENT, 0.0, (values[indices_N] - middle) / spread)[:, None])
        return np.hstack(columns)


def _values(name: str, distribution: BaseDistribution) -> tuple[Any, ...]:
    """Every value of a parameter, in the order of its index."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        raise UsageError(f"parameter {name!r} is {distribution}, which is none of Optuna's distributions")
    if distribution.step is None:
        raise UsageError(
            f"parameter {name!r} is {distribution}: the space takes no continuous numbers; give it a step, or leave it "
            "out of the space, then it is drawn at random"
        )
    count = 1 + round((distribution.high - distribution.low) / distribution.step)
    if count > VALUES:
        raise UsageError(
            f"parameter {name!r} is {distribution} with {count:,} values; give it a step: {VALUES:,} at most"
        )
    if isinstance(distribution, IntDistribution):
        return tuple(range(distribution.low, distribution.high + 1, distribution.step))
    values = (distribution.low + i * distribution.step for i in range(count))
    return tuple(float(min(max(v, distribution.low), distribution.high)) for v in values)
