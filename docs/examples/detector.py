"""A detector of one's own and its trainer: the network gives an objectness and a box for every cell of its last map."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

CELL = 8  # pixels of the input per cell of the last map


class Block(nn.Module):
    """A residual block, (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


class Detector(nn.Module):
    """(B, C, H, W) -> (B, 5, H / 8, W / 8): the logit of an object in the cell, and its x, y, width, height in cells."""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_chans, 16, 4, stride=4)
        self.stage1 = nn.Sequential(Block(16), Block(16))
        self.down = nn.Conv2d(16, 32, 2, stride=2)
        self.stage2 = nn.Sequential(Block(32), Block(32))
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage2(self.down(self.stage1(self.stem(x)))))


def make(num_classes: int, in_chans: int) -> nn.Module:
    """The backbone of the search: attention is put into its two stages."""
    return Detector(in_chans)


@cache
def scenes(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Your data: here one bright square on noise, (N, 1, 48, 48), and its box (N, 4) as corners."""
    draw = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.rand(number, 1, 48, 48, generator=draw)
    sides = torch.randint(10, 19, (number,), generator=draw)
    corners = torch.stack([torch.randint(0, 48 - int(side), (2,), generator=draw) for side in sides])
    boxes = torch.cat([corners, corners + sides[:, None]], 1).float()
    for image, (left, top, right, bottom) in zip(images, boxes.long().tolist(), strict=True):
        image[:, top:bottom, left:right] += 0.6
    return images, boxes


def loss(out: Tensor, boxes: Tensor) -> Tensor:
    """Cross-entropy over which cell holds the object's centre, and the distance of its box there."""
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    cell = (centre / CELL).long()
    at = cell[:, 1] * out.shape[3] + cell[:, 0]
    there = out.flatten(2)[torch.arange(len(out)), :, at]
    wanted = torch.cat([centre / CELL - cell, size / CELL], 1)
    return F.cross_entropy(out[:, 0].flatten(1), at) + F.smooth_l1_loss(there[:, 1:], wanted)


def boxes_of(out: Tensor) -> Tensor:
    """The box of the likeliest cell of each picture, (N, 4) as corners."""
    at = out[:, 0].flatten(1).argmax(1)
    cell = torch.stack([at % out.shape[3], at // out.shape[3]], 1)
    found = out.flatten(2)[torch.arange(len(out)), 1:, at]
    centre, size = (cell + found[:, :2]) * CELL, found[:, 2:] * CELL
    return torch.cat([centre - size / 2, centre + size / 2], 1)


def train(model: nn.Module, *, epochs, seed, device, report):
    """Train the detector, and judge it by AP50: the share of boxes that overlap the true one by half."""
    images, boxes = (part.to(device) for part in scenes(200, 0))
    val_images, val_boxes = (part.to(device) for part in scenes(100, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
    order = torch.Generator().manual_seed(seed)
    score = 0.0
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in torch.randperm(len(images), generator=order).to(device).split(20):
            optimizer.zero_grad()
            loss(model(images[batch]), boxes[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            found = boxes_of(model(val_images))
        score = (box_iou(found, val_boxes).diagonal() >= 0.5).float().mean().item()
        if not report(epoch, {"AP50": score}):
            break
    return {"AP50": score}


train.identity = "squares on noise, 200 + 100; AdamW 0.005"
train.metric = "AP50"
