"""Batches of pictures and masks ready for the network: from the device's own memory, or streamed from disk by workers.

Splits in memory live on the device as uint8 (deeper pixels as float16). Both kinds are normalised and changed at random on the
device, a whole batch at once.
Legend: B batch, N images, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from evaluators.data.loading import Decoded, make_loader, number_of_batches, served
from evaluators.data.masks.joint import Joint, change, draw
from evaluators.data.masks.source import Pairs
from evaluators.data.masks.splits import MaskData, Masks, MaskSplit, StreamMasks
from evaluators.data.pixels import is_deep, shaped
from spaces.errors import UsageError


class MaskBatches:
    """A split as normalised float pictures (B, C, H, W) and masks (B, H, W) uint8; one pass over it is one epoch.

    With a generator it is shuffled, changed at random and cut into full batches; without one it is served whole and in order.
    The generator lives on the CPU, so that every device sees the same pictures in the same order.
    """

    def __init__(
        self,
        split: Masks,
        data: MaskData,
        batch_size: int,
        device: torch.device,
        *,
        joint: Joint | None = None,
        generator: torch.Generator | None = None,
        workers: int = 2,
    ) -> None:
        self.batch_size = min(batch_size, len(split))
        self.joint, self.generator, self.device, self.size = joint or Joint(), generator, device, data.size
        self._count = len(split)
        self._pairs: _Resident | DataLoader[tuple[Tensor, Tensor]]
        if isinstance(split, MaskSplit):
            self._pairs = _Resident(split, self.batch_size, device, generator)
        else:
            self._pairs = make_loader(_Decoded(split), self.batch_size, device, generator, workers)
        # (x / full - mean) / std as one multiplication and one addition; deeper pixels are kept in [0, 1]
        mean_C11 = torch.tensor(data.mean, device=device)[:, None, None]
        std_C11 = torch.tensor(data.std, device=device)[:, None, None]
        self._scale_C11, self._shift_C11 = 1 / ((255 if data.span is None else 1) * std_C11), -mean_C11 / std_C11

    def __len__(self) -> int:
        return number_of_batches(self._count, self.batch_size, full=self.generator is not None)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images_BCHW, mask_BHW in served(self._pairs):
            images_BCHW = images_BCHW.to(self.device, non_blocking=True)
            x_BCHW = images_BCHW.to(torch.float32, memory_format=torch.channels_last)
            x_BCHW = x_BCHW.mul_(self._scale_C11).add_(self._shift_C11)
            mask_BHW = mask_BHW.to(self.device, non_blocking=True)
            if self.generator is not None and self.joint.changes:
                drawn = draw(len(mask_BHW), self.size, self.joint, self.generator)
                x_BCHW, mask_BHW = change(x_BCHW, mask_BHW, self.joint, drawn)
            yield x_BCHW, mask_BHW


class _Resident:
    """The stored pictures and masks of a split on the device, batch by batch."""

    def __init__(
        self, split: MaskSplit, batch_size: int, device: torch.device, generator: torch.Generator | None
    ) -> None:
        self.images_NCHW, self.masks_NHW = split.images_NCHW.to(device), split.masks_NHW.to(device)
        self.batch_size, self.generator = batch_size, generator

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.masks_NHW)
        if self.generator is None:
            for start in range(0, count, self.batch_size):
                rows = slice(start, start + self.batch_size)
                yield self.images_NCHW[rows], self.masks_NHW[rows]
            return
        order_N = torch.randperm(count, generator=self.generator).to(self.masks_NHW.device)
        for start in range(0, count - self.batch_size + 1, self.batch_size):
            rows_B = order_N[start : start + self.batch_size]
            yield self.images_NCHW[rows_B], self.masks_NHW[rows_B]


class _Decoded(Decoded[tuple[Tensor, Tensor]]):
    """The pictures and masks of a StreamMasks, decoded and brought to size in the loader's workers."""

    def __init__(self, split: StreamMasks) -> None:
        self.split, self.pairs = split, Pairs(split.source)

    def __len__(self) -> int:
        return len(self.split)

    def decoded(self, index: int) -> tuple[Tensor, Tensor]:
        row = int(self.split.rows[index])
        picture, where, form = self.pairs.image(row), self.pairs.where(row), self.split.form
        if form.span is None and is_deep(picture):
            raise UsageError(f"{where} has more than 8 bits, the images looked at first have 8; set data.max")
        image_HWC = shaped(picture, form.channels, self.split.size, where, forced=form.forced)
        mask_HW = self.pairs.classes(row, self.split.code, self.split.size)
        image_CHW = torch.from_numpy(np.ascontiguousarray(form.scaled(image_HWC).transpose(2, 0, 1)))
        return image_CHW, torch.from_numpy(np.ascontiguousarray(mask_HW))
