"""What `benchmarks.gpu` measures: one function and one entry of ``PARTS`` for each part, in the order of their value."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.functional import cross_entropy

from benchmarks import attention, detection_throughput, segmentation, throughput
from evaluators.data import Data, load_data
from evaluators.recipe import Recipe
from evaluators.supernet.evaluator import SupernetEvaluator
from evaluators.tasks.classification import Classification
from evaluators.tasks.detection import DetectionConfig
from evaluators.tasks.segmentation import SegmentationConfig
from evaluators.training import TrainingEvaluator, loop, pick_device
from evaluators.training.device import arranged
from search.build import create_task
from search.config import load_config
from spaces import Architecture, build_model
from spaces.attention import list_attentions

CANDIDATE = Architecture.parse("attune_tiny:se-r4,cbam-r4,none")
RESNET = Architecture.parse("resnet18:none,none,none,none")
CIFAR_RECIPE = Recipe(epochs=16, batch_size=512, lr=0.4, warmup=3, cutout=8, ema=0.999)
LITTLE = {"train_size": 64, "val_size": 32}  # of every data set in a tiny run


@dataclass(frozen=True)
class Setup:
    """What all parts are given: the data of CIFAR-10, as ``load_data`` names them, and whether to run small."""

    cifar: str | None = None
    tiny: bool = False

    def data(self, **options: Any) -> dict[str, Any]:
        """The embedded data with these options, few in a tiny run."""
        return {"name": "cluttered_digits", **options, **(LITTLE if self.tiny else {})}

    @property
    def overrides(self) -> list[str]:
        """What a tiny run changes in a configuration."""
        return [f"data={json.dumps(self.data())}"] if self.tiny else []


@dataclass(frozen=True)
class Found:
    """What a part found: lines of markdown, a sentence on its bar, and whether that was met (None: it has no bar)."""

    lines: list[str]
    verdict: str
    met: bool | None = None


@dataclass(frozen=True)
class Part:
    """One part: its heading, minutes on one large GPU, what to look for, and the function that measures."""

    name: str
    title: str
    minutes: float
    look_for: str
    run: Callable[[Setup], Found]
    cifar: bool = False
    gpu_only: bool = False


def one_line(error: BaseException) -> str:
    """An exception as one line of bearable length."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:200]}"


@cache
def cifar_data(setup: Setup) -> Data:
    """CIFAR-10, 5,000 of its training images for validation, decoded once a process."""
    assert setup.cifar is not None
    return load_data(setup.cifar, **(LITTLE if setup.tiny else {"val_size": 5000}))


def small(recipe: Recipe) -> Recipe:
    """The recipe with batches that a tiny run's data can fill."""
    return recipe.model_copy(update={"batch_size": 32})


def throughput_part(setup: Setup) -> Found:
    """The training evaluator against the DataLoader loop, with two workers and with eight."""
    device = pick_device()
    seeds, loops = (1, dict(throughput.LOOPS)) if setup.tiny else (2, dict(throughput.LOOPS))
    if not setup.tiny:
        loops["usual, 8 workers"] = partial(throughput.usual_loop, workers=8)
    cases = [throughput.embedded_case(seeds, **(LITTLE if setup.tiny else {}))]
    if setup.cifar:
        data = cifar_data(setup)
        # enough for a ratio: the DataLoader loop takes minutes over all of them
        some = data if setup.tiny else replace(data, train=throughput.first(data.train, 12_800))
        case = throughput.resnet_case(some, seeds)
        cases.append(replace(case, recipe=small(case.recipe)) if setup.tiny else case)
    lines, ratios = list(throughput.HEADER), {}
    for case in cases:
        throughput.warm_up(case, device)
        runs = throughput.measure(case, device, loops=loops)
        lines += throughput.rows(case, runs)
        ratios[case.name.partition(",")[0]] = throughput.ratio(runs)
        print("\n".join(lines[-len(runs) :]), flush=True)
    return Found(lines, *over_bar(ratios, 5))


