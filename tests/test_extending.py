"""What users bring from a folder outside of the tree: each sort of extension in a file of its own, used by real searches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from search import load
from search.analysis import analyze
from search.analysis.confirm import confirm
from search.build import create_evaluator
from search.config import load_config
from search.export import export
from search.export import format as form
from search.export.format import known_formats
from search.objectives import OBJECTIVES
from search.samplers import SAMPLERS
from spaces.attention import registry
from spaces.errors import UsageError

ROOT = Path(__file__).parents[1]

TOYS = {
    "toys/__init__.py": "",
    "toys/attention.py": '''
"""A channel gate with a learnable scale, by the name `toy_gate`."""
from torch import Tensor, nn

from spaces.attention.registry import register
from spaces.attention.types import AttentionType, part


class ToyGate(nn.Module):
    """(B, C, H, W) -> same."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, hidden, 1)
        self.up = nn.Conv2d(hidden, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * self.up(self.down(x_BCHW.mean((2, 3), keepdim=True)).relu()).sigmoid()


GATE = part(
    id="toy_gate",
    role="channel",
    build=lambda s: ToyGate(s.channels, s.hidden),
    params=lambda s: 2 * s.channels * s.hidden + s.hidden + s.channels,
    reduction=4,
    formula="2Ch + h + C",
)
register(AttentionType("toy_gate", (GATE,), "a test", "2Ch + h + C", equation="x * s(W W mean(x))"))
''',
    "toys/backbone.py": '''
"""Two residual stages, registered with timm."""
from timm.models import register_model
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x).relu())


class ToyNet(nn.Module):
    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_chans, 8, 3, padding=1)
        self.stage1 = nn.Sequential(Block(8), Block(8))
        self.down = nn.Conv2d(8, 16, 2, stride=2)
        self.stage2 = nn.Sequential(Block(16), Block(16))
        self.fc = nn.Linear(16, num_classes)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stage2(self.down(self.stage1(self.stem(x)))).mean((2, 3)))


@register_model
def toy_net(pretrained: bool = False, **kwargs) -> ToyNet:
    return ToyNet(kwargs.get("num_classes", 10), kwargs.get("in_chans", 3))


def make(num_classes: int, in_chans: int) -> ToyNet:
    return ToyNet(num_classes, in_chans)
''',
    "toys/sampler.py": '''
"""Proposes the candidate that comes last in the list, by the name `toy_last`."""
from search.samplers import SAMPLERS, SpaceSampler


class Last(SpaceSampler):
    def propose(self, study, trial, trials, seen_TG):
        left = self.candidates.keep(self.candidates.listed_NG, seen_TG)
        return left[-1] if len(left) else None


SAMPLERS.register("toy_last", Last)
''',
    "toys/objective.py": '''
"""Bytes of the weights in half precision, by the name `half_bytes`."""
from search.objectives import BYTES, Objective, register_objective
from search.tables import by_difference


def half_bytes(model):
    return sum(2 * weight.numel() for weight in model.parameters())


register_objective(Objective("half_bytes", "weights in half precision", BYTES, by_difference("half_bytes", half_bytes)))
''',
    "toys/form.py": '''
"""The state_dict as a pickle of torch, by the name `toy_pt`."""
import torch

from search.export.format import Format, register_format


def write(subject, model, folder):
    path = folder / "toy.pt"
    torch.save(model.state_dict(), path)
    return [path]


def run(path, job, x_BCHW):
    import torch

    model = job.module.create()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()(x_BCHW)


register_format(Format("toy_pt", "toy.pt: weights", write, run))
''',
    "toys/training.py": '''
"""A plain training loop of one's own, which knows nothing of Attune."""
import torch
from torch.nn.functional import cross_entropy


def train(model, *, epochs, seed, device, report):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 1, 12, 12, generator=generator)
    y = (x.mean((1, 2, 3)) > 0).long().to(device)
    x = x.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(1, epochs + 1):
        cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        found = {"hits": float((model(x).argmax(1) == y).float().mean())}
        if not report(epoch, found):
            break
    return found


