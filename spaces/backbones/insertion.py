"""Putting attention into a built network so that every key of the plain state_dict keeps its name."""

from __future__ import annotations

import copy
import itertools
from collections import OrderedDict
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spaces.backbones.sites import CHILD, Site
from spaces.errors import UsageError
from spaces.meta import ShapesOnly

M = TypeVar("M", bound=nn.Module)
INNER = "plain"  # the name of a layer inside of the `Followed` that stands in its place


class Beside(nn.Module):
    """Stands in a layer's place and holds an attention that runs elsewhere; the state_dict looks as if the layer held it.

    Tools that convert, freeze, fuse or prune networks replace layers: they find the layer as a child and leave this
    in place, so the attention stays. Names in the state_dict are ``PATH.weight`` and ``PATH.attune.weight``; only the module
    tree knows that the layer is one level deeper.
    """

    def __init__(self, layer: nn.Module, attention: nn.Module) -> None:
        super().__init__()
        self.add_module(INNER, layer)
        self.add_module(CHILD, attention)
        self.training = layer.training

    def forward(self, *args: Any) -> Any:
        """What the layer gives."""
        return self.plain(*args)

    def __getattr__(self, name: str) -> Any:
        """What a block reads of its layers (weights, sizes) is the layer's; its methods are not, lest `fuse` replaces this."""
        modules = self.__dict__.get("_modules", {})
        if name in modules or name in ("_parameters", "_buffers", "_modules") or INNER not in modules:
            return super().__getattr__(name)
        value = getattr(modules[INNER], name)
        if callable(value) and not isinstance(value, nn.Module):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        """Weights under the layer's names go to the layer, as `torch.func.functional_call` puts them."""
        layer = self.__dict__.get("_modules", {}).get(INNER)
        for tensors in () if layer is None else (layer._parameters, layer._buffers):
            if name in tensors:
                tensors[name] = value
                return
        super().__setattr__(name, value)

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """As `nn.Module.state_dict`, the layer's weights under this module's own name."""
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        self.plain.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
        self.attune.state_dict(destination=destination, prefix=f"{prefix}{CHILD}.", keep_vars=keep_vars)
        return destination

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        kept = (f"{prefix}{CHILD}.", f"{prefix}{INNER}.")
        for key in [key for key in state_dict if key.startswith(prefix) and not key.startswith(kept)]:
            state_dict[f"{prefix}{INNER}.{key[len(prefix) :]}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Followed(Beside):
    """A layer and the attention that comes after it."""

    def forward(self, *args: Any) -> Any:
        """(B, C, H, W) -> same."""
        return self.attune(self.plain(*args))


def attach(model: nn.Module, site: Site, attention: nn.Module) -> None:
    """Put ``attention`` at a site of ``model``, in place.

    An empty native slot is filled. A layer, which other tools may replace, gets a ``Followed`` around it. A composite module
    takes the attention as a child that runs last: by itself in a Sequential, from a forward hook elsewhere, before the hooks
    that are there. Copying, pickling, compiling, tracing, converting, fusing and exporting the network carry it along.
    """
    parent_path, _, name = site.path.rpartition(".")
    if site.empty:
        setattr(model.get_submodule(parent_path), name, nn.Sequential(OrderedDict({CHILD: attention})))
        return
    target = model.get_submodule(site.path)
    if site.host:
        host = model.get_submodule(site.host)
        _replace(model, host, Beside(host, attention))
    elif is_layer(target) or hasattr(target, "fuse"):
        _replace(model, target, Followed(target, attention))
        return
    else:
        target.add_module(CHILD, attention)
        if type(target).forward is nn.Sequential.forward:  # it runs its new last child by itself
            return
    target.register_forward_hook(partial(_attend, site.attention.removeprefix(site.path + ".")), prepend=True)


def is_layer(module: nn.Module) -> bool:
    """Whether nothing below a module has weights, as in a convolution, or in a BatchNorm that holds its activation."""
    inner = (child for child in module.modules() if child is not module)
    return isinstance(module, nn.modules.batchnorm._NormBase) or not any(
        child._parameters or child._buffers for child in inner
    )


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in another's place, under every name that it has."""
    for parent in [module for module in model.modules() if old in module.children()]:
        for name, child in list(parent._modules.items()):  # `named_children` leaves out a second name
            if child is old:
                setattr(parent, name, new)


class Whole(nn.Module):
    """The features that timm's `features_only` leaves of a network, under the names of the whole network.

    ``names``: the whole network's module names. What was left out is an empty module: attention that goes there goes nowhere.
    """

    def __init__(self, features: nn.Module, names: Collection[str]) -> None:
        super().__init__()
        self.homes: dict[str, tuple[nn.Module, str]] = {}  # by path, where timm keeps a module that it renamed
        kept = features.get_submodule("model") if "model" in features._modules else features
        for name, child in kept.named_children():
            joined = (f"{name[:i]}.{name[i + 1 :]}" for i, letter in enumerate(name) if letter == "_")
            path = name if name in names else next((one for one in joined if one in names), name)
            parent, _, last = path.rpartition(".")
            if parent and parent not in self._modules:
                self.add_module(parent, nn.Module())
            super().get_submodule(parent).add_module(last, child)
            self.homes[path] = (kept, name)

    def get_submodule(self, target: str) -> nn.Module:
        try:
            return super().get_submodule(target)
        except AttributeError:
            return nn.Module()

    def put_back(self) -> None:
        """Give the features what took the place of their own modules."""
        for path, (home, name) in self.homes.items():
            home._modules[name] = super().get_submodule(path)


class Probe(nn.Module):
    """Notes that it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.called = False

    def forward(self, x: Any) -> Any:
        """The same."""
        self.called = True
        return x


def never_called(model: nn.Module, sites: Sequence[Site], shapes: Sequence[tuple[int, ...]]) -> list[str]:
    """Where a forward pass would not call what is attached at the sites; shapes: (C, H, W) of an input, tried in turn.

    The pass is one of a copy on the meta device: no weight is copied, nothing is computed, and the network stays as it is.
    Raises UsageError for a network that takes none of these inputs there.
    """
    copied = on_meta(model).eval()
    probes = {site.attention: Probe() for site in sites}
    for site in sites:
        attach(copied, site, probes[site.attention])
    for shape in shapes:
        try:
            with torch.no_grad(), torch.device("meta"), ShapesOnly():
                copied(torch.empty(1, *shape))
        # what a network raises at a shape that it cannot take, and torch where an operator has no meta kernel
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
            refusal = error
            continue
        return [path for path, probe in probes.items() if not probe.called]
    raise UsageError(
        f"this {type(model).__name__} cannot be tried on an input of shape {shapes[-1]}, so nothing tells whether it calls "
        f"attention: {' '.join(str(refusal).split())}"
    )


def on_meta(model: M) -> M:
    """A copy of a network on the meta device, whose weights have shapes but no content; the network stays as it is."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): _meta(tensor) for tensor in tensors})


def _meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _attend(child: str, module: nn.Module, args: Any, output: Any) -> Any:
    attention = module.get_submodule(child)
    if isinstance(output, tuple):  # a block that also gives a map from its inside, for a detector
        return (attention(output[0]), *output[1:])
    return attention(output)


def clear(model: nn.Module, path: str) -> None:
    """Take a block's own attention out of its native slot."""
    parent_path, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent_path), name, nn.Identity())


