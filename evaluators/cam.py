"""Where in a picture a network finds what speaks for a score: class activation maps by gradients.

Own code and no package, since it is these few lines.
Legend: B batch, C channels, H and W pixels of the input, h and w of a map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from evaluators.gates import refuse_training
from spaces.errors import UsageError, shortened
from spaces.network import NetworkSpec

Target = Callable[[Any], Tensor]  # what a network puts out -> a score of each picture (B,)


def last_layers(network: NetworkSpec, backbone: str) -> tuple[str, ...]:
    """The paths of the modules that end the stages of a backbone, the last stage's first."""
    ends = [stage.blocks[-1] for stage in network.stages(backbone) if not stage.name]
    return tuple(reversed(ends))


def grad_cam(model: nn.Module, x_BCHW: Tensor, layer: str, target: Target) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391): maps (B, H, W) in [0, 1] of where a layer speaks for a score.

    relu(sum_c mean_hw(dS / dA_c) A_c) for the layer's activations A (B, C, h, w) and ``target``, output -> scores S (B,),
    enlarged bilinearly, each divided by its maximum; 0 where nothing speaks for the score. With the sum of a class's logits
    over pixels as the score it is Seg-Grad-CAM (Vinogradova et al., AAAI 2020, arXiv:2002.11434).
    Raises UsageError for a network in training mode, for a path that names no module which gives maps, and for scores that are
    not (B,).
    """
    maps_BChw, slope_BChw = _activations(model, x_BCHW, layer, target)
    return _shown((slope_BChw.mean((2, 3), keepdim=True) * maps_BChw).sum(1), x_BCHW)


def layer_cam(model: nn.Module, x_BCHW: Tensor, layer: str, target: Target) -> Tensor:
    """LayerCAM (Jiang et al., TIP 2021): as ``grad_cam``, but each position has weights of its own.

    relu(sum_c relu(dS / dA_c) A_c), element by element, so that it keeps places apart where Grad-CAM's mean over the map does
    not: for scores of single places, such as those of boxes, and for fine maps. Shapes and errors are those of ``grad_cam``.
    """
    maps_BChw, slope_BChw = _activations(model, x_BCHW, layer, target)
    return _shown((slope_BChw.relu() * maps_BChw).sum(1), x_BCHW)


def _activations(model: nn.Module, x_BCHW: Tensor, layer: str, target: Target) -> tuple[Tensor, Tensor]:
    """What a layer gives, (B, C, h, w), and the gradient of the scores by it; what lies before it keeps no graph."""
    refuse_training(model)
    try:
        module = model.get_submodule(layer)
    except AttributeError:
        raise UsageError(f"this {type(model).__name__} has no module {shortened(layer)}") from None
    found: list[Tensor] = []

    def cut(module: nn.Module, args: Any, output: Any) -> Any:
        first, *others = output if isinstance(output, tuple) else (output,)
        if not isinstance(first, Tensor) or first.dim() != 4:
            what = f"of shape {tuple(first.shape)}" if isinstance(first, Tensor) else f"a {type(first).__name__}"
            raise UsageError(f"the module {shortened(layer)} gives no maps (B, C, h, w) but something {what}")
        found[:] = [first.detach().requires_grad_()]
        copy = found[0].clone()  # a layer that comes later may write over it
        return (copy, *others) if isinstance(output, tuple) else copy

    hook = module.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            score_B = target(model(x_BCHW))
    finally:
        hook.remove()
    if not found:
        raise UsageError(f"the module {shortened(layer)} is never called")
    if score_B.shape != x_BCHW.shape[:1]:
        raise UsageError(f"scores of shape {tuple(score_B.shape)} for {len(x_BCHW)} pictures; valid: one for each")
    maps_BChw = found[0]
    slope_BChw = None
    if score_B.requires_grad:  # of a score that does not depend on the layer the gradient is 0
        (slope_BChw,) = torch.autograd.grad(score_B.sum(), maps_BChw, allow_unused=True)
    return maps_BChw.detach(), torch.zeros_like(maps_BChw) if slope_BChw is None else slope_BChw


def _shown(cam_Bhw: Tensor, x_BCHW: Tensor) -> Tensor:
    """Maps at the size of the input, each with the maximum 1 where it has a positive element."""
    wide_BHW = interpolate(cam_Bhw.relu()[:, None].float(), x_BCHW.shape[2:], mode="bilinear")[:, 0]
    highest_B11 = wide_BHW.amax((1, 2), keepdim=True)
    return torch.where(highest_B11 > 0, wide_BHW / highest_B11.clamp(min=torch.finfo(torch.float32).tiny), 0.0)