def replayed_part(setup: Setup) -> Found:
    """Seconds of whole trainings as Attune makes them, and with every operator launched one by one; they take turns."""
    device, data = pick_device(), cifar_data(setup)
    some = data if setup.tiny else replace(data, train=throughput.first(data.train, 12_800))
    resnet = throughput.resnet_case(some, 1, epochs=1 if setup.tiny else 2)
    resnet = replace(resnet, recipe=small(resnet.recipe)) if setup.tiny else resnet
    ways = {"replayed": loop.replayed, "launched": lambda model, *_: model}
    lines, gains = ["| training | replayed | launched one by one | times | accuracy |", "|---|---|---|---|---|"], {}
    for case in (throughput.embedded_case(1, **(LITTLE if setup.tiny else {})), resnet):
        throughput.warm_up(case, device, {"Attune": throughput.ours})
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for name in [*ways] * 2:
            with patch.object(loop, "replayed", ways[name]):
                found[name].append(throughput.ours(case, 0, device))
        seconds = {name: statistics.median(time for _, time in runs) for name, runs in found.items()}
        each = {name: listed(f"{time:.2f}" for _, time in runs) for name, runs in found.items()}
        accuracies = {name: {accuracy for accuracy, _ in runs} for name, runs in found.items()}
        same = "the same" if accuracies["replayed"] == accuracies["launched"] else str(accuracies)
        gains[case.name.partition(",")[0]] = gain = seconds["launched"] / seconds["replayed"]
        lines.append(f"| {case.name} | {each['replayed']} s | {each['launched']} s | {gain:.2f} | {same} |")
    told = ", ".join(f"{name} {gain:.2f}x" for name, gain in gains.items())
    return Found(lines, f"As fast at least, at the same accuracy: {told}.", all(gain >= 1 for gain in gains.values()))


def over_bar(ratios: dict[str, float], bar: float) -> tuple[str, bool]:
    """The sentence on how many times faster each thing is, and whether all are as fast as the bar asks for."""
    told = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in ratios.items())
    short = [name for name, ratio in ratios.items() if ratio < bar]
    return f"At least {bar:g}x: {told}: " + (f"not met by {', '.join(short)}." if short else "met."), not short


def cifar_part(setup: Setup) -> Found:
    """Seconds of training (the data are in memory, as decoded uint8) to the first epoch at 90 % and 93 % of validation."""
    seeds, epochs, goals = (1, 1, (0.90, 0.93)) if setup.tiny else (3, CIFAR_RECIPE.epochs, (0.90, 0.93))
    recipe = small(CIFAR_RECIPE) if setup.tiny else CIFAR_RECIPE
    evaluator = TrainingEvaluator(Classification(cifar_data(setup)), recipe, device=pick_device())
    evaluator.evaluate(RESNET, fidelity=1, seed=0)  # pays for imports and kernels
    reached: dict[float, list[float]] = {goal: [] for goal in goals}
    finals = []
    for seed in range(1, seeds + 1):
        first: dict[float, float] = {}

        def report(epoch: int, metrics: dict[str, float], first: dict[float, float] = first) -> bool:
            for goal in goals:
                if metrics["accuracy"] >= goal:
                    first.setdefault(goal, metrics["seconds"])
            return True

        finals.append(evaluator.evaluate(RESNET, fidelity=epochs, seed=seed, report=report))
        for goal, seconds in first.items():
            reached[goal].append(seconds)
    lines = [
        "| validation accuracy | seeds that reached it | seconds (median) | seconds of each |",
        "|---|---|---|---|",
    ]
    for goal, times in reached.items():
        middle = f"{statistics.median(times):.1f}" if times else "-"
        lines.append(f"| {goal:.0%} | {len(times)} of {seeds} | {middle} | {listed(f'{t:.1f}' for t in times)} |")
    accuracy, seconds = (statistics.median(final[name] for final in finals) for name in ("accuracy", "seconds"))
    each = listed(f"{final['seconds']:.1f}" for final in finals)
    lines.append(f"| {accuracy:.2%} (median) after all {epochs} epochs | {seeds} of {seeds} | {seconds:.1f} | {each} |")
    told = ", ".join(
        f"{goal:.0%} after {statistics.median(times):.1f} s" if len(times) == seeds else f"{goal:.0%} not by all seeds"
        for goal, times in reached.items()
    )
    return Found(lines, f"{told}.", all(len(times) == seeds for times in reached.values()))


def listed(texts: Iterable[str]) -> str:
    return ", ".join(texts) or "-"


