"""Exported networks in timm: the keywords of the plain network, other classes and channels, and features."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from search.export.loader import load_source
from search.export.source import model_source
from search.export.subject import Subject, make_spec
from spaces import Architecture

TEXTS = ("resnet10t:se,se@block,se@stage,se", "convnext_atto:se,se@block,se@stage,none")


@pytest.mark.parametrize("text", TEXTS)
def test_an_export_takes_and_refuses_what_timms_networks_do(text: str, tmp_path: Path) -> None:
    arch = Architecture.parse(text)
    spec = make_spec(arch, num_classes=7, in_chans=3, image_size=96, identity_start=False, native="keep")
    subject = Subject(arch, spec)
    name, x_BCHW = subject.model_name, torch.linspace(-1, 1, 3 * 96 * 96).reshape(1, 3, 96, 96)
    (tmp_path / f"{name}.py").write_text(model_source(subject))
    model = subject.build().eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    load_source(name, str(tmp_path / f"{name}.py"))

    def made(**keywords: object) -> torch.nn.Module:
        return timm.create_model(name, pretrained=True, **keywords).eval()

    with torch.no_grad():
        assert torch.equal(made()(x_BCHW), model(x_BCHW))
        pooled = model.forward_head(model.forward_features(x_BCHW), pre_logits=True)
        assert torch.equal(made(num_classes=0)(x_BCHW), pooled)
        assert made(num_classes=0, global_pool="")(x_BCHW).shape == (1, model.num_features, 3, 3)
        assert made(num_classes=9)(x_BCHW).shape == (1, 9)
        grey_BCHW = x_BCHW[:, :1]
        assert torch.allclose(made(in_chans=1)(grey_BCHW), model(grey_BCHW.repeat(1, 3, 1, 1)), atol=1e-5)
        wide_BCHW = torch.cat([grey_BCHW] * 6, dim=1)
        assert torch.allclose(made(in_chans=6)(wide_BCHW), model(grey_BCHW.repeat(1, 3, 1, 1)), atol=1e-5)
        assert made(drop_rate=0.25).drop_rate == 0.25
        whole = model.forward_intermediates(x_BCHW, intermediates_only=True)
        for wanted in ({}, {"out_indices": (0, 1)}):
            features = made(features_only=True, **wanted)
            maps = features(x_BCHW)
            for found, expected in zip(maps, whole, strict=not wanted):
                assert torch.allclose(found, expected, atol=1e-5)
            assert len(maps) == len(wanted.get("out_indices", whole))
            assert any(".attune." in key for key in features.state_dict())
    with pytest.raises(TypeError, match="unexpected keyword argument 'foo'"):
        made(foo=1)
