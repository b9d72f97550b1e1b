"""What attention multiplies by is what its own gates say, and what adds is told apart."""

import pytest
import torch
from torch import Tensor, nn

from evaluators.gates import find_factor, gates, weigh
from spaces import Architecture, build_model
from spaces.attention import create_attention, list_attentions
from spaces.attention.parts import Gate
from spaces.errors import UsageError

ADDING = {"augmented_conv", "double_attention", "dual_attention", "global_context", "non_local", "self_attention"}
MOVING = {"shuffle_attention", "spatial_transformer"}


def attention(name: str, **genes: object) -> nn.Module:
    """A module in eval mode, moved away from what it starts as."""
    torch.manual_seed(0)
    module = create_attention(name, channels=16, **genes)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return module.eval()


@pytest.fixture
def x_BCHW() -> Tensor:
    """Maps as they come from a ReLU: half of the elements are 0."""
    return torch.randn(2, 16, 7, 5, generator=torch.Generator().manual_seed(1)).relu()


def test_the_channels_of_se_are_its_sigmoid(x_BCHW: Tensor) -> None:
    module = attention("se")
    found = weigh("se", module, x_BCHW)
    pooled_BC = x_BCHW.mean((2, 3))
    expected_BC = torch.sigmoid(module.fc2(torch.relu(module.fc1(pooled_BC))))  # type: ignore[operator]
    assert found.kind == "factor"
    torch.testing.assert_close(found.channels_BC, expected_BC)
    torch.testing.assert_close(found.space_BHW, expected_BC.mean(1)[:, None, None].expand(2, 7, 5))


def test_cbam_in_series_is_the_product_of_its_gates(x_BCHW: Tensor) -> None:
    module = attention("cbam", arrangement="series")
    channel, spatial = module.channel, module.spatial
    assert isinstance(channel, Gate)
    assert isinstance(spatial, Gate)
    channel_BC11 = channel.gate(x_BCHW)
    spatial_B1HW = spatial.gate(x_BCHW * channel_BC11)
    found = weigh("cbam", module, x_BCHW)
    torch.testing.assert_close(found.space_BHW, spatial_B1HW[:, 0] * channel_BC11.mean(1))
    torch.testing.assert_close(found.channels_BC, channel_BC11[..., 0, 0] * spatial_B1HW.mean((1, 2, 3))[:, None])


def test_bam_in_parallel_is_one_and_the_sigmoid_of_the_sum(x_BCHW: Tensor) -> None:
    module = attention("bam", arrangement="parallel")
    logits_BCHW = module.channel.logits(x_BCHW) + module.spatial.logits(x_BCHW)  # type: ignore[operator,union-attr]
    found = weigh("bam", module, x_BCHW)
    assert found.factor_BCHW is not None
    known_BCHW = x_BCHW > 0
    torch.testing.assert_close(found.factor_BCHW[known_BCHW], (1 + torch.sigmoid(logits_BCHW))[known_BCHW])
    assert found.factor_BCHW[~known_BCHW].isnan().all()


@pytest.mark.parametrize("name", list_attentions())
def test_every_type_is_a_factor_or_says_that_it_adds(name: str, x_BCHW: Tensor) -> None:
    module = attention(name)
    found = weigh(name, module, x_BCHW)
    assert found.channels_BC.shape == (2, 16)
    assert found.space_BHW.shape == (2, 7, 5)
    assert (found.kind == "added") == (name in ADDING | MOVING)
    if found.factor_BCHW is None:
        change_BCHW = module(x_BCHW) - x_BCHW
        torch.testing.assert_close(
            found.channels_BC.square().mean(1), change_BCHW.square().mean((1, 2, 3)) / x_BCHW.square().mean((1, 2, 3))
        )
    else:
        torch.testing.assert_close(found.factor_BCHW.nan_to_num() * x_BCHW, module(x_BCHW), atol=1e-4, rtol=1e-4)


def test_an_identity_start_is_part_of_the_factor(x_BCHW: Tensor) -> None:
    module = create_attention("se", channels=16, identity_start=True).eval()
    first = find_factor(module, x_BCHW)
    assert first is not None
    assert (first == 1).all()
    with torch.no_grad():
        module.blend.fill_(0.25)  # type: ignore[union-attr,operator]
    torch.testing.assert_close(weigh("se", module, x_BCHW).factor_BCHW * x_BCHW, module(x_BCHW))


def test_the_modules_of_a_network_by_their_paths() -> None:
    torch.manual_seed(0)
    model = build_model(
        Architecture.parse("attune_tiny:se-r4@slot,none,non_local-r4@stage"), num_classes=10, in_chans=1
    )
    images = torch.randn(3, 1, 16, 16)
    with pytest.raises(UsageError, match=r"training mode.*model\.eval"):
        gates(model, images)
    before = model.eval()(images)
    found = gates(model, images)
    assert [one.kind for one in found.values()] == ["factor"] * (len(found) - 1) + ["added"]
    assert all(model.get_submodule(path) is not None and path.endswith(".attune") for path in found)
    assert all(one.channels_BC.shape[0] == 3 for one in found.values())
    torch.testing.assert_close(model(images), before)  # no hook is left


def test_clips_have_factors_in_time_too() -> None:
    module = create_attention("cbam", channels=16, dims=3).eval()
    found = weigh("cbam", module, torch.randn(2, 16, 3, 5, 4))
    assert found.channels_BC.shape == (2, 16)
    assert found.space_BHW.shape == (2, 3, 5, 4)
