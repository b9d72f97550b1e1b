"""Putting attention into a built network so that every key of the plain state_dict keeps its name."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spaces.backbones.structure import CHILD, Site


def attach(model: nn.Module, site: Site, attention: nn.Module) -> None:
    """Put ``attention`` at a site of ``model``, in place.

    An empty native slot is filled. Elsewhere the attention becomes a child of the module it follows and runs from a
    forward hook, so that copying, pickling, compiling and exporting the network carry it along.
    """
    parent_path, _, name = site.path.rpartition(".")
    if site.empty:
        setattr(model.get_submodule(parent_path), name, nn.Sequential(OrderedDict({CHILD: attention})))
        return
    target, host = model.get_submodule(site.path), model.get_submodule(site.host or site.path)
    host.add_module(CHILD, attention)
    if type(target).forward is not nn.Sequential.forward:  # a Sequential runs its new last child by itself
        target.register_forward_hook(partial(_attend, site.attention.removeprefix(site.path + ".")))


def _attend(child: str, module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return module.get_submodule(child)(output)


def clear(model: nn.Module, path: str) -> None:
    """Take a block's own attention out of its native slot."""
    parent_path, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent_path), name, nn.Identity())


def shrink_stem(model: nn.Module, stem: tuple[str, ...], *, rescale: bool) -> None:
    """Make the stem keep the resolution of small images: strides 1, kernels of at most 3, no pooling.

    A larger kernel keeps its centre, so that trained weights can still be used; ``rescale`` keeps the variance of freshly
    initialised weights at fan-in 3 x 3.
    """
    for path in stem:
        module = model.get_submodule(path)
        parent_path, _, name = path.rpartition(".")
        if not isinstance(module, nn.Conv2d):
            setattr(model.get_submodule(parent_path), name, nn.Identity())
            continue
        kernel = module.kernel_size[0]
        size = 1 if kernel == 1 else 3
        module.stride = (1, 1)
        if "Same" not in type(module).__name__:  # timm's "same" convolutions pad by what they need at run time
            module.padding = (size // 2, size // 2)
        if kernel > size:
            weight = crop_kernel(module.weight.detach(), size)
            module.weight = nn.Parameter(weight * (kernel / size if rescale else 1.0))
            module.kernel_size = (size, size)


def crop_kernel(weight_OIKK: Tensor, size: int) -> Tensor:
    """The central size x size part of convolution weights."""
    start = (weight_OIKK.shape[-1] - size) // 2
    return weight_OIKK[..., start : start + size, start : start + size].clone(memory_format=torch.contiguous_format)
