"""Speed and memory of every attention module against timm's, or against the plain form that published code uses.

`python -m benchmarks.attention` measures forward + backward of both in the same run, taking turns, and keeps every row in
benchmarks/attention.jsonl, where the rows of single types, shapes, dtypes or threads replace their like; `--resume` leaves
out what is there already. `--docs` writes docs/attention.md from all rows. On a GPU: channels_last bf16, compiled and not.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler announces every measurement of memory

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.plain_attention import counterpart
from evaluators.counting import METRICS, count_module
from spaces.attention import attention_type, create_attention, list_attentions

SHAPES = ((32, 64, 56, 56), (32, 256, 14, 14), (32, 1024, 7, 7))
RESULTS = Path(__file__).with_name("attention.jsonl")
DOCS = Path(__file__).parent.parent / "docs" / "attention.md"
# Heads of the types whose plain form holds a weight for every pair of positions, and the most that one such array may take.
PAIRS = {"non_local": 1, "dual_attention": 1, "self_attention": 4, "augmented_conv": 4}
PAIR_BYTES = 320 * 2**20
PRODUCTS = ("conv", "mm", "scaled_dot_product")  # in the names of the operators that multiply matrices
# The types that are meant to be at least 1.3 times faster, or to show what bounds them.
BARRED = ("gam", "double_attention", "triplet", "coordinate")


@dataclass(frozen=True)
class Setting:
    """One way of running a module."""

    dtype: str
    threads: int
    device: str = "cpu"
    compiled: bool = False

    def __str__(self) -> str:
        where = self.device if self.device != "cpu" else f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.dtype}, {where}" + (", compiled" if self.compiled else "")


@dataclass(frozen=True)
class Row:
    """A module and its counterpart on one shape in one setting: a training step of each.

    Milliseconds (medians), peak bytes, the quartiles of the ratio over the turns; ``products`` is the share of the
    counterpart's step that its convolutions and matrix products take, ``roof_ms`` what no form can be below.
    """

    name: str
    peer: str
    shape: tuple[int, ...]
    setting: Setting
    machine: str
    ours_ms: float
    peer_ms: float
    low: float
    high: float
    ours_bytes: int
    peer_bytes: int
    products: float | None
    roof_ms: float

    @property
    def ratio(self) -> float:
        """How many times faster than the counterpart: of the medians, within the quartiles of the turns."""
        return statistics.median((self.low, self.peer_ms / self.ours_ms, self.high))

    @property
    def slower(self) -> bool:
        """Slower than the counterpart by more than the noise: in three of four turns, and by more than 2 %."""
        return self.high < 1 and self.ratio < 0.98

    @property
    def memory(self) -> float:
        """Peak memory over that of the counterpart."""
        return self.ours_bytes / max(1, self.peer_bytes)

    @property
    def key(self) -> tuple[Any, ...]:
        return self.name, self.shape, self.setting

    def to_json(self) -> str:
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return json.dumps(rounded)

    @classmethod
    def from_json(cls, line: str) -> "Row":
        values = json.loads(line)
        return cls(**values | {"shape": tuple(values["shape"]), "setting": Setting(**values["setting"])})


# --- measuring --------------------------------------------------------------------------------------------------------
def machine(device: str) -> str:
    """What the rows were measured on."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in flags]
    name = " ".join([names[0] if names else platform.processor() or platform.machine(), *units])
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}"


def settings() -> list[Setting]:
    """What there is to measure on this machine."""
    if torch.cuda.is_available():
        return [Setting("bf16", 1, "cuda", compiled) for compiled in (False, True)]
    every = os.cpu_count() or 1
    threads = (1, every) if every > 1 else (1,)
    return [Setting(dtype, count) for dtype in ("fp32", "bf16") for count in threads]


