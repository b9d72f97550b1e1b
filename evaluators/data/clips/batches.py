"""Batches of clips: cut out of videos in memory, or decoded by worker processes; both change them on the device, alike.

Every frame of a clip is mirrored and cropped in the same way. Legend: B clips, C channels, T frames, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from evaluators.data.batches import Augment, mix
from evaluators.data.clips.splits import ArrayClips, Clip, ClipData, ClipSplit, DiskClips
from evaluators.data.loading import Decoded, make_loader, number_of_batches, served

# To be judged: labels (B,), and which video of the split each clip is of (B,); logits of one video are averaged.
Judged = dict[str, Tensor]


class ClipBatches:
    """Normalised clips (B, C, T, H, W), and labels (B,) while training or ``Judged`` without a generator.

    With a generator every video gives one clip from a random place, in random order; the last batch is full. Without one each
    gives ``clips``, evenly spaced.
    """

    def __init__(
        self,
        split: ClipSplit,
        data: ClipData,
        batch_size: int,
        device: torch.device,
        *,
        clips: int = 1,
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
        workers: int = 2,
    ) -> None:
        self.split, self.data, self.device, self.generator = split, data, device, generator
        self.augment = augment or Augment()
        self.total = len(split) * (1 if generator is not None else clips)
        self.batch_size = min(batch_size, self.total)
        full = 255.0
        mean, std = (torch.tensor(values, device=device)[:, None, None, None] for values in (data.mean, data.std))
        self.scale_C111, self.shift_C111 = 1 / (full * std), -mean / std
        self.loader: Any = None
        if isinstance(split, DiskClips):
            decoded = _Decoded(split, data.clip, None if generator is not None else clips)
            self.loader = make_loader(decoded, self.batch_size, device, generator, workers)
        else:
            self.videos_NCLHW = split.videos_NCLHW.to(device)
            length = split.videos_NCLHW.shape[2]
            self.starts = torch.from_numpy(data.clip.starts(length, clips))
            self.room = length - data.clip.span + 1

    def __len__(self) -> int:
        return number_of_batches(self.total, self.batch_size, full=self.generator is not None)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        raw = self._resident(self.split) if isinstance(self.split, ArrayClips) else self._streamed()
        for x_BCTHW, labels_B, videos_B in raw:
            if self.generator is None:
                yield self._normalised(x_BCTHW), {"labels": labels_B, "videos": videos_B}
                continue
            changed = self._changed(self._normalised(x_BCTHW), self.generator)
            yield mix_clips(changed, labels_B, self.data.num_classes, self.augment, self.generator)

    def _resident(self, split: ArrayClips) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        if self.generator is not None:
            order = torch.randperm(self.total, generator=self.generator)
            starts = torch.randint(self.room, (self.total,), generator=self.generator)
        else:
            order = torch.arange(len(split)).repeat_interleave(len(self.starts))
            starts = self.starts.repeat(len(split))
        steps_T = self.data.clip.stride * torch.arange(self.data.clip.frames)
        for first in range(0, len(self) * self.batch_size, self.batch_size):
            rows_B = order[first : first + self.batch_size]
            places_BT = starts[first : first + self.batch_size, None] + steps_T
            x_BTCHW = self.videos_NCLHW[rows_B[:, None].to(self.device), :, places_BT.to(self.device)]
            yield x_BTCHW.transpose(1, 2), split.labels_N[rows_B].to(self.device), rows_B.to(self.device)

    def _streamed(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for batch in served(self.loader):
            x_BCTHW, labels_B, videos_B = (part.to(self.device, non_blocking=True) for part in batch)
            yield x_BCTHW, labels_B, videos_B

    def _normalised(self, x_BCTHW: Tensor) -> Tensor:
        x_BCTHW = x_BCTHW.to(torch.float32, memory_format=torch.channels_last_3d)
        return x_BCTHW.mul_(self.scale_C111).add_(self.shift_C111)

    def _changed(self, x_BCTHW: Tensor, generator: torch.Generator) -> Tensor:
        """Mirrored and cropped at random, each clip as a whole; the border has the mean colour, which is 0 here."""
        count, height, width = len(x_BCTHW), *x_BCTHW.shape[3:]
        if self.augment.crop:
            reach = self.augment.crop
            wide = pad(x_BCTHW, (reach,) * 4)
            corners = torch.randint(2 * reach + 1, (count, 2), generator=generator).tolist()
            cropped = [wide[i, :, :, top : top + height, left : left + width] for i, (top, left) in enumerate(corners)]
            x_BCTHW = torch.stack(cropped)
        if self.augment.flip:
            mirrored_B = (torch.rand(count, generator=generator) < 0.5).to(x_BCTHW.device)
            x_BCTHW = torch.where(mirrored_B[:, None, None, None, None], x_BCTHW.flip(4), x_BCTHW)
        return x_BCTHW


def mix_clips(
    x_BCTHW: Tensor, labels_B: Tensor, num_classes: int, augment: Augment, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cutout, mixup and cutmix as of images, alike in all frames of a clip."""
    frames = x_BCTHW.shape[2]
    mixed_BDHW, target = mix(x_BCTHW.flatten(1, 2), labels_B, num_classes, augment, generator)
    return mixed_BDHW.unflatten(1, (-1, frames)), target


class _Decoded(Decoded[tuple[Tensor, int, int]]):
    """Clips of videos on the disk, uint8 (C, T, H, W); clips None: one of each video, from a random place."""

    def __init__(self, split: DiskClips, clip: Clip, clips: int | None) -> None:
        self.split, self.clip, self.clips = split, clip, clips

    def __len__(self) -> int:
        return len(self.split) * (self.clips or 1)

    def decoded(self, index: int) -> tuple[Tensor, int, int]:
        row, number = divmod(index, self.clips or 1)
        video = self.split.videos[row]
        if self.clips is None:
            start = int(torch.randint(video.length - self.clip.span + 1, ()))
        else:
            start = int(self.clip.starts(video.length, self.clips)[number])
        frames_THWC = video.read(self.clip.places(start).tolist(), self.split.size)
        x_CTHW = torch.from_numpy(np.ascontiguousarray(frames_THWC.transpose(3, 0, 1, 2)))
        return x_CTHW, int(self.split.labels_N[row]), row
