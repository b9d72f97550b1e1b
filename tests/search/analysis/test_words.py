"""How architectures and effects are told: in few words, and an effect only where its interval excludes zero."""

import pandas as pd
import pytest

from evaluators.metric import Metric
from search.analysis.attribution import Attribution
from search.analysis.heat import heat
from search.analysis.verdicts import named


@pytest.mark.parametrize(
    ("placements", "words"),
    [
        ("none,none", "the plain network"),
        ("eca-k3@slot,eca-k5@slot", "ECA at every stage"),
        ("none,se-r4@slot", "SE at some stages"),
        ("double_attention-r2@slot,none,gam-r4@slot,se-r4@slot", "a mix of double attention, GAM and SE"),
    ],
)
def test_an_architecture_is_named_by_its_types(placements: str, words: str) -> None:
    assert named(f"net:{placements}") == words


def test_only_what_excludes_zero_is_shown_as_an_effect() -> None:
    rows = [
        ("se", 0.05, 0.02, 0.08),
        ("eca", -0.05, -0.08, -0.02),
        ("bam", 0.001, -0.004, 0.006),
        ("gam", 0.05, -0.01, 0.11),
    ]
    effects = pd.DataFrame(
        [{"stage": 1, "type": kind, "gain": g, "low": a, "high": b, "evaluations": 9} for kind, g, a, b in rows]
        + [{"stage": 2, "type": "se", "gain": 0.1, "low": 0.09, "high": 0.11, "evaluations": 9}]
    )
    found = heat(Attribution(effects, pd.DataFrame(), pd.DataFrame(), 0.0, ()), Metric())
    cells = {row["type"]: [(cell["state"], cell["gain"]) for cell in row["cells"]] for row in found["rows"]}
    assert cells["SE"] == [("gain", "+5.0"), ("gain", "+10.0")]
    assert cells["ECA"] == [("loss", "-5.0"), ("never", "")]
    assert cells["BAM"][0] == ("nil", "≈ 0")
    assert cells["GAM"][0] == ("unknown", "?")


def test_numbers_are_told_in_the_units_of_the_metric() -> None:
    assert (Metric().told(0.4687), Metric().interval(0.451, 0.4871)) == ("46.9 %", "45.1 to 48.7 %")
    loss = Metric("loss", "nats", higher_is_better=False)
    assert (loss.told(0.46871), loss.interval(0.4, 0.5)) == ("0.4687 nats", "0.4 to 0.5 nats")
