"""Batches ready for the network: from the device's own memory, or streamed from disk by workers.

Splits in memory live on the device as uint8 (deeper pixels as float16) and are augmented there, a whole batch at once.

Legend: B batch, N images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, one_hot, pad

from evaluators.data.loading import Decoded, make_loader, number_of_batches, served
from evaluators.data.pixels import bands, is_deep, shaped
from evaluators.data.splits import ArraySplit, Data, Split, StreamSplit
from spaces.errors import UsageError


@dataclass(frozen=True)
class Augment:
    """Random changes of training images.

    crop: padding in pixels before a random crop (streams: a random resized crop instead). flip: mirror half of the images.
    cutout: side in pixels of a square set to the mean colour (DeVries and Taylor 2017). mixup, cutmix: the alpha of the
    Beta distribution that the share of the second image comes from (Zhang et al. 2018, Yun et al. 2019); with both, each
    batch takes one of them by chance.
    """

    flip: bool = False
    crop: int = 0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0


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
        full = 255 if split.images_NCHW.dtype == torch.uint8 else 1  # deeper pixels are kept in [0, 1]
        # (x / full - mean) / std as one multiplication and one addition
        mean_C11 = torch.tensor(data.mean, device=device)[:, None, None]
        std_C11 = torch.tensor(data.std, device=device)[:, None, None]
        self.scale_C11, self.shift_C11 = 1 / (full * std_C11), -mean_C11 / std_C11
        if generator is not None and self.augment.crop:
            # Padded once with the mean colour, which is zero after normalisation.
            border_C = torch.tensor(data.mean, device=device) * full
            border = border_C.round().to(torch.uint8) if full == 255 else border_C
            self.images_NCHW = _pad(self.images_NCHW, self.augment.crop, border)
        self.height, self.width = split.images_NCHW.shape[2:]

    def __len__(self) -> int:
        return number_of_batches(len(self.labels_N), self.batch_size, full=self.generator is not None)

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


# Images to be judged: as those in memory are and exports say, where timm would take the middle 87.5 % of each side.
_WHOLE = {"crop_pct": 1.0, "interpolation": "bicubic"}


class _Decoded(Decoded[tuple[Tensor, int]]):
    """The images of a StreamSplit, decoded and transformed in the loader's workers."""

    def __init__(self, split: StreamSplit, data: Data, augment: Augment | None) -> None:
        from timm.data import create_transform

        self.split = split
        self.labels_N = split.labels_N
        # Pillow knows grey and colour of 8 bits; everything else goes through the same changes as a tensor.
        self.mode = {1: "L", 3: "RGB"}.get(split.in_chans) if split.form.span is None else None
        if self.mode is not None:
            self.transform = create_transform(
                (split.in_chans, *split.size),
                is_training=augment is not None,
                hflip=0.5 if augment is not None and augment.flip else 0.0,
                color_jitter=None,
                mean=data.mean,
                std=data.std,
                **_WHOLE if augment is None else {},
            )
        else:
            self.transform = _tensor_transform(split.size, data, augment)

    def __len__(self) -> int:
        return len(self.split)

    def decoded(self, index: int) -> tuple[Tensor, int]:
        row = int(self.split.rows[index])
        picture, where, form = self.split.source.image(row), self.split.source.where(row), self.split.form
        if (
            self.mode is not None
            and isinstance(picture, Image.Image)
            and (form.forced or bands(picture) <= form.channels)
        ):
            return self.transform(picture.convert(self.mode)), int(self.labels_N[index])
        if form.span is None and is_deep(picture):
            raise UsageError(f"{where} has more than 8 bits, the images looked at first have 8; set data.max")
        image_HWC = shaped(picture, form.channels, None, where, forced=form.forced)
        if self.mode is not None:
            grey_or_colour = Image.fromarray(image_HWC[:, :, 0] if form.channels == 1 else image_HWC)
            return self.transform(grey_or_colour), int(self.labels_N[index])
        x_HWC = torch.from_numpy(np.ascontiguousarray(form.scaled(image_HWC)))
        x_CHW = x_HWC.permute(2, 0, 1).float() / (255 if form.span is None else 1)
        return self.transform(x_CHW), int(self.labels_N[index])


def _tensor_transform(size: tuple[int, int], data: Data, augment: Augment | None) -> Callable[[Tensor], Tensor]:
    """What timm's transform does to pictures, for tensors (C, H, W) in [0, 1]."""
    from torchvision.transforms import v2  # here because it takes seconds to import

    bicubic = v2.InterpolationMode.BICUBIC
    normalise = v2.Normalize(list(data.mean), list(data.std))
    if augment is None:
        return v2.Compose([_Cover(size), v2.CenterCrop(list(size)), normalise])
    crop = v2.RandomResizedCrop(list(size), scale=(0.08, 1.0), interpolation=bicubic)
    return v2.Compose([crop, v2.RandomHorizontalFlip(0.5 if augment.flip else 0.0), normalise])


