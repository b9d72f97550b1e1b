"""Speed and memory of every attention module against timm's, or against the plain form that published code uses.

`python -m benchmarks.attention` prints forward + backward times in the same run (medians, the two alternating);
`--docs` writes docs/attention.md. On a GPU, where there is one, channels_last bf16, compiled and not.
"""

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler announces every measurement of memory

import torch
from torch import Tensor, nn

from benchmarks.plain_attention import counterpart
from evaluators.counting import METRICS, count_module
from spaces.attention import attention_type, create_attention, list_attentions

SHAPES = ((32, 64, 56, 56), (32, 256, 14, 14), (32, 1024, 7, 7))
DOCS = Path(__file__).parent.parent / "docs" / "attention.md"


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
    """A module and its counterpart on one shape in one setting: milliseconds and peak bytes of a training step."""

    name: str
    peer: str
    shape: tuple[int, ...]
    setting: Setting
    ours_ms: float
    peer_ms: float
    ours_bytes: int
    peer_bytes: int

    @property
    def ratio(self) -> float:
        """How many times faster than the counterpart."""
        return self.peer_ms / self.ours_ms

    @property
    def memory(self) -> float:
        """Peak memory over that of the counterpart."""
        return self.ours_bytes / max(1, self.peer_bytes)


def settings() -> list[Setting]:
    """What there is to measure on this machine."""
    if torch.cuda.is_available():
        return [Setting("bf16", 1, "cuda", compiled) for compiled in (False, True)]
    every = torch.get_num_threads()
    threads = (1, every) if every > 1 else (1,)
    return [Setting(dtype, count) for dtype in ("fp32", "bf16") for count in threads]


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


