"""A plain loop of PyTorch as the evaluator of a search: it gets a network with its attention in it, and trains it."""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


@cache
def digits():
    """Your data: here 600 handwritten digits, (N, 1, 16, 16), to train on and 200 to judge by."""
    found = load_digits()
    images = torch.tensor(found.images[:800, None] / 16.0, dtype=torch.float32)
    images, labels = F.interpolate(images, size=16), torch.tensor(found.target[:800])
    return images[:600], labels[:600], images[600:], labels[600:]


def train(model: nn.Module, *, epochs, seed, device, report):
    """Train the network that is given, in place, and return what it is judged by."""
    images, labels, val_images, val_labels = (part.to(device) for part in digits())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
    order = torch.Generator().manual_seed(seed)
    accuracy = 0.0
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in torch.randperm(len(images), generator=order).to(device).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(val_images).argmax(1) == val_labels).float().mean().item()
        if not report(epoch, {"accuracy": accuracy}):  # the search may end a training that leads nowhere
            break
    return {"accuracy": accuracy}


train.identity = (
    "scikit-learn digits, 600 + 200; AdamW 0.005"  # a text that changes with the data and the way of training
)
train.metric = "accuracy"
