"""Loading a plain network's trained weights, before or after attention is inserted: the keys are the same."""

from __future__ import annotations

from pathlib import Path

from timm.models import adapt_input_conv, load_state_dict
from torch import Tensor, nn

from spaces.backbones.insertion import crop_kernel
from spaces.backbones.structure import CHILD, NATIVE_SLOTS
from spaces.errors import UsageError


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a timm checkpoint (``.pth``, ``.safetensors``) into a plain network or one with attention, in place.

    Inserted attention keeps its start unless the file holds it too. The first convolution is adapted to other input
    channels and to the stem of small images; a classifier for another number of classes starts anew; weights of built-in
    attention that was taken out are left. Raises UsageError where anything else is missing, left over or of another shape.
    """
    if not Path(path).is_file():
        raise UsageError(f"weights: no file {str(path)!r}")
    state = load_state_dict(str(path), use_ema=False)
    own = model.state_dict()
    classifier = _classifier_keys(model)
    for key in [key for key in state if key in own and state[key].shape != own[key].shape]:
        if key in classifier:
            del state[key]
        elif state[key].ndim == 4 and own[key].ndim == 4:
            state[key] = _adapted(state[key], own[key])
    wrong = [key for key in state if key in own and state[key].shape != own[key].shape]
    missing = [key for key in own if key not in state and f".{CHILD}." not in key and key not in classifier]
    extra = [key for key in state if key not in own and not set(NATIVE_SLOTS) & set(key.split("."))]
    for what, keys in (("has other shapes for", wrong), ("lacks", missing), ("holds unknown", extra)):
        if keys:
            raise UsageError(
                f"weights {str(path)!r}: the file {what} {len(keys)} of the network's tensors, first {keys[0]}"
            )
    model.load_state_dict(state, strict=False)


def _classifier_keys(model: nn.Module) -> set[str]:
    found = getattr(model, "get_classifier", lambda: None)()
    heads = found if isinstance(found, (tuple, list)) else [found]
    names = [name for name, module in model.named_modules() if any(module is head for head in heads)]
    return {key for key in model.state_dict() for name in names if key.startswith(name + ".")}


def _adapted(weight: Tensor, own: Tensor) -> Tensor:
    if weight.shape[-1] > own.shape[-1]:
        weight = crop_kernel(weight, own.shape[-1])
    if weight.shape[1] != own.shape[1] and weight.shape[1] == 3:
        weight = adapt_input_conv(own.shape[1], weight)
    return weight