def peak_bytes(once: Callable[[], None], setting: Setting) -> int:
    """The most memory that one step held at a time beside what was there before it."""
    gc.collect()
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        once()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        once()
    held = peak = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def alternate(ours: Callable[[], None], peer: Callable[[], None], seconds: float, runs: int = 5) -> tuple[float, float]:
    """Milliseconds a step, medians of `runs` turns that alternate between the two."""

    def turn(once: Callable[[], None], count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            once()
        return (time.perf_counter() - start) / count

    ours(), peer()
    slower = max(turn(ours, 1), turn(peer, 1))
    count = max(1, round(seconds / (2 * runs) / slower))
    times = [(turn(ours, count), turn(peer, count)) for _ in range(runs)]
    return 1e3 * statistics.median(a for a, _ in times), 1e3 * statistics.median(b for _, b in times)


def measure(name: str, shape: tuple[int, ...], setting: Setting, seconds: float) -> Row:
    """Both modules in training mode, parameters in float32, x in channels_last on a GPU."""
    torch.manual_seed(0)
    torch.set_num_threads(setting.threads)
    label, other = counterpart(name, shape[1], shape[2])
    layout = torch.channels_last if setting.device == "cuda" else torch.contiguous_format
    dtype = torch.bfloat16 if setting.dtype == "bf16" else torch.float32
    x = torch.randn(shape, device=setting.device, dtype=dtype).to(memory_format=layout).requires_grad_()
    gradient = torch.randn_like(x)
    modules = [create_attention(name, shape[1]), other]
    ours, peer = (step(m.to(setting.device, memory_format=layout).train(), x, gradient, setting) for m in modules)
    times = alternate(ours, peer, seconds)
    return Row(name, label, shape, setting, *times, peak_bytes(ours, setting), peak_bytes(peer, setting))


def run(names: list[str], shapes: list[tuple[int, ...]], seconds: float, ways: list[Setting]) -> Iterator[Row]:
    """Every combination, printed as it comes."""
    print(
        f"{'type':20} {'peer':5} {'shape':13} {'setting':16} {'ours ms':>8} {'peer ms':>8} {'ratio':>6} {'memory':>7}"
    )
    for setting in ways:
        for shape in shapes:
            for name in names:
                row = measure(name, shape, setting, seconds)
                text = f"{name:20} {row.peer:5} {'x'.join(map(str, shape)):13} {setting!s:16}"
                print(f"{text} {row.ours_ms:8.2f} {row.peer_ms:8.2f} {row.ratio:6.2f} {row.memory:7.2f}", flush=True)
                yield row


def library(rows: list[Row]) -> str:
    """The library in one table; only its last column, the speed in the first setting of ``rows``, is measured."""
    shapes = " / ".join("x".join(map(str, shape)) for shape in SHAPES)
    lines = [
        "<!-- Generated by `python -m benchmarks.attention --docs`; do not edit. -->",
        "# The attention library",
        "",
        f"{len(list_attentions())} types. Parameters and MACs are at C = 256 on a 14 x 14 map with the published genes;",
        "C channels, h = C // r hidden width (at least 1; Coordinate: at least 8), k kernel, g groups. Speed is how many",
        "times faster a training step (forward and backward) is than that of timm's module (t) or of the plain form of",
        f"published code (p), at {shapes}, in the first setting measured below.",
        "",
        "Two-part types take either arrangement, and `A+B` mixes the channel part of A with the spatial part of B.",
        "In parallel, the maps of both parts are summed, `x * (C(x) + S(x))`: about twice the scale of one gate, where a",
        "series of two fresh sigmoids leaves 0.25 x. BAM fuses as `x * (1 + sigmoid(Mc + Ms))` and GALA by its own rule; a",
        "mix takes the rule of its spatial type where both parts are gates.",
        "`create_attention(..., identity_init=True)` starts any type as the exact identity, `x + g (f(x) - x)` with g = 0.",
        "A batch normalisation that sees one value per channel while training (BAM at batch 1) uses its running",
        "statistics.",
        "",
        "| type | parts | genes | parameters | at C=256 | MACs | volumes | flags | paper | speed |",
        "|---|---|---|---|---:|---:|---|---|---|---|",
    ]
    for name in list_attentions():
        kind = attention_type(name)
        genes = ", ".join(f"{gene} {kind.default(gene) or 'by C'}" for gene in kind.genes)
        flags = ", ".join(f"{flag}: {' / '.join(map(str, values))}" for flag, values in kind.flags.items())
        counts = count_module(create_attention(name, 256), torch.zeros(1, 256, 14, 14)).total
        macs = int(counts[METRICS.index("macs")])
        own = {row.shape: row for row in rows if row.name == name and row.setting == rows[0].setting}
        speed = " / ".join(f"{own[shape].ratio:.2f}" if shape in own else "-" for shape in SHAPES)
        label = f" ({next(iter(own.values())).peer[0]})" if own else ""
        lines.append(
            f"| {name} | {', '.join(kind.parts)} | {genes or '-'} | {kind.formula} | {kind.params(256):,} |"
            f" {macs:,} | {'yes' if 3 in kind.dims else '-'} | {flags or '-'} | {kind.paper} | {speed}{label} |"
        )
    return "\n".join(lines) + "\n"


def document(rows: list[Row], conditions: str) -> str:
    """docs/attention.md: the library, then what was measured under ``conditions``."""
    lines = [
        "## Every measurement",
        "",
        f"torch {torch.__version__}; milliseconds a training step, peak memory. {conditions}".rstrip(),
        "",
        "| type | peer | shape | setting | ours | peer | speed ratio | memory ratio |",
        "|---" * 4 + "|---:" * 4 + "|",
    ]
    for row in rows:
        shape = "x".join(map(str, row.shape))
        times = f"{row.ours_ms:.2f} | {row.peer_ms:.2f} | {row.ratio:.2f} | {row.memory:.2f}"
        lines.append(f"| {row.name} | {row.peer} | {shape} | {row.setting} | {times} |")
    return library(rows) + "\n" + "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="types to measure (default: all)")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for one comparison")
    parser.add_argument("--shape", type=int, action="append", choices=range(len(SHAPES)), help="which of the shapes")
    parser.add_argument("--dtype", choices=("fp32", "bf16"))
    parser.add_argument("--threads", type=int, help="only this number of threads")
    parser.add_argument("--docs", action="store_true", help=f"write docs/{DOCS.name}")
    parser.add_argument("--conditions", default="", help="a sentence for the page on what else the machine was doing")
    options: Any = parser.parse_args(arguments)
    ways = [w for w in settings() if options.dtype in (None, w.dtype) and options.threads in (None, w.threads)]
    shapes = [SHAPES[i] for i in options.shape or range(len(SHAPES))]
    rows = list(run(options.names or list_attentions(), shapes, options.seconds, ways))
    slower = sorted({row.name for row in rows if row.ratio < 0.95})
    larger = sorted({row.name for row in rows if row.memory > 1.02})
    print(
        f"{len(rows)} comparisons; below 0.95x: {', '.join(slower) or 'none'}; more memory: {', '.join(larger) or 'none'}"
    )
    if options.docs:
        DOCS.parent.mkdir(exist_ok=True)
        DOCS.write_text(document(rows, options.conditions))


if __name__ == "__main__":
    main()