def candidates(connection: Connection, setup: Setup) -> None:
    """A process that trains candidates of the default space: for as many seconds as it is told, again and again.

    It answers with the number of candidates and the seconds until the last of them was finished.
    """
    torch.set_num_threads(1)
    config = load_config("configs/default.yaml", setup.overrides)
    evaluator = TrainingEvaluator(create_task(config), config.training, device=pick_device())
    evaluator.evaluate(CANDIDATE, fidelity=1, seed=0)  # pays for imports and kernels
    connection.send("ready")
    while (seconds := connection.recv()) is not None:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            evaluator.evaluate(CANDIDATE, fidelity=config.training.epochs, seed=count)
            count += 1
        connection.send((count, time.perf_counter() - started))


def packing_part(setup: Setup) -> Found:
    """Candidates an hour for every number of processes that share the device; all are started first, and wait."""
    counts, seconds = ((1, 2), 0.1) if setup.tiny else ((1, 2, 4, 8, 16), 6.0)
    context = multiprocessing.get_context("spawn")
    connections = []
    for _ in range(max(counts)):
        here, there = context.Pipe()
        context.Process(target=candidates, args=(there, setup), daemon=True).start()
        there.close()
        connections.append(here)
    for connection in connections:
        connection.recv()  # it is ready
    lines, hourly = ["| at once | candidates an hour | times one at a time |", "|---|---|---|"], {}
    for count in counts:
        for connection in connections[:count]:
            connection.send(seconds)
        answers = [connection.recv() for connection in connections[:count]]
        hourly[count] = sum(3600 * trained / took for trained, took in answers)
        lines.append(f"| {count} | {hourly[count]:.0f} | {hourly[count] / hourly[1]:.2f} |")
        print(lines[-1], flush=True)
    for connection in connections:
        connection.send(None)
    best = max(hourly, key=lambda count: hourly[count])
    cores = f"; the machine has {os.cpu_count()} CPU cores, and each process one thread"
    return Found(lines, f"{best} at once give the most candidates an hour (`resources.gpus: {1 / best:.4g}`){cores}.")


def attention_part(dtype: str, setup: Setup, *, graphs: bool = False, compiled: bool = False) -> Found:
    """Forward and backward of every attention type against timm's or published code's form, as one setting."""
    way = attention.Setting(dtype, 1, pick_device().type, compiled, graphs)
    names = attention_names(compiled, setup.tiny)
    shapes = ((2, 8, 6, 6),) if setup.tiny else attention.SHAPES[1:2] if compiled else attention.SHAPES
    threads, rows, broken = torch.get_num_threads(), [], []
    gc.freeze()  # a measurement of memory collects garbage first, which should not go through all of torch each time
    for shape, name in product(shapes, names):
        try:
            rows.append(attention.measure(name, shape, way, seconds=0.01 if setup.tiny else 0.1))
        except RuntimeError as error:  # what a type cannot do in this setting is told in the page
            if way.device == "cuda":
                torch.cuda.synchronize()  # raises where the device is of no use any more
            broken.append(f"{name} at {attention.by(shape)}: {one_line(error)}")
            print(broken[-1], flush=True)
    gc.unfreeze()
    torch.set_num_threads(threads)
    lines = attention.table(
        "setting | shape | mean: | least (quartiles) | slower | more memory", attention.summary(rows)
    )
    columns = " | ".join(f"{attention.by(shape)}:" for shape in shapes)
    lines += attention.table(f"type | counterpart | {columns}", (of_type(name, shapes, rows) for name in names))
    lines += [f"Not measured: {text}" for text in broken]
    slower = [f"{row.name} at {row.shape[2]} px" for row in rows if row.slower]
    told = f"slower: {listed(slower)}" + (f"; not measured: {len(broken)}" if broken else "")
    met = bool(rows) and not slower and not broken
    mean = f"{statistics.geometric_mean(row.ratio for row in rows):.2f}x on average" if rows else "nothing measured"
    return Found(lines, f"No type slower than its counterpart: {'met' if met else 'not met'} ({mean}; {told}).", met)


def attention_names(compiled: bool, tiny: bool) -> Sequence[str]:
    """All types; compiling takes seconds for each, so there it is the usual ones and those of the bar."""
    if tiny:
        return ("se", "cbam")
    return ("se", "cbam", "eca", *attention.BARRED) if compiled else list_attentions()


