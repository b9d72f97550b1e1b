"""Attention survives what other tools do to a network, at every kind of site, and is called or refused."""

import copy
import io

import pytest
import timm
import torch
import torchvision
from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d
from timm.utils.model import reparameterize_model
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils import prune

from spaces.backbone import describe_backbone
from spaces.backbones.insertion import attach, never_called
from spaces.backbones.sites import Site
from spaces.backbones.zoo import create_plain
from spaces.errors import UsageError
from spaces.network import NetworkSpec, build_model, insert_attention
from spaces.placement import Architecture

SHAPE = (1, 3, 32, 32)


class Gate(nn.Module):
    """Attention of the smallest sort: a number per channel; it makes every map smaller."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, groups=channels)
        self.squeeze = nn.Linear(channels, 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return self.conv(x_BCHW) * 0.5 + 0 * self.squeeze(x_BCHW.mean((2, 3))).sum()


def tv_resnet18(num_classes: int, in_chans: int) -> nn.Module:
    return torchvision.models.resnet18(num_classes=num_classes)


def dense(num_classes: int, in_chans: int) -> nn.Module:
    return torchvision.models.densenet.DenseNet(4, (2, 2, 2), 8, num_classes=num_classes)


def repvit(num_classes: int, in_chans: int) -> nn.Module:
    return timm.models.repvit.RepVit(embed_dim=(8, 16, 24), depth=(2, 2, 2), mlp_ratio=2, num_classes=num_classes)


def layers(num_classes: int, in_chans: int) -> nn.Module:
    """Nothing but layers, as in VGG."""
    maps = [in_chans, 8, 8, 16, 16]
    found: list[nn.Module] = []
    for i in range(4):
        found += [nn.Conv2d(maps[i], maps[i + 1], 3, 1 + (i == 2), 1), nn.BatchNorm2d(maps[i + 1]), nn.ReLU()]
    return nn.Sequential(*found, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))


def pruned(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            prune.identity(module, "weight")
    return model


def pickled(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


TOOLS = {
    "sync": nn.SyncBatchNorm.convert_sync_batchnorm,
    "sync of timm": convert_sync_batchnorm,
    "freeze": freeze_batch_norm_2d,
    "trace by fx": fx.symbolic_trace,
    "fuse": fuse,
    "reparameterize": reparameterize_model,
    "prune": pruned,
    "quantize": lambda model: torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8),
    "copy": copy.deepcopy,
    "pickle": pickled,
}
NETWORKS = {  # name: a layer that holds each slot, in the plain network
    f"module:{__name__}:tv_resnet18": "a BatchNorm",
    "resnetv2_18": "a convolution",
    "convnext_atto": "an Identity",
    "repvgg_a0": "an empty slot",
    f"module:{__name__}:dense": "none: blocks that are dictionaries",
    f"module:{__name__}:layers": "none: blocks that are layers",
    f"module:{__name__}:repvit": "a module that knows how to fuse itself",
}


def output(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(torch.linspace(-1, 1, 3 * 32 * 32).reshape(SHAPE))
        return found


@pytest.mark.parametrize("name", NETWORKS)
def test_attention_survives_other_tools(name: str) -> None:
    """A slot, a block and a stage of each network at once."""
    stages = describe_backbone(name).stages
    kinds = ("slot", "block", "stage") if len(stages) > 2 else ("block", "stage")
    found = [stage.sites[kind][0] for stage, kind in zip(stages, kinds, strict=False) if kind in stage.sites]
    sites = list({site.attention: site for site in found}.values())
    assert len(sites) == (2 if NETWORKS[name].startswith("none") else 3)
    torch.manual_seed(0)
    plain = create_plain(name, 3, 3).eval()
    for weight in plain.parameters():
        if weight.ndim == 1:
            nn.init.uniform_(
                weight, 0.5, 1.5
            )  # the last norm of a block may start at zero, its scale at next to nothing
    model = copy.deepcopy(plain)
    for site in sites:
        attach(model, site, Gate(site.channels))
    added = {key for key in model.state_dict() if key not in plain.state_dict()}
    assert added == {f"{site.attention}.{key}" for site in sites for key in Gate(1).state_dict()}
    assert list(plain.state_dict()) == [key for key in model.state_dict() if key not in added]
    with_it, without = output(model), output(plain)
    effect = float((with_it - without).abs().max())
    assert effect > 0
    survived = []
    for tool, apply in TOOLS.items():
        try:
            bare = output(apply(copy.deepcopy(plain)).eval())
        except Exception:  # a tool that cannot take the plain network says nothing of attention in it
            continue
        if not torch.allclose(bare, without, atol=0.01 * effect):
            continue
        changed = output(apply(copy.deepcopy(model)).eval())
        assert torch.allclose(changed, with_it, atol=0.05 * effect), tool
        survived.append(tool)
    assert len(survived) >= 8, survived


def test_weights_have_the_plain_names_everywhere() -> None:
    """The state_dict of a network whose layer has attention loads and is called by the names of the plain one."""
    name = f"module:{__name__}:tv_resnet18"
    model = build_model(Architecture.parse(f"{name}:se,none,none,none"), 3).eval()
    state = {key: torch.full_like(value, 0.5) for key, value in model.state_dict().items()}
    assert {"layer1.0.bn2.weight", "layer1.0.bn2.attune.fc1.weight"} < set(state)
    called = torch.func.functional_call(model, state, torch.ones(SHAPE))
    assert not torch.equal(called, output(model))
    model.load_state_dict(state)
    assert torch.equal(model(torch.ones(SHAPE)), called)
    assert torch.equal(model.layer1[0].bn2.weight, state["layer1.0.bn2.weight"])
    assert model.layer1[0].bn2.num_features == 64
    assert not hasattr(model.layer1[0].bn2, "fuse")
    with pytest.raises(RuntimeError, match="bn2"):
        model.load_state_dict({key: value for key, value in state.items() if "bn2" not in key})


def test_attention_that_is_never_called_is_refused_before_anything_changes() -> None:
    body = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).backbone.body
    keys = list(body.state_dict())
    with pytest.raises(UsageError, match=r"never calls attention at 16 of 16 sites of 'resnet50', first 'layer1.0.se"):
        insert_attention(body, Architecture.parse("resnet50:se,se,se,se"))
    with pytest.raises(UsageError, match=r"has no module 'blocks\.0\.0'"):
        insert_attention(body, Architecture.parse("mobilenetv2_035:se,none,none,none,none"))
    assert list(body.state_dict()) == keys
    insert_attention(body, Architecture.parse("resnet50:se@block,none,none,se@stage"))
    assert "layer4.2.attune.fc1.weight" in body.state_dict()
    tiny = create_plain("attune_tiny", 3, 1)
    insert_attention(tiny, Architecture.parse("attune_tiny:se,none,none"))
    with pytest.raises(UsageError, match=r"cannot be tried on an input of shape \(5, 32, 32\)"):
        NetworkSpec.classifier(32, 3, 5).insert(
            create_plain("attune_tiny", 3, 1), Architecture.parse("attune_tiny:se,none,se")
        )


def test_a_layer_under_two_names_gets_attention_under_both() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    model.add_module("again", model[0])
    assert never_called(model, [Site("0", 3)], [(3, 4, 4)]) == []
    attach(model, Site("0", 3), Gate(3))
    assert model[0] is model[1]


# --- the stem -------------------------------------------------------------------------------------------------------------


def test_the_stem_is_kept_where_the_space_says_so() -> None:
    arch = Architecture.plain("resnet18")
    small, kept = (NetworkSpec.classifier(64, 3, stem=stem) for stem in ("auto", "keep"))
    assert (small.rewrites_stem, kept.rewrites_stem) == (True, False)
    with torch.device("meta"):
        strides = [network.build(arch).conv1.stride for network in (small, kept)]
    assert strides == [(1, 1), (2, 2)]
    maps = [next(iter(network.site_shapes("resnet18").values())) for network in (small, kept)]
    assert maps == [(64, 64, 64), (64, 16, 16)]
    assert "conv1, maxpool" in small.describe_stem("resnet18")
    assert "keep" in kept.describe_stem("resnet18")
    assert "own" in NetworkSpec.classifier(65, 3).describe_stem("resnet18")
    assert "stem" not in small.to_dict()
    assert NetworkSpec.from_dict(kept.to_dict()) == kept
    with pytest.raises(UsageError, match="unknown stem 'shrink'; valid: auto, keep"):
        NetworkSpec.classifier(64, 3, stem="shrink")  # type: ignore[arg-type]


def test_our_own_networks_take_and_refuse_keywords_as_timms_do() -> None:
    for name in ("attune_tiny", "mobilenext_050"):
        assert timm.create_model(name, num_classes=0)(torch.zeros(1, 3, 64, 64)).shape[0] == 1
        with pytest.raises(TypeError, match="unexpected keyword argument 'foo'"):
            timm.create_model(name, foo=1)
        with pytest.raises(RuntimeError, match="features_only not implemented"):
            timm.create_model(name, features_only=True)
