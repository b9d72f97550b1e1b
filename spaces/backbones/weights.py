"""Loading a plain network's trained weights, before or after attention is inserted: the keys are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from spaces.backbones.insertion import crop_kernel
from spaces.backbones.sites import CHILD, PREFIX
from spaces.backbones.structure import NATIVE_SLOTS
from spaces.errors import UsageError, shortened


@dataclass(frozen=True)
class Loaded:
    """What became of the tensors of a checkpoint: how many there are, and the names of those that were left out."""

    count: int
    left: tuple[str, ...]

    def __str__(self) -> str:
        taken = f"{self.count - len(self.left)} of {self.count} tensors taken"
        return f"{taken}, {len(self.left)} left out, first {self.left[0]}" if self.left else f"{taken}, none lost"


def load_weights(model: nn.Module, path: str | Path) -> Loaded:
    """Load a checkpoint of a plain network (``.pth``, ``.pt``, ``.safetensors``) into it, with attention or without, in place.

    The state_dict may be wrapped (``state_dict``, ``model`` ...) and its keys may begin with ``module.``. Inserted attention
    keeps its start unless the file holds it too; attention of the file that the network does not have, or has in another
    shape, is left. The first convolution is adapted to other input channels and to the stem of small images. A classifier for
    another number of classes starts anew. Weights of built-in attention that was taken out are left.
    A network with a ``backbone`` takes the checkpoint of a whole such network, under the names of torchvision's too, or that of
    its backbone alone, whose classifier is left and without which its other layers start as they are.
    Raises UsageError where there is no such file, where it cannot be read, and where anything else is missing, left over or
    of another shape.
    """
    own = model.state_dict()
    head = classifier_prefixes(model)
    read = _read(path)
    whole, optional = _as_named(read, own)
    state = {
        key: value
        for key, value in whole.items()
        if not is_attention(key) or (key in own and value.shape == own[key].shape)
    }
    for key, value in state.items():
        if key in own and not key.startswith(head) and value.ndim == own[key].ndim in (4, 5):
            state[key] = _adapted(value, own[key])
    if any(key.startswith(head) and (key not in state or state[key].shape != own[key].shape) for key in own):
        state = {key: value for key, value in state.items() if not key.startswith(head)}
    wrong = [key for key in state if key in own and state[key].shape != own[key].shape]
    missing = [
        key
        for key in own
        if key not in state and not is_attention(key) and not key.startswith(head) and not optional(key)
    ]
    extra = [
        key for key in state if key not in own and not set(NATIVE_SLOTS) & set(key.split(".")) and not optional(key)
    ]
    for what, keys in (("has other shapes for", wrong), ("lacks", missing), ("holds unknown", extra)):
        if keys:
            raise UsageError(
                f"checkpoint {shortened(str(path), 200)} does not fit the backbone: it {what} {len(keys)} of the network's "
                f"tensors, first {keys[0]}"
            )
    model.load_state_dict(state, strict=False)
    return Loaded(len(read), tuple(key for key in whole if key not in state or key not in own))


def _as_named(read: dict[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Callable[[str], bool]]:
    """A file's tensors under the network's names, and which names may be missing in it, or left over.

    Those of a network without a ``backbone`` are as they are.
    """
    if not any(key.startswith(PREFIX) for key in own):
        return read, lambda key: False
    whole = any(key.startswith(2 * PREFIX) for key in own) and not any(key.startswith(2 * PREFIX) for key in read)
    if whole or not any(
        key.startswith(PREFIX) for key in read
    ):  # a backbone's own with its classifier, or a whole network's
        return {
            PREFIX + key: value for key, value in read.items()
        }, lambda key: not key.startswith(PREFIX) or key not in own
    names = {key: key if key in own else _renamed(key) for key in read}
    counters = "num_batches_tracked"  # which constant BatchNorms do not have
    spare = "aux_classifier."  # helps the training only
    return {
        names[key]: value for key, value in read.items()
    }, lambda key: key.endswith(counters) or (key.startswith(spare) and not any(one.startswith(spare) for one in own))


def _renamed(key: str) -> str:
    """A name of torchvision's detectors as it is here."""
    theirs = (
        ("backbone.body.", PREFIX),
        ("backbone.fpn.", "neck."),
        ("rpn.head.", "head.layers."),
        ("roi_heads.", ""),
    )
    return next((ours + key.removeprefix(start) for start, ours in theirs if key.startswith(start)), key)


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
