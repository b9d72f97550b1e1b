"""What every module must do beside its formula: identity start, gradients, formats, precision, compile and export."""

import copy
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spaces.attention import IdentityStart, attention_type, create_attention, list_attentions
from spaces.attention.pairwise import attended
from spaces.attention.parts import MapConv2d, PositionConv2d, mean, mean_along
from tests.matrix import one_in, sampled

C = 32
NAMES = list_attentions()
TWO_PART = [name for name in NAMES if len(attention_type(name).parts) == 2]
# Every type as published, every two-part type in its other arrangement too, and a few mixes.
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NAMES),
    *((n, {"arrangement": "parallel" if attention_type(n).arrangement == "series" else "series"}) for n in TWO_PART),
    ("gam", {"groups": 4}),
    ("self_attention", {"position": "conv"}),
    ("eca+cbam", {"arrangement": "parallel"}),
    ("srm+gala", {"arrangement": "parallel"}),
    ("dual_attention+bam", {"arrangement": "parallel"}),
]
IDS = ["-".join((name, *map(str, options.values()))) for name, options in CASES]
every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)


def build(name: str, options: dict[str, Any], seed: int = 0, **more: Any) -> nn.Module:
    torch.manual_seed(seed)
    return create_attention(name, C, **options, **more)


def stir(module: nn.Module) -> nn.Module:
    """Parameters away from the zeros that some start at, so that gradients can pass."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return module


def image(batch: int = 2, height: int = 6, width: int = 5, seed: int = 2) -> Tensor:
    return torch.randn(batch, C, height, width, generator=torch.Generator().manual_seed(seed))


@every_case
def test_identity_start_is_exact_and_learns(name: str, options: dict[str, Any]) -> None:
    for train in (True, False):
        module = build(name, options, identity_start=True).train(train)
        assert isinstance(module, IdentityStart)
        for x in (image(), image(1, 1, 1), 100 * image(1, 3, 7)):
            assert torch.equal(module(x).view(torch.int32), x.view(torch.int32))
    module = build(name, options, identity_start=True)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    target = image(seed=3)
    (module(image()) - target).square().mean().backward()
    assert module.blend.grad is not None
    assert module.blend.grad.abs() > 0
    optimiser.step()
    optimiser.zero_grad()
    (module(image()) - target).square().mean().backward()
    inner = [p.grad for p in module.inner.parameters()]
    assert not inner or any(grad is not None and grad.abs().sum() > 0 for grad in inner)


@pytest.mark.parametrize("name", [name for name in NAMES if 3 in attention_type(name).dims])
def test_volumes_start_as_the_identity_and_learn(name: str) -> None:
    volume = torch.randn(2, C, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    module = build(name, {}, identity_start=True, dims=3)
    assert torch.equal(module(volume), volume)
    module(volume).mul(volume.roll(1, 0)).sum().backward()
    assert module.blend.grad.abs() > 0
    inner = stir(build(name, {}, dims=3)).eval()
    x = volume.clone().requires_grad_()
    inner(x).mul(volume.roll(1, 0)).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for key, p in inner.named_parameters() if key not in NO_GRADIENT)


# A constant added to every logit of a softmax over positions changes nothing: its gradient is zero by the formula.
NO_GRADIENT = {"attend.bias"}


@every_case
def test_gradients_reach_every_parameter_and_the_input(name: str, options: dict[str, Any]) -> None:
    # In eval mode: while training, a bias before a batch normalisation has no gradient, as the mean takes it out again.
    module = stir(build(name, options)).eval()
    x = image(4).requires_grad_()
    module(x).mul(image(4, seed=3)).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    for key, value in module.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        assert key in NO_GRADIENT or value.grad.abs().sum() > 0, key


@every_case
def test_bfloat16_autocast(name: str, options: dict[str, Any]) -> None:
    module = stir(build(name, options)).eval()
    x = image()
    with torch.no_grad():
        exact = module(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            from_float = module(x)
            from_half = module(x.bfloat16())
    assert from_half.dtype == torch.bfloat16
    for rounded in (from_float, from_half):
        assert rounded.isfinite().all()
        assert (rounded.float() - exact).abs().mean() < 0.05 * exact.abs().mean()
    module.train()
    y = image().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module(y).float().square().mean().backward()
    assert y.grad is not None
    assert y.grad.isfinite().all()


@every_case
def test_channels_last_is_kept(name: str, options: dict[str, Any]) -> None:
    module = stir(build(name, options)).eval()
    x = image()
    wanted = module(x)
    assert wanted.is_contiguous()
    got = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@every_case
def test_state_dict_round_trip_and_determinism(name: str, options: dict[str, Any]) -> None:
    first, again, other = build(name, options), build(name, options), build(name, options, seed=9)
    for (key, a), b in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    first = stir(first)
    first(image())  # moves the running statistics
    other.load_state_dict(first.state_dict())
    first.eval(), other.eval()
    assert torch.equal(first(image()), other(image()))
    assert torch.equal(first(image()), copy.deepcopy(first)(image()))


@every_case
def test_finite_on_extreme_inputs(name: str, options: dict[str, Any]) -> None:
    inputs = [torch.zeros(2, C, 5, 4), torch.full((2, C, 5, 4), 3.0), 1e4 * image(), torch.zeros(1, C, 1, 1)]
    for train in (True, False):
        module = stir(build(name, options)).train(train)
        for x in inputs:
            module.zero_grad()
            x = x.clone().requires_grad_()
            y = module(x)
            y.mean().backward()
            assert y.isfinite().all()
            assert x.grad is not None
            assert x.grad.isfinite().all()
            assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("name", ["se", "eca", "cbam", "bam", "coordinate"])
def test_pooling_large_maps_in_half_precision_stays_finite(name: str) -> None:
    """40 * 56 * 56 is more than float16 holds; the mean is not."""
    x_BCHW = torch.full((1, 64, 56, 56), 40.0, dtype=torch.float16)
    with torch.no_grad():
        assert create_attention(name, 64).eval().half()(x_BCHW).isfinite().all()


# Of sizes on both sides of what the faster ways choose by.
MAPS = ((2, C, 6, 5), (2, C, 7, 60), (1, C, 1, 1))


@every_case
def test_every_layer_is_called(name: str, options: dict[str, Any]) -> None:
    """Hooks, pruning, quantisation and counters of other tools see a layer by its call."""
    for dims in attention_type(name).dims:
        module = build(name, options, dims=dims)
        layers = [one for one in module.modules() if [*one.parameters()] and not [*one.children()]]
        called: set[nn.Module] = set()
        for layer in layers:
            layer.register_forward_hook(lambda one, *_, called=called: called.add(one))
        for train, shape in product((True, False), MAPS):
            called.clear()
            module.train(train)(torch.randn(shape if dims == 2 else (*shape, 2)))
            assert called == (set(layers) or called), shape


@every_case
def test_traces_and_scripts(name: str, options: dict[str, Any]) -> None:
    """By torch.fx and TorchScript, for all sizes from one tracing; a traced network keeps its layers."""
    for dims, train in product(attention_type(name).dims, (True, False)):
        module = stir(build(name, options, dims=dims, identity_start=True)).train(train)
        traced, scripted = torch.fx.symbolic_trace(copy.deepcopy(module)), copy.deepcopy(module)
        scripted = torch.jit.script(scripted)
        assert {type(one) for one in module.modules() if isinstance(one, nn.Conv2d)} <= {
            type(m) for m in traced.modules()
        }
        for shape in MAPS if dims == 2 else [(2, C, 3, 4, 5)]:
            x = torch.randn(shape)
            state = copy.deepcopy(module.state_dict())
            wanted = module(x)
            for other in (traced, scripted):
                other.load_state_dict(state, strict=False)  # a buffer that is not kept is kept by torch.fx
                assert torch.equal(other(x), wanted), shape


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@every_case
def test_large_inputs_in_half_precision(name: str, options: dict[str, Any], half: torch.dtype) -> None:
    """Sums of squares of 30 over 28 x 28 positions exceed float16; nothing else is lost but digits, with autocast or not."""
    module = build(name, options).eval()
    module = module if name == "spatial_transformer" else stir(module)
    rounded = copy.deepcopy(module).to(half)
    x = (30 * torch.randn(1, C, 28, 28, generator=torch.Generator().manual_seed(3)) + 20).to(half)
    with torch.no_grad():
        wanted = copy.deepcopy(rounded).double()(x.double())
        found = [rounded(x)]
        with torch.autocast("cpu", dtype=half):
            found += [module(x), module(x.float())]
    for y in found:
        assert y.isfinite().all()
        assert (y.double() - wanted).abs().mean() < (0.005 if half == torch.float16 else 0.03) * wanted.abs().mean()


def test_the_spatial_transformer_is_the_identity_under_autocast_and_learns_on_one_row() -> None:
    module = build("spatial_transformer", {})
    x = image(2, 56, 56)
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for one in (module, compiled):
            torch.testing.assert_close(one(x), x, rtol=0, atol=1e-4)
            y = image(2, 1, 5).requires_grad_()
            one(y).square().sum().backward()
            assert y.grad is not None
            assert y.grad.isfinite().all()
    torch.testing.assert_close(module.double()(x.double()), x.double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [5, 20, 300])
def test_attention_is_the_same_in_both_forms(count: int) -> None:
    """On a CPU, few positions take two products where there is a gradient, and more of them do in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(3, 2, 4, count, 8, generator=generator)
    q, k, v = qkv
    exact = torch.softmax(q @ k.transpose(2, 3) / 8**0.5, 3) @ v
    torch.testing.assert_close(attended(q, k, v), exact, rtol=1e-5, atol=1e-5)
    halved = attended(q.bfloat16(), k.bfloat16(), v.bfloat16())
    learning, wanted = qkv.clone().requires_grad_(), qkv.clone().requires_grad_()
    attended(*learning).backward(exact)
    q, k, v = wanted
    (torch.softmax(q @ k.transpose(2, 3) / 8**0.5, 3) @ v).backward(exact)
    torch.testing.assert_close(learning.grad, wanted.grad, rtol=1e-4, atol=1e-5)
    assert halved.dtype == torch.bfloat16
    torch.testing.assert_close(halved.float(), exact, rtol=0.05, atol=0.02)


