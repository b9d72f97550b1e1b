"""Loading a plain network's trained weights, before or after attention is inserted: the keys are the same."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from spaces.backbones.insertion import crop_kernel
from spaces.backbones.structure import CHILD, NATIVE_SLOTS
from spaces.errors import UsageError, shortened


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint of a plain network (``.pth``, ``.pt``, ``.safetensors``) into it, with attention or without, in place.

    The state_dict may be wrapped (``state_dict``, ``model`` ...) and its keys may begin with ``module.``. Inserted attention
    keeps its start unless the file holds it too; attention of the file that the network does not have, or has in another
    shape, is left. The first convolution is adapted to other input channels and to the stem of small images. A classifier for
    another number of classes starts anew. Weights of built-in attention that was taken out are left.
    Raises UsageError where there is no such file, where it cannot be read, and where anything else is missing, left over or
    of another shape.
    """
    own = model.state_dict()
    head = classifier_prefixes(model)
    state = {
        key: value
        for key, value in _read(path).items()
        if not is_attention(key) or (key in own and value.shape == own[key].shape)
    }
    for key, value in state.items():
        if key in own and not key.startswith(head) and value.ndim == own[key].ndim in (4, 5):
            state[key] = _adapted(value, own[key])
    if any(key.startswith(head) and (key not in state or state[key].shape != own[key].shape) for key in own):
        state = {key: value for key, value in state.items() if not key.startswith(head)}
    wrong = [key for key in state if key in own and state[key].shape != own[key].shape]
    missing = [key for key in own if key not in state and not is_attention(key) and not key.startswith(head)]
    extra = [key for key in state if key not in own and not set(NATIVE_SLOTS) & set(key.split("."))]
    for what, keys in (("has other shapes for", wrong), ("lacks", missing), ("holds unknown", extra)):
        if keys:
            raise UsageError(
                f"checkpoint {shortened(str(path), 200)} does not fit the backbone: it {what} {len(keys)} of the network's "
                f"tensors, first {keys[0]}"
            )
    model.load_state_dict(state, strict=False)


def _read(path: str | Path) -> dict[str, Tensor]:
    """The state_dict of a file, whatever it is wrapped in; raises UsageError where there is none."""
    if not Path(path).is_file():
        raise UsageError(f"no such checkpoint: {shortened(str(path), 200)}")
    from timm.models import load_state_dict  # seconds to import

    try:
        state = load_state_dict(str(path), use_ema=False)
    except Exception as error:  # torch, pickle and safetensors each have their own for a file that is something else
        raise UsageError(
            f"cannot read the checkpoint {shortened(str(path), 200)}: {str(error).strip().partition(chr(10))[0] or type(error)}"
        ) from error
    other = next((key for key, value in state.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        raise UsageError(
            f"checkpoint {shortened(str(path), 200)} is no state_dict: {shortened(other)} is no tensor; valid: names "
            "and tensors, or these in a dict under 'state_dict' or 'model'"
        )
    return dict(state)


def is_attention(name: str) -> bool:
    """Whether a parameter belongs to inserted attention."""
    return f".{CHILD}." in name


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """How the names of the classifier's parameters begin: of what ``get_classifier`` gives, else of the last linear layer.

    Empty for a network without either; made for ``str.startswith``.
    """
    find = getattr(model, "get_classifier", None)
    found = find() if find else None
    heads = [head for head in (found if isinstance(found, (tuple, list)) else [found]) if head is not None]
    named = [name for name, module in model.named_modules() if any(module is head for head in heads)]
    linear = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and not is_attention(name)
    ]
    return tuple(f"{name}." for name in named or linear[-1:])


def _adapted(weight: Tensor, own: Tensor) -> Tensor:
    """A convolution's weight cut to the kernel, and converted to the input channels, of the network's own."""
    if weight.shape[-1] > own.shape[-1]:
        weight = crop_kernel(weight, own.shape[-1])
    if weight.shape[1] != own.shape[1] and weight.shape[1] == 3:
        from timm.models import adapt_input_conv  # seconds to import

        flat = adapt_input_conv(own.shape[1], weight.flatten(2, -2))  # of clips, (O, I, T * H, W)
        weight = flat.unflatten(2, weight.shape[2:-1])
    return weight
