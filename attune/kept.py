"""An object that was given to `attune.search`, for the processes that evaluate: this file is copied beside each of them.

It needs neither Attune nor the notebook that the object came from, so that a run can go on, be analysed and be exported later.
"""

from __future__ import annotations

import copy
import itertools
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn


@cache
def kept() -> Any:
    """What lies in object.pkl beside this file: code that is run when it is read, as with any pickle."""
    with open(Path(__file__).with_name("object.pkl"), "rb") as file:
        return pickle.load(file)


def network(num_classes: int, in_chans: int) -> nn.Module:
    """A copy of the network with its weights; its last linear layer starts anew where it is for another number of classes.

    On the meta device it is one without content, whatever the channels. Raises ValueError elsewhere for other channels than
    its own, and for other classes where it has no linear layer.
    """
    found = kept()
    model: Any = _copied(found["network"])
    if found["input_size"]:
        model.default_cfg = {**(getattr(model, "default_cfg", None) or {}), "input_size": tuple(found["input_size"])}
    if num_classes != found["outputs"]:
        _for_classes(model, num_classes)
    first = next((one for one in model.modules() if isinstance(one, (nn.Conv2d, nn.Conv3d))), None)
    if found["channels"] and in_chans != found["channels"] and first is not None:
        if not torch.empty(0).is_meta:
            raise ValueError(
                f"this {type(model).__name__} takes {found['channels']} channels, the data have {in_chans}"
            )
        first.weight = nn.Parameter(torch.empty(first.out_channels, in_chans // first.groups, *first.kernel_size))
        first.in_channels = in_chans
    return model


def _copied(model: nn.Module) -> nn.Module:
    if not torch.empty(0).is_meta:
        return copy.deepcopy(model)
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): _meta(tensor) for tensor in tensors})


def _meta(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _for_classes(model: Any, num_classes: int) -> None:
    if hasattr(model, "reset_classifier"):  # timm's
        model.reset_classifier(num_classes)
        return
    linear = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.Linear)]
    if linear:
        name, last = linear[-1]
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, nn.Linear(last.in_features, num_classes, last.bias is not None))
    elif not torch.empty(0).is_meta:
        raise ValueError(f"this {type(model).__name__} has no linear layer that could be one for {num_classes} classes")


def __getattr__(name: str) -> Any:
    if name == "function":
        return kept()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
