"""Each attention type against its paper's formula in float64 NumPy, on all shapes that break copied modules."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spaces.attention import attention_type, create_attention, list_attentions
from tests.spaces.attention.references import reference

# (batch, height, width): rectangular, odd, one row, 1 x 1 and batch 1.
SHAPES = [(2, 5, 7), (1, 6, 3), (3, 9, 8), (2, 1, 4), (2, 1, 1), (1, 1, 1)]
# Every type has r = 4 where it has r: 4 does not divide 18, and 18 is no power of two.
CHANNELS = 18
MIXES = [
    "eca+cbam",
    "se+bam",
    "bam+cbam",
    "srm+gala",
    "gam+scse",
    "dual_attention+bam",
    "cbam+dual_attention",
    "fca+sge",
]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("se", {"bias": False}),
    ("bam", {"fusion": "product"}),
    ("bam", {"kernel": 5}),
    ("gam", {"channel_gate": False}),
    ("gam", {"reduction": 3, "groups": 3}),
    ("gam", {"reduction": 3, "groups": 2, "arrangement": "parallel"}),
    ("scse", {"fusion": "max"}),
    ("gala", {"activation": "tanh"}),
    ("non_local", {"scaled": False}),
    ("second_order", {"first_relu": True}),
    ("pixel_attention", {"single_map": True}),
    ("gather_excite", {"extent": 2}),
    ("gather_excite_theta", {"extent": 4}),
    ("gather_excite_minus", {"extent": 2}),
    ("gather_excite_minus", {"extent": 8}),
    ("self_attention", {"position": "conv", "heads": 2}),
    ("self_attention", {"reduction": 2}),
    ("augmented_conv", {"heads": 1}),
    ("shuffle_attention", {"groups": 3}),
    ("sge", {"groups": 3}),
    ("ema", {"groups": 6}),
    ("eca", {"kernel": 7}),
    ("cbam", {"kernel": 3, "reduction": 2}),
    ("triplet", {"kernel": 3}),
    ("lska", {"kernel": 11}),
    ("lska", {"kernel": 23}),
    ("lska", {"kernel": 35}),
]


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases and statistics away from their initial zeros and ones, so that each of them matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif value.is_floating_point():
                scale = 0.3 if value.dim() < 2 else value[0].numel() ** -0.5
                value.add_(scale * torch.randn(value.shape, generator=generator))
    return module


def check(
    name: str,
    shape: tuple[int, ...],
    train: bool,
    dims: int = 2,
    channels: int = CHANNELS,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> None:
    kind = attention_type(name)
    torch.manual_seed(0)
    module = randomise(create_attention(name, channels, dims=dims, **options)).train(train).to(dtype)
    weights = {key: value.double().numpy() for key, value in module.state_dict().items()}
    x = (torch.randn(shape[0], channels, *shape[1:]) + 0.3).to(dtype)
    with torch.no_grad():
        got = module(x).numpy()
    genes = {
        "reduction": None,
        "kernel": None,
        "groups": None,
        "arrangement": None,
        **kind.resolve(channels, **options),
    }
    flags = {flag: options.get(flag, values[0]) for flag, values in kind.flags.items()}
    described = SimpleNamespace(name=name, train=train, **genes, **({"fusion": "sum"} | flags))
    if "heads" in flags:
        described.heads = int(np.gcd(module.conv_qkv.weight.shape[0] // 3, flags["heads"]))
    wanted = reference(name, x.double().numpy(), weights, described)
    assert got.shape == wanted.shape == x.shape
    near = 1e-5 if dtype == torch.float32 else 1e-11
    np.testing.assert_allclose(got, wanted, rtol=near, atol=near)


def with_arrangements(name: str) -> list[dict[str, Any]]:
    two = len(attention_type(name).parts) == 2
    return [{"arrangement": a} for a in ("series", "parallel")] if two else [{}]


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", [*list_attentions(), *MIXES])
def test_equals_the_formula(name: str, train: bool) -> None:
    for options in with_arrangements(name):
        if "reduction" in attention_type(name).genes:
            options["reduction"] = 4
        for shape in SHAPES:
            check(name, shape, train, **options)


@pytest.mark.parametrize("name", [*list_attentions(), *MIXES])
def test_float64_is_computed_in_float64(name: str) -> None:
    check(name, (2, 5, 7), train=True, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{n}-{'-'.join(map(str, o.values()))}" for n, o in VARIANTS]
)
def test_variant_equals_the_formula(name: str, options: dict[str, Any]) -> None:
    for train in (False, True):
        check(name, (2, 5, 7), train, **options)


@pytest.mark.parametrize("name", [name for name in list_attentions() if 3 in attention_type(name).dims])
def test_volume_equals_the_formula(name: str) -> None:
    for options in with_arrangements(name):
        check(name, (2, 3, 4, 5), True, dims=3, **options)
        check(name, (1, 1, 1, 1), True, dims=3, **options)


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_triplet_with_sides_too_long_to_fold(train: bool) -> None:
    """Its convolutions are folded up to 8 kernels while training; beyond, and in eval mode, they are not."""
    check("triplet", (2, 3, 25), train, kernel=3)


def test_every_type_takes_volumes() -> None:
    assert all(attention_type(name).dims == (2, 3) for name in list_attentions())


# What a type does to a clip of one frame that it does not do to a map: a gate of the one frame, a fourth branch.
MORE_OF_ONE_FRAME = {"coordinate", "ela", "ema", "triplet", "strip", "spatial_transformer"}


@pytest.mark.parametrize("name", sorted(set(list_attentions()) - MORE_OF_ONE_FRAME))
def test_a_clip_of_one_frame_is_a_map(name: str) -> None:
    """With kernels whose middle slice is that of the map, and nothing of the time before and after."""
    torch.manual_seed(0)
    flat = randomise(create_attention(name, CHANNELS)).eval()
    clip = create_attention(name, CHANNELS, dims=3).eval()
    state = clip.state_dict()
    own = flat.state_dict()
    for key, value in state.items():
        given = own.get(key)
        if name == "lska" and "layers" in key:
            # three of each kind in a clip, two on a map: the one along time passes its input on
            number = int(key.split(".")[1])
            place = {0: 0, 1: 1, 3: 2, 4: 3, 6: 4}.get(number)
            given = own[f"layers.{place}.{key.split('.')[2]}"] if place is not None else None
            if given is None:
                value.zero_()
                if value.dim() == 5:
                    value[:, :, value.shape[2] // 2] = 1
                continue
        if given is None:  # a table of offsets in time: the same for all keys of one frame
            assert name == "augmented_conv"
            continue
        if value.dim() == 5 and value.shape != given.shape[:2] + (1,) * 3:
            value.zero_()
            value[:, :, value.shape[2] // 2] = given.view(*value.shape[:2], *value.shape[3:])
        else:
            value.copy_(given.view(value.shape))
    x = torch.randn(2, CHANNELS, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(clip(x[:, :, None])[:, :, 0], flat(x), rtol=1e-5, atol=1e-5)


def test_a_fresh_fca_at_7x7_is_the_published_one() -> None:
    """At 7 x 7 the scaled frequencies are the paper's own; the first group of channels sees the plain mean (times 7)."""
    module = create_attention("fca", 32)
    x = torch.randn(2, 32, 7, 7)
    basis = module.basis(module.frequencies_2C[0], 7)
    same = module.frequencies_2C[0][:, None] == module.frequencies_2C[0]
    torch.testing.assert_close(basis @ basis.T, same.double(), rtol=0, atol=1e-14)
    assert basis.dtype == torch.float64  # rounded once, when it meets the map
    seen: list[torch.Tensor] = []
    module.fc1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module(x)
    torch.testing.assert_close(seen[0][:, :2], 7 * x.mean((2, 3))[:, :2])