@dataclass(frozen=True)
class _Cover:
    """Resizes a tensor (C, H, W) until it covers (H, W)."""

    size: tuple[int, int]

    def __call__(self, x_CHW: Tensor) -> Tensor:
        height, width = x_CHW.shape[-2:]
        scale = max(self.size[0] / height, self.size[1] / width)
        covering = max(self.size[0], round(height * scale)), max(self.size[1], round(width * scale))
        return interpolate(x_CHW[None], size=covering, mode="bicubic", antialias=True)[0]


class StreamBatches:
    """A split that is decoded and augmented on the CPU by worker processes while the device computes."""

    def __init__(
        self,
        split: StreamSplit,
        data: Data,
        batch_size: int,
        device: torch.device,
        *,
        augment: Augment | None = None,
        generator: torch.Generator | None = None,
        workers: int = 2,
    ) -> None:
        self.device = device
        self.batch_size = min(batch_size, len(split))
        decoded = _Decoded(split, data, None if generator is None else augment or Augment())
        self.loader = make_loader(decoded, self.batch_size, device, generator, workers)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x_BCHW, y_B in served(self.loader):
            x_BCHW = x_BCHW.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            yield x_BCHW, y_B.to(self.device, non_blocking=True)


Batches = ResidentBatches | StreamBatches


def make_batches(
    split: Split,
    data: Data,
    batch_size: int,
    device: torch.device,
    *,
    augment: Augment | None = None,
    generator: torch.Generator | None = None,
    workers: int = 2,
) -> Batches:
    """Training batches with a generator, evaluation batches without one, from wherever the split lives."""
    if isinstance(split, StreamSplit):
        return StreamBatches(split, data, batch_size, device, augment=augment, generator=generator, workers=workers)
    return ResidentBatches(split, data, batch_size, device, augment=augment, generator=generator)


class Mixed:
    """Training batches whose images are cut out and mixed with each other after they were augmented one by one."""

    def __init__(self, batches: Batches, num_classes: int, augment: Augment, generator: torch.Generator) -> None:
        self.batches, self.num_classes, self.augment, self.generator = batches, num_classes, augment, generator
        self.batch_size = batches.batch_size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x_BCHW, y_B in self.batches:
            yield mix(x_BCHW, y_B, self.num_classes, self.augment, self.generator)


def mix(
    x_BCHW: Tensor, y_B: Tensor, num_classes: int, augment: Augment, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cutout, then mixup or cutmix of each image with another one of its batch; with these the labels become shares (B, K)."""
    B, _, H, W = x_BCHW.shape
    device = x_BCHW.device
    if augment.cutout:
        centre_2B = torch.rand(2, B, generator=generator).to(device)
        x_BCHW = x_BCHW.masked_fill(_box(H, W, centre_2B, augment.cutout, augment.cutout)[:, None], 0.0)
    if not (augment.mixup or augment.cutmix):
        return x_BCHW, y_B
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    cut = augment.cutmix > 0 and (augment.mixup == 0 or rng.random() < 0.5)
    alpha = augment.cutmix if cut else augment.mixup
    share = float(rng.beta(alpha, alpha))  # of the other image
    other_B = torch.randperm(B, generator=generator).to(device)
    if cut:
        height, width = round(H * share**0.5), round(W * share**0.5)
        centre_21 = torch.rand(2, 1, generator=generator).to(device)
        box_1HW = _box(H, W, centre_21, height, width)
        x_BCHW = torch.where(box_1HW[:, None], x_BCHW[other_B], x_BCHW)
        share = float(box_1HW.float().mean())  # what the border left of the box
    else:
        x_BCHW = x_BCHW.lerp(x_BCHW[other_B], share)
    y_BK = one_hot(y_B, num_classes).float()
    return x_BCHW, y_BK.lerp(y_BK[other_B], share)


def _box(H: int, W: int, centre_2B: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W), true inside a box around each centre (shares of the image), clipped at the border."""
    device = centre_2B.device
    top_B11 = ((centre_2B[0] * H).floor() - height // 2)[:, None, None]
    left_B11 = ((centre_2B[1] * W).floor() - width // 2)[:, None, None]
    rows_H1 = torch.arange(H, device=device)[:, None]
    columns_W = torch.arange(W, device=device)
    inside_rows = (rows_H1 >= top_B11) & (rows_H1 < top_B11 + height)
    return inside_rows & (columns_W >= left_B11) & (columns_W < left_B11 + width)


def _pad(images_NCHW: Tensor, width: int, border_C: Tensor) -> Tensor:
    """Images with a frame of the border colour."""
    frame = (width, width, width, width)
    padded = [pad(images_NCHW[:, channel], frame, value=colour.item()) for channel, colour in enumerate(border_C)]
    return torch.stack(padded, dim=1)
