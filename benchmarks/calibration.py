"""Whether 95 % intervals hold the truth, and whether said probabilities happen, over simulated runs whose truth is known.

    python -m benchmarks.calibration --runs 200 [--markdown [FILE]]

Every run is read by ``search.evidence.gather``, by which the report, ``front`` and ``export`` choose. It has a search of one
seed each, then fresh seeds of the plain network, the uniform placements and those near the front of the search's own scores:
what is judged was chosen by the same scores, as in a real run. A score is a share of validation images, drawn around a true
value with a spread between seeds.

Letters: A architectures, S stages, R runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import add_option, write
from search.config import validate
from search.confirmed import near_front, uniform_architectures
from search.evidence import HIGH, LOW, Evidence, gather
from search.front import summarise
from search.problem import Problem
from search.store import COMPLETE, CONFIRM, SEARCH, Evaluation, to_frame
from spaces import Architecture, NetworkSpec
from spaces.written import all_placements

Array = NDArray[np.float64]
CONFIG = {
    "data": "cluttered_digits",
    "space": {
        "backbone": "attune_tiny",
        "attentions": ["none", "se", "eca", "cbam", "bam", "coordinate", "gam"],
        "reductions": [2, 4],
        "sites": ["slot", "stage"],
    },
}
BINS = 10


def additive(types_AS: list[list[str]], rng: np.random.Generator) -> Array:
    """Every type adds its own at every stage, and nothing else does."""
    effect: dict[tuple[int, str], float] = {}

    def worth(place: tuple[int, str]) -> float:
        return effect.setdefault(place, 0.0 if place[1] == "none" else 0.03 * rng.standard_normal())

    return np.array([sum(map(worth, enumerate(row))) for row in types_AS])


def own(types_AS: list[list[str]], rng: np.random.Generator) -> Array:
    """Beside that, every architecture has something of its own."""
    return additive(types_AS, rng) + rng.uniform(0.3, 1.0) * 0.03 * rng.standard_normal(len(types_AS))


def pairs(types_AS: list[list[str]], rng: np.random.Generator) -> Array:
    """Beside that, two stages that follow each other work together, or against each other."""
    joint: dict[tuple[int, tuple[str, str]], float] = {}
    together = [
        sum(joint.setdefault(place, 0.02 * rng.standard_normal()) for place in enumerate(pairwise(row)))
        for row in types_AS
    ]
    return additive(types_AS, rng) + np.array(together)


def sparse(types_AS: list[list[str]], rng: np.random.Generator) -> Array:
    """One type at one stage is worth much, all else little: as on the embedded task."""
    stage, kind = rng.integers(3), str(rng.choice(["se", "cbam", "gam"]))
    large = np.array([0.2 if row[stage] == kind else 0.0 for row in types_AS])
    return 0.3 * additive(types_AS, rng) + large + 0.01 * rng.standard_normal(len(types_AS))


LAWS: dict[str, Callable[[list[list[str]], np.random.Generator], Array]] = {
    one.__name__: one for one in (additive, own, pairs, sparse)
}


@dataclass(frozen=True)
class Outcome:
    """Of one run: whether intervals held the truth, of all and of the recommended front, and what was said and happened.

    ``pairs_`` of every two architectures; ``rivals_`` of the recommended one and of what costs less.
    """

    inside: list[bool]
    front: list[bool]
    pairs_said: Array
    pairs_true: NDArray[np.bool_]
    rivals_said: Array
    rivals_true: NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    add_option(parser, "calibration.md")
    arguments = parser.parse_args()
    simulator = Simulator()
    found: dict[str, list[Outcome]] = {law: [] for law in LAWS}
    for number in range(arguments.runs):
        law = list(LAWS)[number % len(LAWS)]
        found[law].append(simulator.run(law, number))
    text = page(found)
    print(text)
    if arguments.markdown:
        write(arguments.markdown, "measured", text)


class Simulator:
    """Draws runs of one space."""

    def __init__(self) -> None:
        self.config = validate(dict(CONFIG), "calibration")
        self.space = self.config.space.build()
        self.problem = Problem.build(self.space, NetworkSpec.classifier(32, 10, 1))
        self.uniform = uniform_architectures(self.config.space)
        self.plain = str(Architecture.plain(self.space.backbone))

    def run(self, law: str, seed: int) -> Outcome:
        """One search of 24 to 60 architectures under a law, its fresh seeds, and how what is said of it compares."""
        rng = np.random.default_rng(seed)
        count, images, fresh = int(rng.integers(24, 60)), int(rng.choice([500, 2000, 10_000])), int(rng.integers(2, 6))
        drawn = self.problem.feasible.sample(rng, count)
        searched = list(dict.fromkeys([self.plain, *(str(self.space.architecture(row)) for row in drawn)]))
        texts = list(dict.fromkeys([*searched, *self.uniform]))
        types_AS = [[one.type for one in row] for row in all_placements(texts)]
        true = dict(zip(texts, 0.6 + LAWS[law](types_AS, rng), strict=True))
        spread = float(np.exp(rng.uniform(np.log(0.004), np.log(0.03))))

        def evaluation(text: str, number: int, purpose: str) -> Evaluation:
            share = np.clip(true[text] + spread * rng.standard_normal(), 0, 1)
            score = rng.binomial(images, share) / images
            costs = self.problem.cost(Architecture.parse(text))
            return Evaluation(text, 2, number, COMPLETE, "", float(score), costs, 1.0, 0.0, "simulated", purpose)

        rows = [evaluation(text, 0, SEARCH) for text in searched]
        best = near_front(summarise(to_frame(rows)), ("flops",), 12)
        again = dict.fromkeys([self.plain, *best, *self.uniform])
        rows += [evaluation(text, 1000 + number, CONFIRM) for text in again for number in range(fresh)]
        return compare(gather(to_frame(rows)), true)


def compare(evidence: Evidence, true: dict[str, float]) -> Outcome:
    """What the posterior says of a run beside the truth."""
    rows = evidence.rows
    true_A = rows["architecture"].map(true).to_numpy(float)
    inside_A = (rows[LOW].to_numpy(float) <= true_A) & (true_A <= rows[HIGH].to_numpy(float))
    front = set(evidence.front(["flops"])["architecture"])
    first, second = np.triu_indices(len(rows), 1)
    texts = rows["architecture"].tolist()
    said = np.array([evidence.probability(texts[a], texts[b]) for a, b in zip(first, second, strict=True)])
    best = evidence.best(rows)
    cheaper = rows[rows["flops"] < best["flops"]]["architecture"].tolist()
    return Outcome(
        inside=inside_A.tolist(),
        front=inside_A[rows["architecture"].isin(front).to_numpy()].tolist(),
        pairs_said=said,
        pairs_true=true_A[first] > true_A[second],
        rivals_said=np.array([evidence.probability(str(best["architecture"]), text) for text in cheaper]),
        rivals_true=np.array([true[str(best["architecture"])] > true[text] for text in cheaper], dtype=bool),
    )


def off(said: Array, happened: NDArray[np.bool_]) -> float:
    """The calibration error: how far said probabilities are from what happened, on average over tenths, by their numbers."""
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    return float(
        sum(abs(float(said[place == b].sum() - happened[place == b].sum())) for b in range(BINS)) / max(1, len(said))
    )


def page(found: dict[str, list[Outcome]]) -> str:
    """A table by law, and of all of them."""
    groups = {**found, "all": [one for some in found.values() for one in some]}
    lines = [
        "| law | runs | 95 % intervals hold the truth | those of the front | P(better) off by | of the choice against cheaper |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for law, some in groups.items():
        inside, front = (np.concatenate([getattr(one, name) for one in some]) for name in ("inside", "front"))
        pairs_, rivals = (
            off(*(np.concatenate([getattr(one, f"{name}_{part}") for one in some]) for part in ("said", "true")))
            for name in ("pairs", "rivals")
        )
        lines.append(
            f"| {law} | {len(some)} | {100 * inside.mean():.1f} % | {100 * front.mean():.1f} % | {pairs_:.3f} | {rivals:.3f} |"
        )
    said, true = (np.concatenate([getattr(one, f"pairs_{part}") for one in groups["all"]]) for part in ("said", "true"))
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    lines += ["", "| P(better) said | happened | pairs |", "|---|---|---|"]
    lines += [
        f"| {said[place == b].mean():.3f} | {true[place == b].mean():.3f} | {int((place == b).sum()):,} |"
        for b in range(BINS)
        if (place == b).any()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
