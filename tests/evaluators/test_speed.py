"""What makes trainings faster must not change them."""

import platform
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from evaluators.speed import PointwiseConv, SmallMapConv, keep_freed_memory, use_fast_convolutions
from spaces import Architecture, build_model


def output_and_gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
    """The output for x, and the gradients of its mean square: of x and of every parameter."""
    x_in = x.clone().requires_grad_(True)
    y = module(x_in)
    y.square().mean().backward()
    return [y.detach(), *(value.grad for value in (x_in, *module.parameters()) if value.grad is not None)]


@pytest.mark.parametrize("size", [1, 8, 200])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("bias", [True, False])
def test_a_pointwise_convolution_is_a_matrix_product(size: int, layout: torch.memory_format, bias: bool) -> None:
    torch.manual_seed(0)
    plain, fast = nn.Conv2d(6, 20, 1, bias=bias), PointwiseConv(6, 20, 1, bias=bias)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(4, 6, size, size).to(memory_format=layout)
    found = [output_and_gradients(conv, x) for conv in (plain, fast)]
    assert len(found[0]) == 2 + len(list(plain.parameters()))
    for expected, got in zip(*found, strict=True):
        assert torch.allclose(expected, got, atol=1e-5)


@pytest.mark.parametrize("size", [1, 5, 8, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_small_map_is_convolved_with_its_channels_first(size: int, stride: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(256, 256, 3, stride=stride, padding=1).to(memory_format=torch.channels_last)
    fast = nn.Sequential(deepcopy(plain))
    use_fast_convolutions(fast)
    assert type(fast[0]) is SmallMapConv
    x = torch.randn(2, 256, size, size).to(memory_format=torch.channels_last)
    found = [output_and_gradients(conv, x) for conv in (plain, fast)]
    assert len(found[0]) == 2 + len(list(plain.parameters()))
    for expected, got in zip(*found, strict=True):
        assert torch.allclose(expected, got, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    if size == 8 and stride == 1:
        assert found[0][0].is_contiguous(memory_format=torch.channels_last)
        assert found[1][0].is_contiguous()


def test_only_convolutions_of_many_channels_get_a_layout_of_their_own() -> None:
    model = build_model(Architecture.parse("resnet18:none,none,none,none"), 10, 3, image_size=32)
    use_fast_convolutions(model)
    swapped = [name for name, module in model.named_modules() if isinstance(module, SmallMapConv)]
    assert len(swapped) == 7
    assert all(name.startswith(("layer3", "layer4")) for name in swapped)


def test_a_network_keeps_its_names_and_its_outputs() -> None:
    torch.manual_seed(0)
    model = build_model(Architecture.parse("attune_tiny:se-r4,cbam-r4,coordinate-r4"), 10, 1, image_size=32).eval()
    x, names = torch.randn(4, 1, 32, 32).to(memory_format=torch.channels_last), list(model.state_dict())
    before = model(x)
    use_fast_convolutions(model)
    assert torch.allclose(model(x), before, rtol=1e-4, atol=1e-4)
    assert list(model.state_dict()) == names
    swapped = [module for module in model.modules() if isinstance(module, PointwiseConv)]
    assert len(swapped) == 7, "stem, two in each block; those with a stride stay"
    assert all(module.kernel_size == module.stride == (1, 1) for module in swapped)


def test_memory_is_kept_where_the_c_library_can() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