def shrink_stem(model: nn.Module, stem: tuple[str, ...], *, rescale: bool) -> None:
    """Make the stem keep the resolution of small images: strides 1, kernels of at most 3, no pooling.

    A larger kernel keeps its centre, so that trained weights can still be used; ``rescale`` keeps the variance of freshly
    initialised weights at fan-in 3 x 3. Of clips, only what lowers H and W changes: kernels and strides in time stay.
    """
    for path in stem:
        module = model.get_submodule(path)
        parent_path, _, name = path.rpartition(".")
        if not isinstance(module, (nn.Conv2d, nn.Conv3d)):
            setattr(model.get_submodule(parent_path), name, in_time(module))
            continue
        kernel = module.kernel_size[-1]
        size = 1 if kernel == 1 else 3
        module.stride = (*module.stride[:-2], 1, 1)
        if "Same" not in type(module).__name__:  # timm's "same" convolutions pad by what they need at run time
            module.padding = (*module.padding[:-2], size // 2, size // 2)
        if kernel > size:
            weight = crop_kernel(module.weight.detach(), size)
            module.weight = nn.Parameter(weight * (kernel / size if rescale else 1.0))
            module.kernel_size = (*module.kernel_size[:-2], size, size)


def in_time(pool: nn.Module) -> nn.Module:
    """What is left of a pooling that keeps the resolution: that in time, of clips; else nothing."""
    if isinstance(pool, nn.MaxPool3d):
        (kernel, *_), (stride, *_), (pad, *_) = (
            value if isinstance(value, tuple) else (value,) * 3
            for value in (pool.kernel_size, pool.stride, pool.padding)
        )
        if kernel > 1 or stride > 1:
            return nn.MaxPool3d((kernel, 1, 1), (stride, 1, 1), (pad, 0, 0))
    return nn.Identity()


def crop_kernel(weight_OIKK: Tensor, size: int) -> Tensor:
    """The central size x size part of convolution weights; of clips, the last two axes."""
    start = (weight_OIKK.shape[-1] - size) // 2
    return weight_OIKK[..., start : start + size, start : start + size].clone(memory_format=torch.contiguous_format)
