"""What a run means: the data, recipe, space, costs and code behind its evaluations, and whether they are still the same.

``run.json`` keeps it. A run that goes on under another meaning would mix in one front what does not compare.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evaluators.base import Evaluator
from evaluators.tasks.base import Task
from search.config import Config
from search.kept import read_run
from search.problem import Problem
from spaces.errors import UsageError
from spaces.plugins import source_of
from spaces.protocols import offers

ROOT = Path(__file__).parents[1]
# The code whose change gives an architecture another network or another training.
TRAINS: tuple[str, ...] = (
    "spaces/attention",
    "spaces/backbones",
    "spaces/backbone.py",
    "spaces/network.py",
    "evaluators/tasks",
    "evaluators/data",
    "evaluators/training",
    "evaluators/supernet",
    "evaluators/trained.py",
    "evaluators/proxies.py",
)
ROUNDING = ("torch", "timm")  # another version of these may round differently, as another machine does


def describe_meaning(config: Config, problem: Problem, evaluator: Evaluator) -> dict[str, Any]:
    """The parts of a run's meaning by the words that a person knows them by, as JSON."""
    task = getattr(evaluator, "task", None)
    counted = [name for name in problem.metrics if name not in problem.kept]
    columns = [problem.metrics.index(name) for name in counted]
    costs = [problem.base[columns].tolist(), *(stage[:, columns].tolist() for stage in problem.stage_costs)]
    space = [problem.space.backbone, *([str(one) for one in placements] for placements in problem.space.choices)]
    return {
        "data": task.identity if offers(task, Task) else None,
        "recipe": [config.training.digest, config.fidelity, list(config.seeds)],
        "evaluator": [evaluator.identity, evaluator.metric.name],
        "space": _digest(space),
        "costs": [*problem.costs, _digest([counted, costs])],
        "budget": dict(problem.limits),
        "code": code_digests(config),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "versions": {name: version(name) for name in ROUNDING},
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of a run's meaning is not what it was, in words; the evaluator's identity only where nothing else says why."""
    found = [name for name in ("data", "recipe", "space", "costs", "budget") if before.get(name) != now[name]]
    if not {"data", "recipe"} & set(found) and before.get("evaluator") != now["evaluator"]:
        found.append("evaluator")
    files = other_code(before, now)
    if files:
        found.append(f"code ({', '.join(files[:3])}{' ...' if len(files) > 3 else ''})")
    return found


def other_code(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The files that train and are not what they were; new ones train nothing that was there before.

    Another version of Python prints a file's syntax differently: then nothing can be said.
    """
    if before.get("python") != now.get("python"):
        return []
    code = now.get("code", {})
    return [file for file, digest in before.get("code", {}).items() if code.get(file) != digest]


def check_meaning(folder: Path, config: Config, problem: Problem, evaluator: Evaluator) -> str | None:
    """Raise UsageError where the run in ``folder`` meant something else; returns what there is to say otherwise."""
    now = describe_meaning(config, problem, evaluator)
    before = read_meaning(folder)
    if before is None:
        return (
            f"{folder} is a run of an earlier version and does not say what it was made with; what is here now is taken"
        )
    changes = differences(before, now)
    if changes:
        raise UsageError(
            f"{folder} cannot go on, since {' and '.join(changes)} changed since it was started: its front would mix what "
            f"does not compare; put back what changed, or start a new run (reuse: [{folder}] takes over what still compares)"
        )
    moved = [(name, was) for name, was in before.get("versions", {}).items() if now["versions"].get(name) != was]
    if not moved:
        return None
    words = ", ".join(f"{name} {was}, now {now['versions'].get(name)}" for name, was in moved)
    return f"{folder} was begun with {words}: accuracies may differ by rounding"


def read_meaning(folder: Path) -> dict[str, Any] | None:
    """What a run keeps of its meaning; None for one of an earlier version, which at most has its evaluator's identity."""
    found: dict[str, Any] | None = read_run(folder).get("meaning")
    return found


def code_digests(config: Config) -> dict[str, str]:
    """A digest of every file that trains, the user's own too; comments and docstrings do not count."""
    own = {name: path for part in TRAINS for name, path in _files(ROOT / part, ROOT)}
    for module in config.brought:
        source = source_of(module)
        own |= dict(_files(source, source.parent))
    return {name: code_digest(path.read_text()) for name, path in sorted(own.items())}


def _files(path: Path, root: Path) -> list[tuple[str, Path]]:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [(file.relative_to(root).as_posix(), file) for file in files]


@cache
def code_digest(source: str) -> str:
    """Equal for sources that do the same but for their layout, comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return hashlib.blake2b(ast.dump(tree).encode(), digest_size=6).hexdigest()


def _digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=6).hexdigest()
