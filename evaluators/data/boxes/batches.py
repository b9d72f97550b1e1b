"""Batches for detection: pictures and their boxes on the device, from its own memory or decoded by workers.

A target is a dict of tensors, padded to as many objects as the fullest picture of the batch has:
``boxes`` (B, M, 4) in pixels of the network's input, ``labels`` (B, M) with -1 where there is no object, ``kinds`` (B, M) as in
``objects``, ``areas`` (B, M) in pixels of the original picture, and ``scales`` (B, 2): width and height of the original picture
in units of the network's input.
Legend: B batch, N pictures, C channels, H and W pixels, M objects at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from evaluators.data.boxes.augment import BoxAugment, distort, move_boxes, move_pictures, windows
from evaluators.data.boxes.objects import CROWD
from evaluators.data.boxes.splits import BoxData, BoxSplit
from evaluators.data.loading import Decoded, number_of_batches, served

Target = dict[str, Tensor]


class BoxBatches:
    """A split as normalised batches; one pass over it is one epoch.

    With a generator it is shuffled, changed at random and cut into full batches, and crowds are left out of the targets;
    without one it is served whole, pictures with objects first, so that any part of a pass has something to find. The
    generator lives on the CPU, so that every device sees the same.
    """

    def __init__(
        self,
        split: BoxSplit,
        data: BoxData,
        batch_size: int,
        device: torch.device,
        *,
        augment: BoxAugment | None = None,
        generator: torch.Generator | None = None,
        workers: int = 2,
    ) -> None:
        self.device, self.generator = device, generator
        self.batch_size = min(batch_size, len(split))
        self.augment = augment or BoxAugment()
        self.height, self.width = data.size
        self.targets = _Padded(split, data.size, learned_only=generator is not None)
        resident = split.images_NCHW
        self.images_NCHW = resident.to(device) if resident is not None else None
        self.loader = partial(_loader, split, workers=workers, pin=device.type == "cuda") if resident is None else None
        self.order_N = torch.from_numpy(np.argsort(~split.is_judged, kind="stable"))
        self.full = 255.0 if data.span is None else 1.0
        self.mean_C11 = torch.tensor(data.mean, device=device)[:, None, None]
        self.std_C11 = torch.tensor(data.std, device=device)[:, None, None]

    def __len__(self) -> int:
        return number_of_batches(len(self.targets), self.batch_size, full=self.generator is not None)

    def __iter__(self) -> Iterator[tuple[Tensor, Target]]:
        count = len(self.targets)
        order_N = self.order_N if self.generator is None else torch.randperm(count, generator=self.generator)
        chosen = [order_N[start : start + self.batch_size] for start in range(0, count, self.batch_size)][: len(self)]
        for rows_B, pictures_BCHW in zip(chosen, self._pictures(chosen), strict=True):
            x_BCHW = pictures_BCHW.to(torch.float32, memory_format=torch.channels_last).div_(self.full)
            target = self.targets.batch(rows_B.numpy())
            if self.generator is not None:
                x_BCHW, target = self._changed(x_BCHW, target, self.generator)
            else:
                x_BCHW = self._normalised(x_BCHW)
            yield x_BCHW, {name: values.to(self.device, non_blocking=True) for name, values in target.items()}

    def _pictures(self, chosen: list[Tensor]) -> Iterator[Tensor]:
        """(B, C, H, W) on the device, as they are stored."""
        if self.images_NCHW is not None:
            for rows_B in chosen:
                yield self.images_NCHW[rows_B.to(self.device)]
            return
        if self.loader is None:
            raise TypeError("pictures are in memory, or are loaded")
        for pictures_BCHW in served(self.loader([rows_B.tolist() for rows_B in chosen])):
            yield pictures_BCHW.to(self.device, non_blocking=True)

    def _normalised(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.sub_(self.mean_C11).div_(self.std_C11)

    def _changed(self, x_BCHW: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        augment = self.augment
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        if augment.photometric:
            x_BCHW = distort(x_BCHW, rng)
        x_BCHW = self._normalised(x_BCHW)
        if not (augment.moves or augment.flip):
            return x_BCHW, target
        boxes_BM4, labels_BM = target["boxes"], target["labels"]
        boxes = [boxes_M4[labels_M >= 0].numpy() for boxes_M4, labels_M in zip(boxes_BM4, labels_BM, strict=True)]
        drawn_B4, flipped_B = windows(boxes, self.height, self.width, augment, rng)
        window_B4, mirrored_B = torch.from_numpy(drawn_B4).float(), torch.from_numpy(flipped_B)
        boxes_BM4, labels_BM = move_boxes(boxes_BM4, labels_BM, window_B4, mirrored_B, self.height, self.width)
        if augment.moves:
            x_BCHW = move_pictures(x_BCHW, window_B4.to(self.device), mirrored_B.to(self.device))
        else:
            x_BCHW = torch.where(mirrored_B.to(self.device)[:, None, None, None], x_BCHW.flip(3), x_BCHW)
        return x_BCHW, {**target, "boxes": boxes_BM4, "labels": labels_BM}


class _Padded:
    """The objects of a split, once, as padded arrays in pixels of the network's input."""

    def __init__(self, split: BoxSplit, size: tuple[int, int], *, learned_only: bool) -> None:
        most = max((len(one) for one in split.objects), default=0)
        count = len(split)
        self.boxes_NM4 = np.zeros((count, most, 4), np.float32)
        self.labels_NM = np.full((count, most), -1, np.int64)
        self.kinds_NM = np.zeros((count, most), np.uint8)
        self.areas_NM = np.zeros((count, most), np.float32)
        self.numbers_N = np.zeros(count, np.int64)
        self.scales_N2 = (split.sizes_N2[:, ::-1] / np.array(size[::-1])).astype(np.float32)
        for index, objects in enumerate(split.objects):
            kept = objects.kinds_M != CROWD if learned_only else np.ones(len(objects), dtype=bool)
            number = int(kept.sum())
            self.numbers_N[index] = number
            self.boxes_NM4[index, :number] = objects.boxes_M4[kept] / np.tile(self.scales_N2[index], 2)
            self.labels_NM[index, :number] = objects.labels_M[kept]
            self.kinds_NM[index, :number] = objects.kinds_M[kept]
            self.areas_NM[index, :number] = objects.areas_M[kept]

    def __len__(self) -> int:
        return len(self.numbers_N)

    def batch(self, rows_B: np.ndarray) -> Target:
        """The targets of these pictures; at least one place, so that no tensor is empty."""
        most = max(1, int(self.numbers_N[rows_B].max()))
        wide = max(0, most - self.labels_NM.shape[1])
        padded = {
            "boxes": np.pad(self.boxes_NM4[rows_B, :most], ((0, 0), (0, wide), (0, 0))),
            "labels": np.pad(self.labels_NM[rows_B, :most], ((0, 0), (0, wide)), constant_values=-1),
            "kinds": np.pad(self.kinds_NM[rows_B, :most], ((0, 0), (0, wide))),
            "areas": np.pad(self.areas_NM[rows_B, :most], ((0, 0), (0, wide))),
            "scales": self.scales_N2[rows_B],
        }
        return {name: torch.from_numpy(values) for name, values in padded.items()}


class _Decoded(Decoded[Tensor]):
    """The pictures of a split on disk, decoded and stretched in the loader's workers."""

    def __init__(self, split: BoxSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def decoded(self, index: int) -> Tensor:
        return self.split.image(index)


def _loader(split: BoxSplit, batches: list[list[int]], *, workers: int, pin: bool) -> DataLoader[Tensor]:
    return DataLoader(_Decoded(split), batch_sampler=batches, num_workers=workers, pin_memory=pin)