def of_type(name: str, shapes: Sequence[tuple[int, ...]], rows: list[attention.Row]) -> str:
    """The line of a type: how many times faster at every shape, and its milliseconds."""
    own = {row.shape[1:]: row for row in rows if row.name == name}
    cells = [
        f"{own[shape[1:]].ratio:.2f} ({own[shape[1:]].ours_ms:.3f} ms)" if shape[1:] in own else "-" for shape in shapes
    ]
    return " | ".join([name, next((row.peer for row in own.values()), "-"), *cells])


@dataclass(frozen=True)
class Way:
    """One way of running a training step."""

    name: str
    dtype: torch.dtype | None = None
    channels_last: bool = False
    graphs: bool = False
    compile: str | None = None


OURS = Way("bf16, channels_last", torch.bfloat16, True)
EAGER = [
    OURS,
    Way("float32"),
    Way("float32, channels_last", None, True),
    Way("bf16", torch.bfloat16),
    Way("fp16", torch.float16),
    Way("fp16, channels_last", torch.float16, True),
]
GRAPHED = [
    Way("bf16, channels_last, CUDA graph of forward and backward (as Attune does)", torch.bfloat16, True, graphs=True)
]
COMPILED = [OURS] + [
    Way(f"bf16, channels_last, torch.compile {mode}", torch.bfloat16, True, compile=mode)
    for mode in ("default", "reduce-overhead")
]