train.identity = "sign of the mean, 64 images"
train.metric = "hits"
''',
    "toys/task.py": '''
"""Which half of the picture is brighter: a task of one's own, with its own data, network, loss and metric."""
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from evaluators.tasks import Metric
from spaces.network import NetworkSpec


class Halves:
    def __init__(self, batch_size, count, seed, generator, device):
        source = torch.Generator().manual_seed(seed)
        self.x = torch.rand(count, 1, 10, 14, generator=source).to(device)
        self.y = (self.x[..., :7].sum((1, 2, 3)) > self.x[..., 7:].sum((1, 2, 3))).float()
        self.batch_size, self.generator = batch_size, generator

    def __len__(self):
        return len(self.x) // self.batch_size

    def __iter__(self):
        order = torch.arange(len(self.x)) if self.generator is None else torch.randperm(len(self.x), generator=self.generator)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            rows = order[start : start + self.batch_size]
            yield self.x[rows], self.y[rows]


class Error:
    def __init__(self):
        self.wrong, self.count = 0.0, 0

    def update(self, output, target):
        self.wrong += float(((output[:, 0] > 0).float() != target).sum())
        self.count += len(target)

    def compute(self):
        return {"error": self.wrong / self.count}


@dataclass(frozen=True)
class Brighter:
    seed: int
    count_train: int = 64

    metric = Metric("error", "share", higher_is_better=False)
    network = NetworkSpec.classifier((10, 14), 1, 1)
    validation_batch = 32

    @property
    def identity(self):
        return f"brighter half {self.seed} {self.count_train}"

    def count(self, split):
        return self.count_train if split == "train" else 32

    def batches(self, split, *, batch_size, device, generator=None, recipe=None, workers=2, limit=None):
        count = self.count(split)
        seed = ["train", "val", "test"].index(split)
        return Halves(min(batch_size, count), count, seed, generator, device)

    def loss(self, output, target, *, smoothing=0.0):
        return binary_cross_entropy_with_logits(output[:, 0].float(), target)

    def scorer(self):
        return Error()

    def dummy_target(self, batch):
        return torch.zeros(batch)

    def describe(self):
        return {"num_classes": 1, "in_chans": 1, "image_size": [10, 14]}


def make(data, seed, train_size=64):
    return Brighter(seed, train_size)
