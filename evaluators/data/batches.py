"""Batches ready for the network. Splits in memory live on the device as uint8 and are augmented there, a whole batch at once.

Legend: B batch, N images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from evaluators.data.splits import ArraySplit, Data


@dataclass(frozen=True)
class Augment:
    """Random changes of a training image. crop: padding in pixels before a random crop. flip: mirror half of the images."""

    flip: bool = False
    crop: int = 0


class ResidentBatches:
    """A split that lives on the device, served as normalised float batches; one pass over it is one epoch.

    With a generator it is shuffled, augmented and cut into full batches; without one it is served whole and in order.
    The generator lives on the CPU, so that every device sees the same images in the same order.
    """

    def __init__(
        self,
        split: ArraySplit,
        data: Data,
        batch_size: int,
        device: torch.device,
        *,
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.images_NCHW = split.images_NCHW.to(device)
        self.labels_N = split.labels_N.to(device)
        self.batch_size = min(batch_size, len(split))
        self.augment = augment or Augment()
        self.generator = generator
        # (x / 255 - mean) / std as one multiplication and one addition
        mean_C11 = torch.tensor(data.mean, device=device)[:, None, None]
        std_C11 = torch.tensor(data.std, device=device)[:, None, None]
        self.scale_C11, self.shift_C11 = 1 / (255 * std_C11), -mean_C11 / std_C11
        if generator is not None and self.augment.crop:
            # Padded once with the mean colour, which is zero after normalisation.
            border = torch.tensor(data.mean, device=device).mul(255).round().to(torch.uint8)
            self.images_NCHW = _pad(self.images_NCHW, self.augment.crop, border)
        self.height, self.width = split.images_NCHW.shape[2:]

    def __len__(self) -> int:
        full, rest = divmod(len(self.labels_N), self.batch_size)
        return full if self.generator is not None else full + (rest > 0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        device, count = self.labels_N.device, len(self.labels_N)
        if self.generator is None:
            for start in range(0, count, self.batch_size):
                rows = slice(start, start + self.batch_size)
                yield self._normalise(self.images_NCHW[rows]), self.labels_N[rows]
            return
        order_N = torch.randperm(count, generator=self.generator).to(device)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            rows_B = order_N[start : start + self.batch_size]
            x_BCHW = self._normalise(self._crop(rows_B))
            if self.augment.flip:
                mirrored_B111 = (torch.rand(len(rows_B), generator=self.generator) < 0.5).to(device)[
                    :, None, None, None
                ]
                x_BCHW = torch.where(mirrored_B111, x_BCHW.flip(3), x_BCHW)
            yield x_BCHW, self.labels_N[rows_B]

    def _crop(self, rows_B: Tensor) -> Tensor:
        """The images of these rows, each cut out of its padded canvas at its own random place."""
        if not self.augment.crop:
            return self.images_NCHW[rows_B]
        device, room = rows_B.device, 2 * self.augment.crop + 1
        corner_2B = torch.randint(room, (2, len(rows_B)), generator=self.generator).to(device)
        rows_BH = corner_2B[0][:, None] + torch.arange(self.height, device=device)
        columns_BW = corner_2B[1][:, None] + torch.arange(self.width, device=device)
        # (B, H, W, C): indexing apart from the channels puts them last
        x_BHWC = self.images_NCHW[rows_B[:, None, None], :, rows_BH[:, :, None], columns_BW[:, None, :]]
        return x_BHWC.permute(0, 3, 1, 2)

    def _normalise(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW.to(torch.float32, memory_format=torch.channels_last)
        return x_BCHW.mul_(self.scale_C11).add_(self.shift_C11)


def _pad(images_NCHW: Tensor, width: int, border_C: Tensor) -> Tensor:
    """Images with a frame of the border colour."""
    frame = (width, width, width, width)
    padded = [pad(images_NCHW[:, channel], frame, value=int(colour)) for channel, colour in enumerate(border_C)]
    return torch.stack(padded, dim=1)
