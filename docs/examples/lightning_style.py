"""A trainer in the style of Lightning: the steps are in a module around the network, the loop is in the trainer.

With Lightning, `Digits` derives from `lightning.LightningModule`, `fit` is `lightning.Trainer(max_epochs=epochs).fit`,
and `report` is called by a callback's `on_validation_epoch_end`, which sets `trainer.should_stop`. The rest stays as it is.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Digits(nn.Module):
    """The steps: what a batch's loss is, what it is judged by, and how weights are changed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network  # the one that Attune gives, with its attention in it

    def training_step(self, batch):
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def validation_step(self, batch):
        images, labels = batch
        return (self.network(images).argmax(1) == labels).float().mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.005)


def loaders(seed):
    """Your data module: here handwritten digits."""
    found = load_digits()
    images = F.interpolate(torch.tensor(found.images[:800, None] / 16.0, dtype=torch.float32), size=16)
    data = TensorDataset(images, torch.tensor(found.target[:800]))
    train, val = torch.utils.data.Subset(data, range(600)), torch.utils.data.Subset(data, range(600, 800))
    order = torch.Generator().manual_seed(seed)
    return DataLoader(train, batch_size=50, shuffle=True, generator=order), DataLoader(val, batch_size=200)


def fit(module, train_loader, val_loader, *, epochs, device, on_epoch_end):
    """What a trainer does. `on_epoch_end(epoch, score)` says whether to go on."""
    optimizer = module.configure_optimizers()
    for epoch in range(1, epochs + 1):
        module.train()
        for batch in train_loader:
            optimizer.zero_grad()
            module.training_step([part.to(device) for part in batch]).backward()
            optimizer.step()
        module.eval()
        with torch.no_grad():
            scores = [module.validation_step([part.to(device) for part in batch]) for batch in val_loader]
        if not on_epoch_end(epoch, torch.stack(scores).mean().item()):
            break


def train(model: nn.Module, *, epochs, seed, device, report):
    """The evaluator: the network goes into the module, and the last score is returned."""
    scores = []

    def on_epoch_end(epoch, score):
        scores.append(score)
        return report(epoch, {"accuracy": score})

    fit(Digits(model).to(device), *loaders(seed), epochs=epochs, device=device, on_epoch_end=on_epoch_end)
    return {"accuracy": scores[-1]}


train.identity = "scikit-learn digits, 600 + 200; AdamW 0.005, Lightning style"
train.metric = "accuracy"