def test_a_product_for_each_image_is_the_1x1_convolution() -> None:
    plain, layers = nn.Conv2d(C, 7, 1), (PositionConv2d(C, 7, 1), MapConv2d(C, 7, 1))
    outputs, gradients = [], []
    for layer, *options in ((plain,), *((layer, flag) for layer in layers for flag in (False, True))):
        layer.load_state_dict(plain.state_dict())
        x = image().requires_grad_()
        y_BoHW = layer(x, *options)
        outputs.append(y_BoHW)
        gradients.append(torch.autograd.grad(y_BoHW.square().sum(), (x, layer.weight, layer.bias)))
    for y_BoHW, gradient in zip(outputs[1:], gradients[1:], strict=True):
        torch.testing.assert_close(y_BoHW, outputs[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axis", [2, 3])
def test_the_mean_along_an_axis_in_half_precision_has_a_written_gradient(axis: int) -> None:
    x = image().bfloat16().requires_grad_()
    along, plain = mean_along(x, axis), mean(x, [axis])
    assert torch.equal(along, plain)
    given = torch.randn(along.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    (written,), (view,) = torch.autograd.grad(along, x, given), torch.autograd.grad(plain, x, given)
    assert torch.equal(written, view)
    assert written.is_contiguous()
    assert not view.is_contiguous()


def test_batch_norm_takes_a_single_value_per_channel() -> None:
    """BAM at batch 1 while training: normalised with the running statistics, which stay as they are."""
    module = build("bam", {})
    norm = module.channel.norm
    before = norm.running_mean.clone()
    x = image(1)
    y = module.train()(x)
    assert torch.equal(norm.running_mean, before)
    assert norm.num_batches_tracked == 0
    module.channel.eval()
    torch.testing.assert_close(module(x), y)
    module.train()(image(2))
    assert not torch.equal(norm.running_mean, before)


def test_shuffle_attention_moves_channels() -> None:
    x = torch.zeros(1, C, 2, 2)
    x[:, 1] = 1
    moved = build("shuffle_attention", {"groups": 4})(x).abs().sum((0, 2, 3))
    assert moved.nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("name", sampled([*NAMES, "eca+cbam"], one_in(3)))
def test_compiles_into_one_graph(name: str) -> None:
    """fullgraph=True raises at any graph break; other map sizes and batches must work too."""
    torch._dynamo.reset()
    module = stir(build(name, {}))
    plain = copy.deepcopy(module)
    trained = torch.compile(module, fullgraph=True, dynamic=True, backend="eager")
    for x in (image(), image(3, 7, 8)):
        torch.testing.assert_close(trained(x), plain(x), rtol=1e-5, atol=1e-5)
    judged = torch.compile(module.eval(), fullgraph=True, dynamic=False, backend="eager")
    torch.testing.assert_close(judged(image(1)), plain.eval()(image(1)), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.matrix  # its graphs are those of test_compiles_into_one_graph; test_network.py runs one network compiled
def test_compiles_with_the_default_backend() -> None:
    torch._dynamo.reset()
    module = stir(build("cbam", {}))
    options = {"compile_threads": 1}  # no pool of processes, each of which would import torch
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, options=options)
    x, y = image().requires_grad_(), image().requires_grad_()
    a, b = compiled(x), module(y)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    a.square().sum().backward(), b.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-4)
