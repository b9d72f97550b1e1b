"""Real pictures, the whole way: a search, fresh seeds, verdicts, an export, and the plain network against torchvision's recipe.

    python -m benchmarks.real_data bccd --data FOLDER      (detection: 364 photographs of blood cells, VOC XML)
    python -m benchmarks.real_data camvid --data FOLDER    (segmentation: CamVid's road scenes, `images` and `masks`)

A search of 12 candidates of a network from random weights, asked to take at most 20 minutes on two cores; two fresh seeds on
average for the front and the baselines; the report with pictures; an export to ONNX and Python, loaded in a fresh process.
Then the plain network, with `--seeds` seeds: by Attune's recipe of the search, and by the recipe of torchvision's references
for as many epochs, written anew: SGD with momentum .9, its transforms picture by picture, its loss, its schedule, float32.
Detection: that of SSDLite320, lr .15 for a batch of 192 and proportional to it, weight decay 4e-5, warm-up over the first
epoch, cosine by epochs. Segmentation: lr .01 at batch 8, weight decay 1e-4, (1 - t) ** .9, sizes times .5 to 2. Both are judged
by one judge on the validation split. What to look for: not worse beyond the seeds' spread.

What is finished is kept in `--runs` and not made again. `--quick`: two candidates, few pictures and one epoch, to see that it
works; its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR
from torch.utils.data import DataLoader

from benchmarks.detection_throughput import Pictures, UsualLoss, collate
from benchmarks.page import add_option, write
from benchmarks.segmentation import usual_loop
from evaluators.tasks.base import Task
from evaluators.tasks.detection import Detection
from evaluators.tasks.segmentation import Segmentation
from evaluators.training import TrainingEvaluator
from evaluators.training.loop import validate
from search import load
from search.build import create_trainer
from search.config import load_config
from search.store import CONFIRM, SEARCH
from spaces import Architecture

CPU = torch.device("cpu")
TORCHVISION, ATTUNE = "torchvision's reference recipe", "Attune's recipe"
SPACE = {
    "backbone": "attune_tiny",
    "attentions": ["none", "se", "coordinate", "cbam"],
    "reductions": [4],
    "sites": ["slot", "decoder"],
    "identity_start": True,
}
SEARCH_SECTION = {"sampler": "known_cost", "trials": 12, "costs": ["flops"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "bccd": {
        "task": {"name": "detection", "head": "ssdlite", "augment": "hflip"},
        "data": {"name": "voc:", "image_size": [160, 160]},
        "space": SPACE,
        "training": {"preset": "detection", "epochs": 16, "batch_size": 8},
        "search": SEARCH_SECTION,
    },
    "camvid": {
        "task": {"name": "segmentation", "head": "fpn", "channels": 64, "width": 64, "scale": [0.75, 1.5]},
        "data": {"name": "camvid:", "image_size": [90, 120]},
        "space": SPACE,
        "training": {
            "preset": "embedded",
            "epochs": 16,
            "batch_size": 8,
            "schedule": "poly",
            "label_smoothing": 0,
        },
        "search": SEARCH_SECTION,
    },
}
METRIC = {"bccd": "mAP50", "camvid": "mIoU"}


def write_config(name: str, data: Path, folder: Path, *, quick: bool) -> Path:
    """The configuration of a search as a file in ``folder``."""
    raw: dict[str, Any] = json.loads(json.dumps(CONFIGS[name]))
    raw["data"]["name"] += str(data)
    if quick:
        raw["data"] |= {"train_size": 16, "val_size": 8}
        raw["training"]["epochs"] = 1
        raw["search"]["trials"] = 2
        raw["space"]["attentions"] = ["none", "se"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


class Steps:
    """What has been made, with the seconds it took; kept in a file, so that it is not made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def keep(self, name: str, value: Any) -> Any:
        self.made[name] = value
        self.path.write_text(json.dumps(self.made, indent=1) + "\n")
        return value

    def command(self, name: str, *arguments: object) -> float:
        """Seconds of one command of Attune, which raises what it says where it fails."""
        if name not in self.made:
            print(f"{name} ...", flush=True)
            started = time.perf_counter()
            subprocess.run([sys.executable, "run_search.py", *map(str, arguments)], check=True)
            self.keep(name, time.perf_counter() - started)
        return float(self.made[name])


