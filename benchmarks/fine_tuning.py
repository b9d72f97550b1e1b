"""Attention put into a trained network: identity start against fresh gates, after a step-0 measurement of both.

`python -m benchmarks.fine_tuning --source hf:FOLDER/tiny_imagenet100_32 --target hf:FOLDER/imagewoof_64`. A small network
learns the source, then (without attention) the target. That checkpoint is the plain backbone; attention goes into all of its
stages, and everything is trained on. What to look for: with identity start the curve begins at the plain backbone's accuracy,
to the digit; with fresh gates it begins far below, and the question is whether it catches up.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.page import add_option, write
from evaluators.data import Data, load_data
from evaluators.tasks.classification import Classification
from evaluators.training import Recipe, TrainingEvaluator, pick_device, validate
from spaces import Architecture
from spaces.backbones.tiny import TinyResNet

BACKBONE = "module:benchmarks.fine_tuning:backbone"
ATTENTION = "se-r4@slot,cbam-r4@slot,coordinate-r4@slot"
ARMS = {
    "no attention": ("none,none,none", True),
    "identity start": (ATTENTION, True),
    "fresh gates": (ATTENTION, False),
}


def backbone(num_classes: int, in_chans: int) -> TinyResNet:
    """attune_tiny, twice as wide."""
    return TinyResNet(num_classes, in_chans, widths=(32, 64, 128))


def train_plain(data: Data, recipe: Recipe, file: Path) -> list[float]:
    """Accuracy of the network without attention; its weights go to `file`."""
    evaluator = TrainingEvaluator(Classification(data), recipe, device=pick_device())
    plain = Architecture.parse(f"{BACKBONE}:none,none,none")
    return [float(evaluator.evaluate(plain, fidelity=recipe.epochs, seed=0, keep=file)["accuracy"])]


def curve(data: Data, recipe: Recipe, placements: str, identity_start: bool, seed: int) -> list[float]:
    """Validation accuracy before the first step and after every epoch."""
    task = Classification(data)
    evaluator = TrainingEvaluator(task, recipe, identity_start=identity_start, device=pick_device())
    arch = Architecture.parse(f"{BACKBONE}:{placements}")
    torch.manual_seed(seed)  # as the training begins, so that step 0 is of the same weights
    model = evaluator.build(arch).to(evaluator.device)
    val = task.batches("val", batch_size=task.validation_batch, device=evaluator.device)
    found = [float(validate(model, val, task, evaluator.device, recipe.amp)["accuracy"])]

    def report(epoch: int, metrics: Mapping[str, float]) -> bool:
        found.append(metrics["accuracy"])
        return True

    evaluator.evaluate(arch, fidelity=recipe.epochs, seed=seed, report=report)
    return found


def remembered(journal: Path, key: str, measure: Callable[[], list[float]]) -> list[float]:
    """What the journal holds under `key`, or a new line of it: an interrupted benchmark goes on where it was."""
    lines = journal.read_text().splitlines() if journal.is_file() else []
    known = {row["key"]: row for row in map(json.loads, lines)}
    if key not in known:
        started = time.process_time()
        values = measure()
        known[key] = {"key": key, "values": values, "seconds": time.process_time() - started}
        with journal.open("a") as out:
            out.write(json.dumps(known[key]) + "\n")
        print(key, *(f"{value:.3f}" for value in values), flush=True)
    return list(known[key]["values"])


def table(curves: Mapping[str, np.ndarray]) -> str:
    """Mean and standard deviation over the seeds, (seeds, epochs + 1) for each arm, as markdown."""
    rows = [f"| epoch | {' | '.join(curves)} |", "|---|" + "---|" * len(curves)]
    for epoch in range(len(next(iter(curves.values()))[0])):
        cells = [f"{arm[:, epoch].mean():.3f} ± {arm[:, epoch].std(ddof=1):.3f}" for arm in curves.values()]
        rows.append(f"| {epoch} | {' | '.join(cells)} |")
    return "\n".join(rows)


def draw(curves: Mapping[str, np.ndarray], floor: float, file: Path) -> None:
    """The curves with the range of their seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, arm in curves.items():
        epochs = np.arange(arm.shape[1])
        axes.plot(epochs, arm.mean(0), marker="o", label=name)
        axes.fill_between(epochs, arm.min(0), arm.max(0), alpha=0.2)
    axes.axhline(floor, color="grey", linestyle=":", label="plain backbone at step 0")
    axes.set_xlabel("epochs of fine-tuning")
    axes.set_ylabel("validation accuracy")
    axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="data that the backbone learns first")
    parser.add_argument("--target", required=True, help="data that it is fine-tuned on")
    parser.add_argument("--epochs", type=int, default=4, help="of the fine-tuning")
    parser.add_argument("--source-epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=32, help="of the target")
    parser.add_argument("--source-size", type=int, default=10000, help="images of the source")
    parser.add_argument("--train-size", type=int, default=3000, help="images of the target")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-fine-tuning"), help="what is measured already")
    add_option(parser, "fine_tuning.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = load_data(options.source, train_size=options.source_size, val_size=1000)
    target = load_data(options.target, image_size=options.image_size, train_size=options.train_size, val_size=1000)
    sizes = (options.source_size, options.source_epochs, options.train_size, options.image_size, options.epochs)
    folder = options.folder / "-".join(map(str, sizes))
    folder.mkdir(parents=True, exist_ok=True)
    journal, first, plain = folder / "journal.jsonl", folder / "source.safetensors", folder / "plain.safetensors"
    learn = Recipe(epochs=options.source_epochs, batch_size=64, lr=0.1)
    [on_source] = remembered(journal, "source", lambda: train_plain(source, learn, first))
    adapt = Recipe(epochs=options.epochs, batch_size=64, lr=0.05, weights=str(first), layer_decay=0.7)
    [floor] = remembered(journal, "plain", lambda: train_plain(target, adapt, plain))
    recipe = adapt.model_copy(update={"weights": str(plain)})
    curves = {
        name: np.array(
            [
                remembered(journal, f"{name}, seed {seed}", partial(curve, target, recipe, *arm, seed))
                for seed in range(options.seeds)
            ]
        )
        for name, arm in ARMS.items()
    }
    seconds = sum(json.loads(line)["seconds"] for line in journal.read_text().splitlines())
    text = "\n".join(
        [
            f"The network (attune_tiny, twice as wide) learned {len(source.train)} images of "
            f"`{source.name.rpartition('/')[2]}` for {options.source_epochs} epochs "
            f"(accuracy {on_source:.3f}), then {len(target.train)} of "
            f"`{target.name.rpartition('/')[2]}` at {target.size[0]} pixels for {options.epochs} epochs without attention: "
            f"**{floor:.3f}, the floor**. Then `{ATTENTION}` went in and everything was trained for {options.epochs} more "
            f"epochs, {options.seeds} seeds, layer-wise learning rates (0.7 a stage). Validation accuracy, mean ± standard "
            f"deviation over the seeds; epoch 0 is before the first step.",
            "",
            table(curves),
            "",
            f"{pick_device().type}, {seconds / 60:.1f} CPU minutes in all.",
        ]
    )
    print(text)
    if options.markdown:
        draw(curves, floor, options.markdown.with_suffix(".png"))
        write(options.markdown, "measured", text + "\n")


if __name__ == "__main__":
    main()
