"""Where and how a network is computed: the device, its precision, and random numbers that depend on a seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import Field, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import torch
from torch import nn


def pick_device() -> torch.device:
    """The first GPU this process may use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class OnDevice:
    """A dataclass with a field ``device``, which may come to a machine with another one."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def at_home(self) -> Self:
        """The same on the device of this machine."""
        return replace(self, device=pick_device())


@lru_cache
def autocast_dtype(device_type: str) -> torch.dtype | None:
    """bfloat16 where the device does it well (Ampere and later, AMX, ARM's BF16), else None: stay in float32.

    AVX512-BF16 alone does not count: small convolutions trained 1.1 to 1.8 times slower with it than in float32.
    """
    if device_type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else None
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if has.get("amx_bf16") or has.get("bf16") else None


def autocast(device: torch.device, amp: str, *, cache: bool = True) -> AbstractContextManager[None]:
    """The precision of the forward pass; ``cache``: whether a weight that is used twice is cast once."""
    dtype = autocast_dtype(device.type) if amp == "auto" else None
    return torch.autocast(device.type, dtype, cache_enabled=cache) if dtype else nullcontext()


def arranged(model: nn.Module, channels_last: bool) -> nn.Module:
    """The model with the channels of its weights last, or first.

    Of a network of clips, those of its convolutions of clips: torch has one layout for four axes, and one for five.
    """
    of_clips = [weight for weight in model.parameters() if weight.dim() == 5]
    for weight in of_clips if channels_last else ():
        weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
    if of_clips:
        return model
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return model.to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's stubs


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers that depend on the seed alone; those of the caller are untouched."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