def detection_by_reference(task: Detection, arch: Architecture, batch: int, epochs: int, seed: int) -> dict[str, Any]:
    """The metrics of the plain network after torchvision's `references/detection/train.py`."""
    torch.manual_seed(seed)
    loader = DataLoader(Pictures(task), batch, shuffle=True, drop_last=True, num_workers=2, collate_fn=collate)
    model, loss_of = task.network.build(arch), UsualLoss(task)
    rate = 0.15 * batch / 192
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=4e-5)
    schedule = CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        steps = min(1000, len(loader) - 1)
        warmup = LinearLR(optimizer, start_factor=1 / 1000, total_iters=steps) if epoch == 0 and steps else None
        model.train()
        for x_BCHW, targets in loader:
            loss = loss_of(model(x_BCHW), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if warmup is not None:
                warmup.step()
        schedule.step()
    return validate(model, task.batches("val", batch_size=task.validation_batch, device=CPU), task, CPU, "off")


def plain_network(name: str, evaluator: TrainingEvaluator, steps: Steps, seeds: int, epochs: int) -> None:
    """Train the plain network by both recipes, alternating, so that both see the same load of the machine."""
    task: Task = evaluator.task
    arch = Architecture.plain(SPACE["backbone"])  # type: ignore[arg-type]
    batch = evaluator.recipe.batch_size
    for seed in range(seeds):
        for loop in (TORCHVISION, ATTUNE):
            key = f"{loop}, seed {seed}"
            if key in steps.made:
                continue
            started = time.perf_counter()
            if loop == ATTUNE:
                metrics = evaluator.evaluate(arch, fidelity=epochs, seed=seed)
            elif isinstance(task, Detection):
                metrics = detection_by_reference(task, arch, batch, epochs, seed)
            else:
                assert isinstance(task, Segmentation)
                metrics = {"mIoU": usual_loop(task, arch, batch, epochs, seed).mean_iou}
            value = float(metrics[METRIC[name]])
            steps.keep(key, {"value": value, "seconds": time.perf_counter() - started})
            print(f"{key}: {METRIC[name]} {value:.4f}", flush=True)


def tables(name: str, steps: Steps, run: Path, seeds: int, epochs: int) -> str:
    """What was found, as Markdown."""
    results = load(run)
    metric, evaluations = results.metric.name, results.evaluations
    counts = evaluations["purpose"].value_counts()
    took = {key: steps.made[key] / 60 for key in ("search", "fresh seeds, report and pictures", "export")}
    lines = [
        f"{epochs} epochs at {results.data['image_size']} pixels, {os.cpu_count()} cores, torch {torch.__version__}.",
        "",
        "| step | what | minutes |",
        "|---|---|---|",
        f"| search | {counts[SEARCH]} candidates | {took['search']:.1f} |",
        f"| fresh seeds, verdicts, report with pictures | {counts.get(CONFIRM, 0)} trainings "
        f"| {took['fresh seeds, report and pictures']:.1f} |",
        f"| export | ONNX and Python, loaded in a fresh process | {took['export']:.1f} |",
        "",
        f"| architecture | role | {metric}, fresh seeds | 95 % interval | seeds | FLOPs |",
        "|---|---|---|---|---|---|",
    ]
    front = set(results.front["architecture"])
    for row in results.confirmed.to_dict("records"):
        if row["architecture"] in front or row["role"] in ("plain", "uniform"):
            lines.append(
                f"| `{row['architecture']}` | {row['role']} | {row[metric]:.4f} | {row['low']:.4f} to {row['high']:.4f} "
                f"| {row['seeds']} | {row['flops']:,} |"
            )
    lines += [
        "",
        f"| the plain network by | {METRIC[name]} over {seeds} seeds | of each | minutes of one |",
        "|---|---|---|---|",
    ]
    for loop in (TORCHVISION, ATTUNE):
        found = [steps.made[f"{loop}, seed {seed}"] for seed in range(seeds)]
        values = [one["value"] for one in found]
        spread = f" ± {statistics.stdev(values):.4f}" if seeds > 1 else ""
        minutes = statistics.median(one["seconds"] for one in found) / 60
        each = ", ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {loop} | {statistics.mean(values):.4f}{spread} | {each} | {minutes:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(CONFIGS))
    parser.add_argument("--data", type=Path, required=True, help="the folder of the pictures")
    parser.add_argument("--seeds", type=int, default=3, help="of the plain network by each recipe")
    parser.add_argument("--quick", action="store_true", help="two candidates and few pictures, to see that it works")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/real_data"))
    add_option(parser, "real_data.md")
    options = parser.parse_args()
    if options.quick and options.markdown:
        parser.error("--quick finds nothing that a page should say")
    folder: Path = options.runs / (options.name + ("-quick" if options.quick else ""))
    config = write_config(options.name, options.data, folder, quick=options.quick)
    steps, run = Steps(folder / "steps.json"), folder / "run"
    begun = (run / "run.json").exists()
    steps.command("search", "search", *(("--resume", run) if begun else (config, "--run", run)))
    steps.command(
        "fresh seeds, report and pictures",
        *("analyze", run, "--confirm", 2, "--baselines", "uniform", "--pictures", 4),
    )
    steps.command("export", "export", run, "--format", "onnx", "--format", "python", "--to", folder / "best", "--force")
    settings = load_config(config)
    evaluator = create_trainer(settings)
    assert isinstance(evaluator, TrainingEvaluator)
    torch.set_num_threads(1)
    plain_network(options.name, evaluator, steps, options.seeds, settings.training.epochs)
    text = tables(options.name, steps, run, options.seeds, settings.training.epochs)
    print(text)
    if options.markdown:
        write(options.markdown, options.name, text)


if __name__ == "__main__":
    main()
