"""Speed and memory of every attention module against timm's, or against the plain form that published code uses.

`python -m benchmarks.attention` measures forward + backward of both in the same run, taking turns, and keeps every row in
benchmarks/attention.jsonl, where the rows of single types, shapes, dtypes or threads replace their like; `--resume` leaves
out what is there already. `--docs` writes the tables of docs/benchmarks/attention.md, from all rows. On a GPU:
channels_last, in bf16 and fp16, operator by operator and as CUDA graphs, of which no memory is told; bf16 compiled too.
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
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler announces every measurement of memory

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.page import PAGES, write
from benchmarks.plain_attention import counterpart
from evaluators.counting import METRICS, count_module
from spaces.attention import create_attention, list_attentions

SHAPES = ((32, 64, 56, 56), (32, 256, 14, 14), (32, 1024, 7, 7))
RESULTS = Path(__file__).with_name("attention.jsonl")
SPEED_PAGE = PAGES / "attention.md"
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
    graphs: bool = False  # the step is captured once as a CUDA graph, and replayed

    def __str__(self) -> str:
        where = self.device if self.device != "cpu" else f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.dtype}, {where}" + (", compiled" if self.compiled else "") + (", graphs" if self.graphs else "")

    @property
    def torch_dtype(self) -> torch.dtype:
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.dtype]


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
        eager = [Setting(dtype, 1, "cuda") for dtype in ("bf16", "fp16")]
        return [*eager, *(replace(way, graphs=True) for way in eager), replace(eager[0], compiled=True)]
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

    def forget() -> None:
        module.zero_grad(set_to_none=True)
        x.grad = None

    def passes() -> None:
        with torch.autocast(setting.device, setting.torch_dtype) if setting.dtype != "fp32" else nullcontext():
            y = run(x)
        y.backward(gradient.to(y.dtype))

    def once() -> None:
        passes()
        forget()
        if setting.device == "cuda":
            torch.cuda.synchronize()

    if not setting.graphs:
        return once
    replay = captured(passes, forget)

    def replayed() -> None:
        replay()
        torch.cuda.synchronize()

    return replayed


def captured(passes: Callable[[], None], forget: Callable[[], None]) -> Callable[[], None]:
    """What replays passes as a CUDA graph; they leave gradients, which `forget` drops. Warmed up beside, as torch asks for.

    A graph knows addresses alone, so what is in them has to stay: the passes, and the tensors that they use, are held here.
    """
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            forget()
            passes()
    torch.cuda.current_stream().wait_stream(beside)
    forget()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=beside):
        passes()

    def replay(held: Callable[[], None] = passes) -> None:
        graph.replay()

    return replay


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
    dtype = setting.torch_dtype
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


@cache
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
    width = setting.torch_dtype.itemsize
    return 1e3 * max(5 * prod(shape) * width / moved, 3 * 2 * macs(name, shape) / computed)


def measure(name: str, shape: tuple[int, ...], setting: Setting, seconds: float) -> Row:
    """Both modules in training mode, parameters in float32, x in channels_last on a GPU."""
    torch.manual_seed(0)
    torch.set_num_threads(setting.threads)
    shape = shape_for(name, shape)
    label, other = counterpart(name, shape[1], shape[2])
    layout = torch.channels_last if setting.device == "cuda" else torch.contiguous_format
    x = torch.randn(shape, device=setting.device, dtype=setting.torch_dtype).to(memory_format=layout).requires_grad_()
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
        return way.device, way.compiled, way.graphs, way.dtype != "fp32", way.dtype, way.threads, row.shape[1], row.name

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


# --- the pages --------------------------------------------------------------------------------------------------------
def by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def table(header: str, lines: Iterable[str]) -> list[str]:
    """A markdown table; a column whose name ends in a colon is aligned to the right."""
    columns = header.split(" | ")
    rule = "|" + "|".join("---:" if column.endswith(":") else "---" for column in columns) + "|"
    return [f"| {' | '.join(column.rstrip(':') for column in columns)} |", rule, *(f"| {line} |" for line in lines), ""]


def speeds(name: str, rows: list[Row]) -> str:
    """The speeds of a type in the first setting of ``rows``, at every shape."""
    own = {row.shape[1:]: row for row in rows if row.name == name and row.setting == rows[0].setting}
    cells = " | ".join(f"{own[shape[1:]].ratio:.2f}" if shape[1:] in own else "-" for shape in SHAPES)
    return f"{name} | {next(iter(own.values())).peer if own else '-'} | {cells}"


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
    one = prod(row.shape) * row.setting.torch_dtype.itemsize
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


def speed_tables(rows: list[Row]) -> dict[str, str]:
    """What stands between the marks of docs/benchmarks/attention.md."""
    cpu, gpu = ([row for row in rows if row.setting.device == device] for device in ("cpu", "cuda"))
    settings_header = "setting | shape | mean: | least (quartiles) | slower | more memory"
    by_type = table(
        f"type | counterpart | {' | '.join(f'{by(shape)}:' for shape in SHAPES)}",
        (speeds(name, rows) for name in list_attentions()),
    )
    bounds = table(
        "type | setting | shape | speed (quartiles) | products: | limit: | GFLOP: | GFLOP/s: | theirs: | passes: |"
        " theirs: | GB/s: | theirs: | over the roof: | theirs:",
        (bound(row) for row in cpu if row.name in BARRED),
    )
    every = table(
        "type | peer | shape | setting | ours ms: | peer ms: | speed: | quartiles: | memory: | products: | over the roof:",
        map(measured, rows),
    )
    return {
        "settings": joined(
            *machines(cpu),
            "",
            *table(settings_header, summary(cpu)),
            *(line for text in missing(cpu) for line in (text, "")),
        ),
        "types": joined(f"{rows[0].setting if rows else 'Not measured'}:", "", *by_type),
        "bounds": joined(*bounds),
        "gpu": joined(*machines(gpu), "", *table(settings_header, summary(gpu)))
        if gpu
        else "Not measured: no GPU was at hand.\n",
        "rows": joined(*every),
    }


def machines(rows: list[Row]) -> list[str]:
    return [f"Measured on: {name}." for name in sorted({row.machine for row in rows})]


def joined(*lines: str) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", nargs="+", choices=list_attentions(), metavar="TYPE", help="default: all")
    parser.add_argument("--shape", type=int, nargs="+", choices=range(len(SHAPES)), help="which of the shapes")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--threads", type=int, help="only this number of threads")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for the turns of one comparison")
    parser.add_argument("--resume", action="store_true", help="leave out what this machine has measured already")
    parser.add_argument("--docs", action="store_true", help="write the tables of the page, from all measurements kept")
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
        for mark, text in speed_tables(load()).items():
            write(SPEED_PAGE, mark, text)


if __name__ == "__main__":
    main()
