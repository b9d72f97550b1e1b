"""Decoding in the worker processes of a loader, and refusals that come out of them as one line."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from spaces.errors import UsageError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Refused(Exception):
    """A UsageError on its way out of a loader's worker; that itself would cut what the loader puts before it."""


class Decoded(Dataset[T_co]):
    """What of a split lies on the disk, decoded in a loader's workers."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def decoded(self, index: int) -> T_co:
        """One of them; raises UsageError naming the file that cannot be read."""

    def __getitem__(self, index: int) -> T_co:
        try:
            return self.decoded(index)
        except UsageError as error:
            raise Refused(str(error)) from None


def make_loader(
    dataset: Decoded[Any], batch_size: int, device: torch.device, generator: torch.Generator | None, workers: int
) -> DataLoader[Any]:
    """Batches of what workers decode: shuffled and full ones with a generator, all of them in order without one."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=generator is not None,
        drop_last=generator is not None,
        num_workers=workers,
        generator=generator,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )


def served(loader: Iterable[T]) -> Iterator[T]:
    """The batches of a loader; raises UsageError where a worker refused a file."""
    try:
        yield from loader
    except Refused as error:  # one of a worker arrives with the worker's whole traceback before its message
        raise UsageError(str(error).rpartition(f"{Refused.__name__}: ")[2]) from None


def number_of_batches(count: int, batch_size: int, *, full: bool) -> int:
    """How many batches a pass has; ``full``: without a last one that is not."""
    return count // batch_size if full else -(-count // batch_size)
