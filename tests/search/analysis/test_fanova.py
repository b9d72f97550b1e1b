"""Variance goes to what causes it."""

import numpy as np

from search.analysis.fanova import fanova
from spaces import Placement


def test_an_interaction_is_not_taken_for_a_main_effect() -> None:
    rng = np.random.default_rng(0)
    rows = [tuple(Placement(str(rng.choice(["none", "se"]))) for _ in range(3)) for _ in range(200)]
    y_N = np.array([float((one[0].type == "se") != (one[1].type == "se")) for one in rows])
    shares = fanova(rows, y_N).set_index("stages")["share"]
    assert shares["stage 1 x stage 2"] > 0.8
    assert shares[["stage 1", "stage 2", "stage 3", "stage 1 x stage 3"]].max() < 0.1