''',
    "toys/all.py": "from toys import attention, backbone, form, objective, sampler  # noqa: F401\n",
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toys, somewhere else than the project."""
    folder = tmp_path_factory.mktemp("outside")
    for name, text in TOYS.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def attune(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a fresh process that stands in ``folder``; PYTHONPATH is not set."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    command = [sys.executable, str(ROOT / "run_search.py"), *words]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def done(process: subprocess.CompletedProcess[str]) -> Any:
    """What a verb with --json printed."""
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


ONE = ("--set", "resources.concurrency=1")  # a worker is all that a toy needs
SPACE = {"backbone": "toy_net", "attentions": ["none", "se", "toy_gate"], "reductions": [2, 4], "sites": ["slot"]}


@pytest.mark.slow
def test_everything_of_a_plugin_in_one_search(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type, backbone, sampler, objective, evaluator function and export format, over the command line."""
    assert known_formats()
    assert list(SAMPLERS)  # all of the library is there before it is put aside: other tests know it alone
    for home, name in ((registry, "_TYPES"), (form, "_FORMATS"), (OBJECTIVES, "_things"), (SAMPLERS, "_things")):
        monkeypatch.setattr(home, name, dict(getattr(home, name)))
    config = {
        "plugins": ["toys.all"],
        "space": SPACE,
        "training": {"epochs": 3},
        "evaluator": {
            "name": "module:toys.training:train",
            "network": {"image_size": 12, "classes": 2, "channels": 1},
        },
        "search": {"sampler": "toy_last", "trials": 5, "costs": ["half_bytes"], "budget": {"half_bytes": "1.2x"}},
    }
    (outside / "all.yaml").write_text(yaml.safe_dump(config))
    rows = done(attune(outside, "search", "all.yaml", "--run", "all", *ONE, "--json"))["front"]
    assert all({"hits", "hits_std", "half_bytes", "flops"} <= row.keys() and "accuracy" not in row for row in rows)
    journal = [json.loads(line) for line in (outside / "all" / "evaluations.jsonl").read_text().splitlines()]
    assert [line["state"] for line in journal] == ["complete"] * 5
    assert any("toy_gate" in line["architecture"] for line in journal)
    assert all(line["half_bytes"] == 2 * line["params"] for line in journal)  # identity start is not counted here
    assert all("sign of the mean, 64 images" in line["identity"] for line in journal)
    monkeypatch.chdir(outside)
    assert load("all").front["hits"].max() == max(row["hits"] for row in rows)
    assert "hits" in " ".join(analyze(["all"]).sentences)
    pick = next(line["architecture"] for line in journal if "toy_gate" in line["architecture"])
    exported = export("all", pick=pick, retrain=True, to="best", formats=["toy_pt", "python"])
    assert exported.to_dict()["hits"] is not None
    assert {check.format: check.difference for check in exported.checks} == {"toy_pt": 0.0, "python": 0.0}


@pytest.fixture
def with_its_task(outside: Path) -> list[dict[str, Any]]:
    """The front of a search in the folder ``task``, with a task and a backbone of one's own.

    `task: module:` with a metric of which less is better, on pictures that are not square; a `module:` backbone.
    """
    config = {
        "task": {"name": "module:toys.task:make", "options": {"train_size": 48}},
        "data": "made up by the task",
        "space": {"backbone": "module:toys.backbone:make", "attentions": ["none", "se", "eca"]},
        "training": {"epochs": 3, "batch_size": 16, "crop": 0},
        "search": {"sampler": "random", "trials": 4, "scheduler": "domination_asha", "keep_weights": "all"},
    }
    (outside / "task.yaml").write_text(yaml.safe_dump(config))
    shutil.rmtree(outside / "task", ignore_errors=True)
    front: list[dict[str, Any]] = done(attune(outside, "search", "task.yaml", "--run", "task", *ONE, "--json"))["front"]
    return front


@pytest.mark.slow
def test_a_task_of_ones_own_is_searched_and_stopped_early(
    outside: Path, with_its_task: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [row["error"] for row in with_its_task]
    assert errors == sorted(errors, reverse=True)  # dearer ones err less
    monkeypatch.chdir(outside)
    assert "error" in " ".join(analyze(["task"]).sentences)
    exported = export("task", formats=["python"], to="task_best", force=True)
    assert exported.checks[0].difference == 0.0


@pytest.mark.matrix
@pytest.mark.slow
def test_a_task_of_ones_own_is_confirmed(
    outside: Path, with_its_task: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outside)
    confirm("task", 2, baselines=())
    table = load("task").confirmed
    assert {"error", "test_error", "gap"} <= set(table.columns)
    assert table["test_error"].notna().any()
    assert "error" in " ".join(analyze(["task"]).sentences)


def test_a_plugin_of_an_installed_package_is_found(outside: Path, tmp_path: Path) -> None:
    """The entry point group `attune.plugins`."""
    installed = tmp_path / "toys_plugin-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toys-plugin\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[attune.plugins]\ntoys = toys.objective\n")
    listed = done(attune(tmp_path, "list", "objectives", "--json", PYTHONPATH=f"{tmp_path}:{outside}"))
    assert "half_bytes" in [row["name"] for row in listed]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("plugins=[toys.missing]", "toys.missing"),
        ("evaluator=module:toys.training:nothing", "nothing"),
        ("evaluator=module:toys.training", "module:package.file:name"),
        ("task=module:toys.training:train", "task"),
    ],
)
def test_what_cannot_be_brought_is_refused_in_one_line(
    outside: Path, monkeypatch: pytest.MonkeyPatch, setting: str, words: str
) -> None:
    monkeypatch.chdir(outside)
    config = {"data": "digits", "space": {"backbone": "attune_tiny"}, "evaluator": {"name": "proxy"}}
    Path("broken.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UsageError, match=words) as refusal:
        create_evaluator(load_config("broken.yaml", [setting]))
    assert "\n" not in str(refusal.value)
