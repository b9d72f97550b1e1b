"""torchvision's networks of clips (B, C, T, H, W), registered with timm.

r3d_18, mc3_18 and r2plus1d_18: Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018.
s3d: Xie et al., Rethinking Spatiotemporal Feature Learning, ECCV 2018. Pretrained weights are torchvision's, of Kinetics-400.
"""

from __future__ import annotations

from typing import Any

import torchvision
from timm.models import adapt_input_conv, register_model
from torch import nn
from torchvision.models.video import S3D

from spaces.backbones.options import network_options

KINETICS = 400  # classes of the pretrained weights
FRAMES = 16  # of a clip, as the costs that torchvision publishes are counted


def _first_convolution(model: nn.Module) -> tuple[str, nn.Conv3d]:
    return next((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv3d))


def _see_channels(model: nn.Module, in_chans: int, *, pretrained: bool) -> None:
    """A first convolution for other input channels than three; trained weights are adapted as timm adapts them."""
    path, old = _first_convolution(model)
    new = nn.Conv3d(
        in_chans,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    if pretrained:
        flat = adapt_input_conv(in_chans, old.weight.data.flatten(2, 3))  # (O, I, T * H, W)
        new.weight.data.copy_(flat.unflatten(2, old.weight.shape[2:4]))
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)


class ClipS3D(S3D):
    """torchvision's S3D, which says what its classifier is: a convolution, as no linear layer of it is one."""

    def get_classifier(self) -> nn.Module:
        return self.classifier[1]


def _resnet(name: str, num_classes: int = KINETICS, in_chans: int = 3, pretrained: bool = False) -> nn.Module:
    model: Any = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    if num_classes != KINETICS:
        model.fc = nn.Linear(model.fc.in_features, num_classes)
    if in_chans != 3:
        _see_channels(model, in_chans, pretrained=pretrained)
    model.default_cfg = {"input_size": (3, FRAMES, 112, 112)}
    made: nn.Module = model
    return made


def _s3d(num_classes: int = KINETICS, in_chans: int = 3, pretrained: bool = False) -> nn.Module:
    model: Any = ClipS3D(num_classes=KINETICS if pretrained else num_classes)
    if pretrained:
        weights = torchvision.models.get_model_weights("s3d").DEFAULT
        model.load_state_dict(weights.get_state_dict(progress=False, check_hash=True))
        if num_classes != KINETICS:
            model.classifier[1] = nn.Conv3d(1024, num_classes, 1)
    if in_chans != 3:
        _see_channels(model, in_chans, pretrained=pretrained)
    model.default_cfg = {"input_size": (3, FRAMES, 224, 224)}
    made: nn.Module = model
    return made


@register_model
def r3d_18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """33,371,472 parameters, 40.7 G multiply-adds at 16 x 112 x 112."""
    return _resnet("r3d_18", pretrained=pretrained, **network_options(kwargs))


@register_model
def mc3_18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """3 x 3 x 3 convolutions in the first stage, 1 x 3 x 3 beyond it: 11,695,440 parameters, 43.3 G."""
    return _resnet("mc3_18", pretrained=pretrained, **network_options(kwargs))


@register_model
def r2plus1d_18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """1 x 3 x 3 convolutions, each followed by one of 3 x 1 x 1: 31,505,325 parameters, 40.5 G."""
    return _resnet("r2plus1d_18", pretrained=pretrained, **network_options(kwargs))


@register_model
def s3d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Separable Inception blocks: 8,320,048 parameters, 18.0 G at 16 x 224 x 224.

    Its last pooling has windows of 2 x 7 x 7, so clips have at least 13 frames, and 209 pixels a side.
    """
    return _s3d(pretrained=pretrained, **network_options(kwargs))