def shape_for(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with its batch halved until the plain form's weights of all pairs of positions are of bearable size."""
    batch, *rest = shape
    while PAIRS.get(name, 0) * batch * (shape[2] * shape[3]) ** 2 * 4 > PAIR_BYTES:
        batch //= 2
    return batch, *rest


def step(module: nn.Module, x: Tensor, gradient: Tensor, setting: Setting) -> Callable[[], None]:
    """One forward and backward pass; the gradients of x and of all parameters are dropped at its end."""
    run = torch.compile(module) if setting.compiled else module

    def once() -> None:
        with torch.autocast(setting.device, torch.bfloat16) if setting.dtype == "bf16" else nullcontext():
            y = run(x)
        y.backward(gradient.to(y.dtype))
        module.zero_grad(set_to_none=True)
        x.grad = None
        if setting.device == "cuda":
            torch.cuda.synchronize()

    return once


def peak_and_products(once: Callable[[], None], setting: Setting) -> tuple[int, float | None]:
    """The most memory that one step held beside what was there before it, and the share of products in its time."""
    gc.collect()
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        once()
        return torch.cuda.max_memory_allocated() - before, None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        once()
    held = peak = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    spent = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    products = [us for key, us in spent.items() if any(word in key for word in PRODUCTS)]
    return peak, sum(products) / sum(spent.values())


def clock(setting: Setting) -> float:
    """Seconds: the processor's where one thread works, whatever else the machine does; else those of the wall."""
    return time.process_time() if (setting.device, setting.threads) == ("cpu", 1) else time.perf_counter()


def alternate(
    ours: Callable[[], None], peer: Callable[[], None], setting: Setting, seconds: float
) -> list[tuple[float, float]]:
    """Milliseconds a step of both, in 3 to 9 turns that alternate between the two."""

    def turn(once: Callable[[], None], count: int) -> float:
        start = clock(setting)
        for _ in range(count):
            once()
        return 1e3 * (clock(setting) - start) / count

    ours(), peer()
    both = 1e-3 * (turn(ours, 1) + turn(peer, 1))
    turns = min(9, max(3, round(seconds / both)))
    count = max(1, round(seconds / (turns * both)))
    return [(turn(ours, count), turn(peer, count)) for _ in range(turns)]


@cache
def roofs(setting: Setting, shape: tuple[int, ...]) -> tuple[float, float]:
    """Bytes a second of copying a map, and FLOPs a second of the better of a matrix product and a 3 x 3 convolution."""
    dtype = torch.bfloat16 if setting.dtype == "bf16" else torch.float32
    x, y = (torch.ones(shape, dtype=dtype, device=setting.device) for _ in range(2))
    a = torch.ones(1024, 1024, dtype=dtype, device=setting.device)
    maps = torch.ones(32, 256, 14, 14, dtype=dtype, device=setting.device)
    weight = torch.ones(256, 256, 3, 3, dtype=dtype, device=setting.device)

    def fastest(run: Callable[[], Any]) -> float:
        times = []
        for _ in range(6):
            start = clock(setting)
            run()
            if setting.device == "cuda":
                torch.cuda.synchronize()
            times.append(clock(setting) - start)
        return min(times)

    with torch.no_grad():
        moved = 2 * x.numel() * x.element_size() / fastest(lambda: y.copy_(x))
        product = 2 * 1024**3 / fastest(lambda: a @ a)
        convolved = 2 * maps.numel() * 256 * 9 / fastest(lambda: nn.functional.conv2d(maps, weight, padding=1))
    return moved, max(product, convolved)


class Traffic(TorchDispatchMode):
    """Counts the bytes that operators read and write: each operand and each result once, a broadcast one by what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func.namespace == "aten" and "unsafe_view" not in func.name():
            tensors = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)]
            for tensor in tensors:
                held = prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
                self.bytes += held * tensor.element_size()
        return result


@cache
def passes(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """How often the operators of one step read or write a map in float32, ours and the counterpart's. Computes nothing."""
    moved = []
    with torch.device("meta"):
        for module in (create_attention(name, shape[1]), counterpart(name, shape[1], shape[2])[1]):
            x = torch.empty(shape, requires_grad=True)
            with Traffic() as traffic:
                module.train()(x).backward(torch.empty_like(x))
            moved.append(traffic.bytes / (x.numel() * x.element_size()))
    ours, theirs = moved
    return ours, theirs


def macs(name: str, shape: tuple[int, ...]) -> int:
    """Multiply-adds of the forward pass of the whole batch."""
    with torch.device("meta"):
        counts = count_module(create_attention(name, shape[1]), torch.empty(1, *shape[1:])).total
    return int(counts[METRICS.index("macs")]) * shape[0]


def roof_ms(name: str, shape: tuple[int, ...], setting: Setting) -> float:
    """Milliseconds that no form can be below: five passes over maps, or three times the forward pass's products.

    The passes read x, write y, read x and the gradient of y, and write the gradient of x.
    """
    moved, computed = roofs(setting, shape)
    width = 2 if setting.dtype == "bf16" else 4
    return 1e3 * max(5 * prod(shape) * width / moved, 3 * 2 * macs(name, shape) / computed)


def measure(name: str, shape: tuple[int, ...], setting: Setting, seconds: float) -> Row:
    """Both modules in training mode, parameters in float32, x in channels_last on a GPU."""
    torch.manual_seed(0)
    torch.set_num_threads(setting.threads)
    shape = shape_for(name, shape)
    label, other = counterpart(name, shape[1], shape[2])
    layout = torch.channels_last if setting.device == "cuda" else torch.contiguous_format
    dtype = torch.bfloat16 if setting.dtype == "bf16" else torch.float32
    x = torch.randn(shape, device=setting.device, dtype=dtype).to(memory_format=layout).requires_grad_()
    gradient = torch.randn_like(x)
    modules = [create_attention(name, shape[1]), other]
    ours, peer = (step(m.to(setting.device, memory_format=layout).train(), x, gradient, setting) for m in modules)
    turns = alternate(ours, peer, setting, seconds)
    low, _, high = statistics.quantiles((theirs / own for own, theirs in turns), method="inclusive")
    ours_bytes, _ = peak_and_products(ours, setting)
    peer_bytes, products = peak_and_products(peer, setting)
    return Row(
        name=name,
        peer=label,
        shape=shape,
        setting=setting,
        machine=machine(setting.device),
        ours_ms=statistics.median(own for own, _ in turns),
        peer_ms=statistics.median(theirs for _, theirs in turns),
        low=low,
        high=high,
        ours_bytes=ours_bytes,
        peer_bytes=peer_bytes,
        products=products,
        roof_ms=roof_ms(name, shape, setting),
    )


def load(path: Path = RESULTS) -> list[Row]:
    return [Row.from_json(line) for line in path.read_text().splitlines()] if path.exists() else []


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """The rows of both, newer ones first choice, ordered; a device keeps the rows of one machine only."""
    new = list(new)
    latest = {row.setting.device: row.machine for row in new}
    kept = [row for row in old if latest.get(row.setting.device, row.machine) == row.machine]
    rows = {row.key: row for row in [*kept, *new]}.values()

    def order(row: Row) -> tuple[Any, ...]:
        way = row.setting
        return way.device, way.compiled, way.dtype != "fp32", way.threads, row.shape[1], row.name

    return sorted(rows, key=order)


def save(rows: Iterable[Row], path: Path = RESULTS) -> None:
    path.write_text("".join(row.to_json() + "\n" for row in merged(load(path), rows)))


def run(names: list[str], shapes: list[tuple[int, ...]], seconds: float, ways: list[Setting]) -> Iterator[Row]:
    """Every combination, printed as it comes."""
    print(
        f"{'type':20} {'peer':5} {'shape':13} {'setting':16} {'ours ms':>8} {'peer ms':>8} {'ratio':>6}"
        f" {'quartiles':>11} {'memory':>6} {'products':>8} {'x roof':>6}"
    )
    for setting in ways:
        for shape in shapes:
            for name in names:
                row = measure(name, shape, setting, seconds)
                text = f"{name:20} {row.peer:5} {by(row.shape):13} {setting!s:16} {row.ours_ms:8.2f} {row.peer_ms:8.2f}"
                spread = f"{row.low:5.2f}-{row.high:<5.2f} {row.memory:6.2f} {percent(row.products):>8}"
                print(f"{text} {row.ratio:6.2f} {spread} {row.ours_ms / row.roof_ms:6.1f}", flush=True)
                yield row


# --- the page ---------------------------------------------------------------------------------------------------------
def by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def table(header: str, lines: Iterable[str]) -> list[str]:
    """A markdown table; a column whose name ends in a colon is aligned to the right."""
    columns = header.split(" | ")
    rule = "|" + "|".join("---:" if column.endswith(":") else "---" for column in columns) + "|"
    return [f"| {' | '.join(column.rstrip(':') for column in columns)} |", rule, *(f"| {line} |" for line in lines), ""]


def described(name: str, rows: list[Row]) -> str:
    """A line of the library's table; its speed is that of the first setting of ``rows``, the only thing measured."""
    kind = attention_type(name)
    genes = ", ".join(f"{gene} {kind.default(gene) or 'by C'}" for gene in kind.genes)
    counts = f"{kind.params(256):,} | {macs(name, (1, 256, 14, 14)):,}"
    own = {row.shape[1:]: row for row in rows if row.name == name and row.setting == rows[0].setting}
    speed = " / ".join(f"{own[shape[1:]].ratio:.2f}" if shape[1:] in own else "-" for shape in SHAPES)
    label = f" ({next(iter(own.values())).peer[0]})" if own else ""
    return f"{name} | `{kind.equation}` | {genes or '-'} | {kind.formula} | {counts} | {speed}{label} | {kind.paper}"


def variants(name: str) -> str:
    kind = attention_type(name)
    flags = ", ".join(f"{flag}: {' / '.join(map(str, values))}" for flag, values in kind.flags.items())
    return f"{name} | {', '.join(kind.parts)} | {'yes' if 3 in kind.dims else '-'} | {flags or '-'}"


def summary(rows: list[Row]) -> Iterator[str]:
    """One line a setting and shape."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.setting, row.shape[1:]].append(row)
    for (setting, shape), group in groups.items():
        mean = statistics.geometric_mean(row.ratio for row in group)
        worst = min(group, key=lambda row: row.ratio)
        slower = ", ".join(f"{row.name} {row.ratio:.2f}" for row in group if row.slower)
        larger = ", ".join(f"{row.name} {row.memory:.2f}" for row in group if row.memory > 1.02)
        most = f"{worst.name} {worst.ratio:.2f} ({worst.low:.2f}-{worst.high:.2f})"
        yield f"{setting} | {by(shape)} | {mean:.2f} | {most} | {slower or 'none'} | {larger or 'none'}"


def missing(rows: list[Row]) -> Iterator[str]:
    """What of the full benchmark has no row, for the threads and shapes that have some."""
    have = {row.key for row in rows}
    for threads in sorted({row.setting.threads for row in rows}):
        for dtype in ("fp32", "bf16"):
            setting = Setting(dtype, threads)
            for shape in SHAPES:
                names = [name for name in list_attentions() if (name, shape_for(name, shape), setting) not in have]
                if names:
                    which = "all types" if len(names) == len(list_attentions()) else ", ".join(names)
                    yield f"Not measured: {setting}, {by(shape[1:])}: {which}; `--resume` adds it."


def bound(row: Row) -> str:
    limit = f"{1 / row.products:.2f}" if row.products else "-"
    flops = 3 * 2 * macs(row.name, row.shape)
    ours, theirs = passes(row.name, row.shape)
    one = prod(row.shape) * (2 if row.setting.dtype == "bf16" else 4)
    return (
        f"{row.name} | {row.setting} | {by(row.shape)} | {row.ratio:.2f} ({row.low:.2f}-{row.high:.2f}) |"
        f" {percent(row.products)} | {limit} | {flops / 1e9:.3g} | {flops / row.ours_ms / 1e6:.3g} |"
        f" {flops / row.peer_ms / 1e6:.3g} | {ours:.0f} | {theirs:.0f} | {ours * one / row.ours_ms / 1e6:.1f} |"
        f" {theirs * one / row.peer_ms / 1e6:.1f} | {row.ours_ms / row.roof_ms:.1f} | {row.peer_ms / row.roof_ms:.1f}"
    )


def measured(row: Row) -> str:
    return (
        f"{row.name} | {row.peer} | {by(row.shape)} | {row.setting} | {row.ours_ms:.2f} | {row.peer_ms:.2f} |"
        f" {row.ratio:.2f} | {row.low:.2f}-{row.high:.2f} | {row.memory:.2f} | {percent(row.products)} |"
        f" {row.ours_ms / row.roof_ms:.1f}"
    )


def page(rows: list[Row]) -> str:
    """docs/attention.md: the library, then what was measured."""
    names = list_attentions()
    cpu, gpu = ([row for row in rows if row.setting.device == device] for device in ("cpu", "cuda"))
    lines = [
        "<!-- Generated by `python -m benchmarks.attention --docs`; do not edit. -->",
        "# The attention library",
        "",
        f"{len(names)} types, each checked against its formula in float64 NumPy.",
        "",
        "```python",
        "from spaces.attention import create_attention",
        "",
        'create_attention("cbam", channels=64, reduction=16, kernel=7, arrangement="parallel")  # (B,C,H,W) -> same',
        'create_attention("eca+cbam", channels=64)  # the channel part of ECA, the spatial part of CBAM',
        'create_attention("gam", 64, identity_start=True)  # starts as the exact identity and learns its way out',
        'create_attention("non_local", 64, dims=3)  # volumes, (B,C,D,H,W)',
        "```",
        "",
        "No type depends on the size of the map. `run_search.py list attentions --json` gives the same facts to programs.",
        "",
        "- *Genes* are what a search chooses: the reduction r, the kernel k, the groups g, the arrangement; with their",
        "  published defaults, `by C` where the default follows from the number of channels. *Flags* are variants of",
        "  published code, given by keyword.",
        "- C channels, h = C // r hidden width (at least 1; Coordinate: m, at least 8). In formulas, s is the sigmoid,",
        "  mean and max are over the map unless an index says otherwise, conv_k is k x k, W are linear layers or 1x1",
        "  convolutions.",
        "- Two-part types take either arrangement. In parallel, the maps of both parts are summed, `x * (C(x) + S(x))`:",
        "  about twice the scale of one gate, where a series of two fresh sigmoids leaves 0.25 x. BAM and GALA fuse by",
        "  their own rules; a mix `A+B` takes the rule of its spatial type where both parts are gates.",
        "- `identity_start=True` starts any type as the exact identity, `x + g (f(x) - x)` with g = 0.",
        "- A batch normalisation that sees one value per channel while training (BAM at batch 1) uses its running",
        "  statistics.",
        "",
        "Parameters and MACs are at C = 256 on a 14 x 14 map with the defaults. Speed is how many times faster a training",
        "step (forward and backward) is than that of timm's module (t), or of the plain form of published code (p,",
        f"benchmarks/plain_attention.py), at {' / '.join(map(by, SHAPES))}, {rows[0].setting if rows else 'not measured'}.",
        "",
        *table(
            "type | formula | genes | parameters | at C=256: | MACs: | speed | paper",
            (described(name, rows) for name in names),
        ),
        "## Parts, volumes and flags",
        "",
        *table("type | parts | volumes | flags, the default first", map(variants, names)),
        "## How fast",
        "",
        "A training step of both modules in the same run, taking turns: medians (of processor time with one thread, of the",
        "wall's otherwise), and in brackets the quartiles of the ratio over the turns. Higher is faster than the counterpart.",
        "*Slower* lists what is below 1 by more than the noise (upper quartile below 1 and median below 0.98), *more memory*",
        "what takes over 1.02 times the counterpart's peak. Where a plain form holds a weight for every pair of positions,",
        "the batch at 56 x 56 is smaller.",
        "",
        *(f"Measured on: {name}." for name in sorted({row.machine for row in cpu})),
        "",
        *table(
            "setting | shape | mean: | least (quartiles) | slower | more memory",
            summary(cpu),
        ),
        *(line for text in missing(cpu) for line in (text, "")),
        "### What bounds it",
        "",
        "*Products* is the share of the counterpart's step that goes into convolutions and matrix products, which every",
        "form must do; if all else were free, the speed would be 1 / products (*limit*). *GFLOP* is what they multiply and",
        "add in a step, three times the forward pass's, and *GFLOP/s* that over the whole step's time. *Passes* counts how",
        "often the operators of a step read or write a map (every operand and result once), and *GB/s* what that comes to.",
        "*Over the roof* is the time over what the machine could do at best: the larger of five passes (read x, write y,",
        "read x and the gradient of y, write the gradient of x) at the bandwidth of a copy, and the GFLOP at the rate of the",
        "better of a 1024 x 1024 matrix product and a 3 x 3 convolution, both measured in the same run. Maps of 3 and 6 MB",
        "stay in the cache, and a copy runs at its bandwidth.",
        "",
        *table(
            "type | setting | shape | speed (quartiles) | products: | limit: | GFLOP: | GFLOP/s: | theirs: | passes: |"
            " theirs: | GB/s: | theirs: | over the roof: | theirs:",
            (bound(row) for row in cpu if row.name in BARRED),
        ),
        "### Where it is not faster, or takes more",
        "",
        "- *The noise.* lska, pixel_attention, residual_attention and spatial_transformer, and double_attention but for",
        "  56 x 56, run the operators of their plain forms one for one: what their speeds differ from 1 is what two runs of",
        "  the same thing differ by here: up to a tenth with one thread, and up to a third with two, on a machine of two",
        "  cores with other work.",
        "- *gam* is two 7 x 7 convolutions, 75 to 98 % of the step, which no other way of writing it makes less: even if all",
        "  else were free, it could be 1.02 to 1.34 times faster. At 14 x 14 it runs at the best rate of the machine.",
        "- *double_attention* is four 1x1 convolutions and two products in both forms, 75 to 97 % of the step: at most 1.03 to",
        "  1.33 times faster if all else were free. Where a map has more positions than channels, as at 56 x 56, the",
        "  convolutions are products for each image while training: 1.06 to 1.29 times faster, in float32 with 0.82 times",
        "  the memory. At",
        "  14 x 14 that would be 1.1 to 1.2 times faster in float32, but 0.93 times as fast in bfloat16, with 1.15 times the",
        "  memory, and at 7 x 7 the gradients of the weights of each image would be ten times the map.",
        "- *triplet* folds the side of its planes into the channels while training, as the 7 x 7 convolution of two planes to",
        "  one leaves most of a vector unit idle: it is 1.4 to 3.6 times faster. What is left are maxima and means over three",
        "  axes, each with its gradient: 53 to 63 passes where the plain form makes 88 to 96.",
        "- *coordinate* is bound by memory: the convolutions are 1 to 21 % of the step. It makes 25 to 30 passes where the",
        "  plain form makes 31 to 35. In bfloat16 on short rows both are bound by torch's broadcasting: one processor",
        "  multiplies a 7 x 7 map by a gate for each row at 1.6 GB/s (14 x 14: 2.0, 56 x 56: 4.2), without its vector units,",
        "  where it copies 24 GB/s; in float32 at 6.9 GB/s (15.6, 10.7). The gradients of its means, broadcast too, are copied",
        "  to maps there and then added: 0.6 + 0.6 ms at 14 x 14, where adding by broadcasting takes 5.4.",
        "- *ela* is two such means and gates and little else: with means whose gradients were added by broadcasting it was 0.8",
        "  to 1.0 times as fast as the plain form in bfloat16. Gates copied to maps before they multiply would be faster",
        "  still, but multiplication keeps them for its gradient, two maps more.",
        "- *self_attention* and *non_local*: the gradient of torch's fused attention holds those of queries, keys and values",
        "  at once, beside all three; two products let go of one after the other, and take the same time up to P = d. There",
        "  they are written out, and the memory is 0.86 to 0.99 of the counterpart's where it was up to 1.19; with",
        "  more positions the weights of all pairs outgrow what they save. Where C <= 2 P, non_local projects each image",
        "  by itself, without the copy of the map that one product of all keeps: 0.95 where it was 1.05. In bf16 on a CPU,",
        "  where the fused form is slow, the products are written out up to P = 4 d.",
        "- *fca* makes its basis for the size of the map in each step (0.16 ms), where published code fixes the size when it",
        "  is built. In float32 its coefficients are products with vectors. In bfloat16 those take 4.2 ms at 14 x 14 with one",
        "  thread, with their gradient; the sums of a multiplied map, which it takes there, 1.7.",
        "",
        "### On a GPU",
        "",
    ]
    if gpu:
        lines += [*(f"Measured on: {name}." for name in sorted({row.machine for row in gpu})), ""]
        lines += table("setting | shape | mean: | least (quartiles) | slower | more memory", summary(gpu))
    else:
        lines += [
            "Not measured: no GPU was at hand. On a machine with one, `make bench-attention` measures channels_last bf16,",
            "compiled and not, keeps the rows above and adds its table here.",
            "",
        ]
    lines += [
        "## Every measurement",
        "",
        *table(
            "type | peer | shape | setting | ours ms: | peer ms: | speed: | quartiles: | memory: | products: | over the roof:",
            map(measured, rows),
        ),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", nargs="+", choices=list_attentions(), metavar="TYPE", help="default: all")
    parser.add_argument("--shape", type=int, nargs="+", choices=range(len(SHAPES)), help="which of the shapes")
    parser.add_argument("--dtype", choices=("fp32", "bf16"))
    parser.add_argument("--threads", type=int, help="only this number of threads")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for the turns of one comparison")
    parser.add_argument("--resume", action="store_true", help="leave out what this machine has measured already")
    parser.add_argument("--docs", action="store_true", help=f"write docs/{DOCS.name} from all measurements kept")
    parser.add_argument("--no-run", action="store_true", help="measure nothing")
    options: Any = parser.parse_args(arguments)
    ways = [w for w in settings() if options.dtype in (None, w.dtype) and options.threads in (None, w.threads)]
    if not ways:
        parser.error(f"nothing to measure; this machine has: {'; '.join(map(str, settings()))}")
    rows: list[Row] = []
    done = {row.key for row in load() if options.resume and row.machine == machine(row.setting.device)}
    for way in () if options.no_run else ways:
        for shape in [SHAPES[i] for i in options.shape or range(len(SHAPES))]:
            names = [n for n in options.types or list_attentions() if (n, shape_for(n, shape), way) not in done]
            for row in run(names, [shape], options.seconds, [way]) if names else ():
                rows.append(row)
                save([row])
    slower = [f"{row.name} at {row.shape[2]} px" for row in rows if row.slower]
    larger = [f"{row.name} at {row.shape[2]} px" for row in rows if row.memory > 1.02]
    print(f"{len(rows)} comparisons; slower: {', '.join(slower) or 'none'}; more memory: {', '.join(larger) or 'none'}")
    if options.docs:
        DOCS.write_text(page(load()))


if __name__ == "__main__":
    main()
