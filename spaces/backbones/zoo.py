"""Plain networks by name: timm's registry, to which our own and torchvision's ShuffleNetV2 and networks of clips are added,
and functions of the user's own (``module:package.file:function``).
"""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from functools import cache
from typing import Any

import torch
from torch import nn

from spaces.errors import UsageError, shortened
from spaces.plugins import bring, call, is_brought

# timm's files of transformers, mixers and hybrids; all else in timm is a convolutional network.
_NOT_CONVOLUTIONAL = frozenset(
    [
        "beit",
        "cait",
        "coat",
        "convit",
        "crossvit",
        "davit",
        "deit",
        "edgenext",
        "efficientformer",
        "efficientformer_v2",
        "efficientvit_mit",
        "efficientvim",
        "efficientvit_msra",
        "eva",
        "focalnet",
        "gcvit",
        "gemma4_vit",
        "deepseek_vit",
        "qwen3_vit",
        "hiera",
        "hieradet_sam2",
        "iformer",
        "levit",
        "lowformer",
        "maxxvit",
        "metaformer",
        "mlp_mixer",
        "mobilevit",
        "mvitv2",
        "naflexvit",
        "nest",
        "nextvit",
        "pit",
        "pvt_v2",
        "sequencer",
        "shvit",
        "swiftformer",
        "swin_transformer",
        "swin_transformer_v2",
        "swin_transformer_v2_cr",
        "tiny_vit",
        "tnt",
        "twins",
        "visformer",
        "vision_transformer",
        "vision_transformer_hybrid",
        "vision_transformer_relpos",
        "vision_transformer_sam",
        "vitamin",
        "volo",
        "xcit",
        "byoanet",
        "cpubone",
        "csatv2",
        "fastvit",
    ]
)


@cache
def registry() -> Any:
    """timm with our own networks in it; imported at the first use, since that takes seconds."""
    import timm

    from spaces.backbones import mobile, resnet3d, tiny, video  # noqa: F401  (they register their networks with timm)

    return timm


@cache
def list_backbones() -> list[str]:
    """Names of all convolutional networks that can be built; a user's own goes by ``module:package.file:function``."""
    modules = set(registry().list_modules()) - _NOT_CONVOLUTIONAL
    return sorted(name for module in modules for name in registry().list_models(module=module))


def create_plain(name: str, num_classes: int, in_chans: int, pretrained: bool = False) -> nn.Module:
    """The network as its library builds it; raises UsageError for an unknown name.

    On the meta device, a network whose constructor computes on values is built on the CPU and moved there.
    """
    if not is_brought(name) and not registry().is_model(name):
        raise _unknown(name)
    if not torch.empty(0).is_meta:
        return _create(name, num_classes, in_chans, pretrained)
    try:
        return _create(name, num_classes, in_chans, pretrained)
    except (
        RuntimeError,
        UsageError,
    ):  # what torch raises where a meta tensor is asked for its values, or told by ``call``
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return _create(name, num_classes, in_chans, pretrained).to("meta")


def _create(name: str, num_classes: int, in_chans: int, pretrained: bool) -> nn.Module:
    if is_brought(name):
        return _users_own(name, num_classes, in_chans)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a renamed model is still the model that was asked for
        made: nn.Module = registry().create_model(
            name, pretrained=pretrained, num_classes=num_classes, in_chans=in_chans
        )
        return made


def module_of(name: str) -> str:
    """The Python module whose code builds a network; raises UsageError for an unknown name."""
    if is_brought(name):
        return str(getattr(bring(name, "backbone"), "__module__", None) or name.split(":")[1])
    if not registry().is_model(name):
        raise _unknown(name)
    return str(registry().model_entrypoint(name).__module__)


def is_outside(name: str) -> bool:
    """Whether a user's own code builds a network, so that nothing kept on disk can know what that code is."""
    return module_of(name).partition(".")[0] not in ("spaces", "timm")


def _unknown(name: str) -> UsageError:
    near = get_close_matches(name[:80], list_backbones(), n=5)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return UsageError(
        f"unknown backbone {shortened(name)}{hint}; valid: a convolutional network of timm or module:package.file:function; "
        "`list backbones` names them"
    )


def _users_own(name: str, num_classes: int, in_chans: int) -> nn.Module:
    model = call(name, "backbone", bring(name, "backbone"), num_classes=num_classes, in_chans=in_chans)
    if not isinstance(model, nn.Module):
        raise UsageError(f"backbone {shortened(name)} returned {type(model).__name__}, not a torch.nn.Module")
    return model
