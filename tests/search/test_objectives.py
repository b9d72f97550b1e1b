"""Objectives: limits as people write them, and what is refused."""

import pytest

from search.objectives import parse_limits
from spaces.errors import UsageError


def test_limits_are_read():
    plain = {"flops": 300_000_001, "params": 1000}
    assert parse_limits({"flops": "310M", "params": 4000000}, plain) == {"flops": 310_000_000, "params": 4_000_000}
    assert parse_limits({"flops": "1.05x", "params": "0.0015G"}, plain) == {"flops": 315_000_001, "params": 1_500_000}
    assert parse_limits({"flops": 3.1e8}, plain) == {"flops": 310_000_000}
    for text, limit in {"12ms": 12_000_000, "0.5 s": 500_000_000, "800us": 800_000, "1.5x": 15_000}.items():
        assert parse_limits({"latency": text}, {"latency": 10_000}) == {"latency": limit}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"flop": 1}, "did you mean 'flops'"),
        ({"flops": "x"}, "310M"),
        ({"flops": "-3"}, "310M"),
        ({"latency": 12}, "12ms"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits, message):
    with pytest.raises(UsageError, match=message):
        parse_limits(limits, {"flops": 1, "latency": 1})