def training_step(arch: Architecture, batch: int, way: Way, device: torch.device) -> Callable[[], None]:
    """One training step on a batch that stays: forward, loss, backward, SGD. The graph leaves out the optimizer."""
    torch.manual_seed(0)
    model = arranged(build_model(arch, 10, 3, image_size=(32, 32)).to(device), way.channels_last).train()
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    x_BCHW = torch.randn(batch, 3, 32, 32, device=device).contiguous(memory_format=layout)
    y_B = torch.randint(10, (batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
    forward = torch.compile(model, mode=way.compile) if way.compile else model

    def passes() -> None:
        with torch.autocast(device.type, way.dtype) if way.dtype else nullcontext():
            loss = cross_entropy(forward(x_BCHW), y_B)
        loss.backward()

    forget = partial(optimizer.zero_grad, set_to_none=True)

    def eager() -> None:
        passes()
        optimizer.step()
        forget()

    if not way.graphs:
        return eager
    replay = attention.captured(passes, forget)

    def replayed() -> None:
        replay()
        optimizer.step()

    return replayed


def milliseconds(step: Callable[[], None], device: torch.device, seconds: float) -> list[float]:
    """Milliseconds a step in five turns of as many steps; the device is waited for at the ends of a turn only."""

    def turn(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - started) / count

    turn(3)
    count = max(1, round(1e3 * seconds / 5 / turn(1)))
    return [turn(count) for _ in range(5)]


def steps_part(setup: Setup, ways: Sequence[Way]) -> Found:
    """Milliseconds of a training step of a candidate and of resnet18, in every way."""
    device = pick_device()
    networks = [(CANDIDATE, 32)] if setup.tiny else [(CANDIDATE, 32), (RESNET, 128), (RESNET, 512)]
    lines = [
        "| network | batch | way | ms a step (median) | spread | images/s | times the first | seconds to the first |",
        "|---|---|---|---|---|---|---|---|",
    ]
    best: list[str] = []
    for arch, batch in networks:
        found: dict[str, float] = {}
        for way in ways:
            started = time.perf_counter()
            step = training_step(arch, batch, way, device)
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            once = time.perf_counter() - started
            times = milliseconds(step, device, 0.01 if setup.tiny else 1.0)
            found[way.name] = middle = statistics.median(times)
            lines.append(
                f"| {arch.backbone} | {batch} | {way.name} | {middle:.2f} | {min(times):.2f}-{max(times):.2f} "
                f"| {1e3 * batch / middle:,.0f} | {found[OURS.name] / middle:.2f} | {once:.1f} |"
            )
            print(lines[-1], flush=True)
        quickest = min(found, key=lambda name: found[name])
        best.append(f"{arch.backbone} with batch {batch}: {quickest} ({found[OURS.name] / found[quickest]:.2f}x)")
    return Found(lines, f"The quickest: {'; '.join(best)}.")


def supernet_part(setup: Setup) -> Found:
    """One epoch of the supernet of Attune-Bench's space, scores out of it, and standalone trainings beside it."""
    config = load_config("configs/attune_bench.yaml", setup.overrides)
    task, space, device = create_task(config), config.space.build(), pick_device()
    repeats, scores, paths = (1, 2, 2) if setup.tiny else (3, 12, max(space.sizes))
    standalone = TrainingEvaluator(task, config.training, device=device)
    standalone.evaluate(CANDIDATE, fidelity=1, seed=0)  # pays for imports and kernels
    archs = [space.architecture([index % size for size in space.sizes]) for index in range(scores)]
    whole = statistics.median(
        standalone.evaluate(arch, fidelity=config.training.epochs, seed=0)["seconds"] for arch in archs[:repeats]
    )
    supernet = SupernetEvaluator(task, space, config.training, paths=paths, device=device)
    started = time.perf_counter()
    supernet.net(1, 0)
    training = time.perf_counter() - started
    supernet.evaluate(archs[0], fidelity=1, seed=0)
    score = statistics.median(supernet.evaluate(arch, fidelity=1, seed=0)["seconds"] for arch in archs)
    batch = config.training.batch_size
    images = task.count("train") // batch * batch
    lines = [
        "| what | seconds | training images a second |",
        "|---|---|---|",
        f"| one standalone candidate, {config.training.epochs} epochs (median of {repeats}) | {whole:.2f} "
        f"| {images * config.training.epochs / whole:,.0f} |",
        f"| one epoch of the supernet, {paths} paths a step | {training:.2f} | {images * paths / training:,.0f} |",
        f"| one score (median of {scores}) | {score:.3f} | - |",
    ]
    share, met = 3 * whole / score, 50 * score <= 3 * whole
    return Found(
        lines,
        f"A score for 1/50 of a candidate's three trainings or less: 1/{share:.0f}: {'met' if met else 'not met'}.",
        met,
    )


def segmentation_part(setup: Setup) -> Found:
    """The embedded segmentation against the loop of torchvision's references."""
    epochs, seeds, batch, device = 1 if setup.tiny else 2, 1 if setup.tiny else 3, 8, pick_device()
    config = SegmentationConfig.model_validate({"head": "fpn", "scale": [0.5, 2.0]})
    arch, recipe = Architecture.plain("attune_tiny"), segmentation.poly(0.01, batch)
    task = config.build(setup.data(), seed=0)
    warm = config.build({"name": "cluttered_digits", **LITTLE}, seed=0)
    segmentation.usual_loop(warm, arch, batch, 1, 0, device)
    segmentation.ours(warm, arch, recipe, 1, 0, device)
    pairs = [
        (
            segmentation.usual_loop(task, arch, batch, epochs, seed, device).seconds,
            segmentation.ours(task, arch, recipe, epochs, seed, device).seconds,
        )
        for seed in range(seeds)
    ]
    return beside_torchvision(task.count("train") // batch * batch * epochs, pairs, batch)


def detection_part(setup: Setup) -> Found:
    """SSDLite on the embedded scenes against the loop of torchvision's detection reference."""
    options = {"image_size": 64, "train_size": 1280, "val_size": 16}
    config, arch, device = DetectionConfig(head="ssdlite"), Architecture.plain("attune_tiny"), pick_device()
    recipe = Recipe(preset="detection", batch_size=16, clip=None)
    warm = config.build({"name": "cluttered_digits", "image_size": 64, **LITTLE}, seed=0)
    detection_throughput.compare(warm, arch, recipe, 1, device)
    task = warm if setup.tiny else config.build(setup.data(**options), seed=0)
    found = detection_throughput.compare(task, arch, recipe, 1 if setup.tiny else 3, device)
    pairs = [(usual[0], ours[0]) for usual, ours in zip(found["usual"], found["ours"], strict=True)]
    return beside_torchvision(task.count("train") // 16 * 16, pairs, 16)


def beside_torchvision(pictures: int, pairs: list[tuple[float, float]], batch: int) -> Found:
    """The table of two loops, of (the reference's seconds, ours) in every repeat."""
    usual, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    lines = [
        "| loop | batch | pictures a second (median) | seconds of each repeat |",
        "|---|---|---|---|",
        f"| torchvision's reference | {batch} | {pictures / usual:,.0f} | {listed(f'{u:.2f}' for u, _ in pairs)} |",
        f"| Attune | {batch} | {pictures / ours:,.0f} | {listed(f'{o:.2f}' for _, o in pairs)} |",
    ]
    return Found(lines, *over_bar({"Attune": usual / ours}, 1.5))


SLOWER = (
    "Look for a speed of at least 1 for every type: how many times faster a training step is than its counterpart's, with the "
    "milliseconds of ours."
)
PARTS = [
    Part(
        "replayed",
        "Trainings as CUDA graphs",
        0.5,
        "Look for at least 1: how many times faster a training is whose passes are recorded once and replayed.",
        replayed_part,
        cifar=True,
        gpu_only=True,
    ),
    Part(
        "cifar10",
        "Seconds to 90 % and 93 % on CIFAR-10",
        1.2,
        "Look for seconds to the first epoch at 90 % and at 93 % of 5,000 held-out images, building, augmentation and "
        "validation included: resnet18 with the stem for small images, 16 epochs.",
        cifar_part,
        cifar=True,
    ),
    Part(
        "packing",
        "Candidates at once",
        1.6,
        "Look for the number of processes that gives the most candidates an hour: what `resources.gpus: 1/N` should say.",
        packing_part,
    ),
    Part(
        "steps-graphs",
        "A training step as a CUDA graph",
        0.3,
        "Look for what replaying forward and backward gives; the evaluator does so where the gradients stay the same.",
        partial(steps_part, ways=[OURS, *GRAPHED]),
        gpu_only=True,
    ),
    Part("attention-bf16", "Attention in bf16", 0.9, SLOWER, partial(attention_part, "bf16")),
    Part("attention-fp16", "Attention in fp16", 0.9, SLOWER, partial(attention_part, "fp16")),
    Part(
        "attention-graphs",
        "Attention in bf16, as CUDA graphs",
        0.9,
        f"{SLOWER} The step is recorded once and replayed, so that no time is spent on launching kernels.",
        partial(attention_part, "bf16", graphs=True),
        gpu_only=True,
    ),
    Part(
        "steps",
        "Layouts and precisions of a training step",
        0.6,
        "Look for how bf16 autocast in channels_last, which Attune takes, compares with the others, launched one by one.",
        partial(steps_part, ways=EAGER),
    ),
    Part(
        "supernet",
        "Supernet",
        0.5,
        "Look for a score for 1/50 of a candidate's three standalone trainings, and for training images a second, summed "
        "over the paths of a step, that are not below a standalone training's.",
        supernet_part,
    ),
    Part(
        "segmentation",
        "Segmentation throughput",
        0.6,
        "Look for at least 1.5 times the loop of torchvision's references.",
        segmentation_part,
    ),
    Part(
        "detection",
        "Detection throughput",
        0.6,
        "Look for at least 1.5 times the loop of torchvision's references.",
        detection_part,
    ),
    Part(
        "throughput",
        "Training throughput",
        1.8,
        "Look for at least 5 times the DataLoader loop with two workers, at an accuracy that is not worse beyond the spread of "
        "the seeds; the loop with eight workers shows how much of that is the loader's.",
        throughput_part,
        cifar=True,
    ),
    Part(
        "attention-fp16-graphs",
        "Attention in fp16, as CUDA graphs",
        0.9,
        f"{SLOWER} The step is recorded once and replayed.",
        partial(attention_part, "fp16", graphs=True),
        gpu_only=True,
    ),
    Part(
        "steps-compiled",
        "A compiled training step",
        3,
        "Look for what `training.compile` gives a step, and for the seconds until the first one is done.",
        partial(steps_part, ways=COMPILED),
        gpu_only=True,
    ),
    Part(
        "attention-compiled",
        "Attention in bf16, compiled",
        3,
        f"{SLOWER} Both are compiled; some types only, since compiling takes long.",
        partial(attention_part, "bf16", compiled=True),
        gpu_only=True,
    ),
]
BY_NAME = {part.name: part for part in PARTS}
