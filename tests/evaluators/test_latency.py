"""Latency: what can be said without a clock."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.latency import Comparison, Latency, LatencyTable, Setting, _callable, _turns, measure, measure_latency
from spaces.errors import UsageError
from spaces.network import NATIVE, NetworkSpec
from spaces.placement import Architecture

FAST = Setting(repeats=3)
NETWORK = NetworkSpec.classifier(16, num_classes=10)


class Counting(nn.Module):
    calls = 0

    def forward(self, x):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.calls += 1
        return x


def test_measuring_warms_up_repeats_and_leaves_the_mode():
    module = Counting().train()
    latency = measure(module, torch.zeros(1), repeats=7)
    assert module.calls >= 10
    assert module.training
    assert latency.repeats == 7
    assert latency.seconds < 1
    assert latency.seconds > 0
    assert latency.spread >= 0
    with pytest.raises(UsageError, match="at least 2"):
        measure(module, torch.zeros(1), repeats=1)


def test_functions_are_called_in_turn_and_told_apart():
    calls = []

    def slow(x):
        calls.append("slow")
        return torch.linalg.inv(x)

    def fast(x):
        calls.append("fast")
        return x

    fast_seconds, slow_seconds = _turns([fast, slow], torch.eye(200), 6)
    assert len(fast_seconds) == len(slow_seconds) == 6
    assert calls[-6:] in (
        ["fast", "slow", "slow", "fast", "fast", "slow"],
        ["slow", "fast", "fast", "slow", "slow", "fast"],
    )
    assert sorted(fast_seconds)[3] < sorted(slow_seconds)[3]
    assert len(_turns([fast, slow], torch.eye(2), 2, at_least=0.01)[0]) > 2


def test_the_table_adds_up():
    table = LatencyTable("attune_tiny", NETWORK, setting=FAST)
    arch = Architecture.parse("attune_tiny:se-r4,none,cbam-r4")
    added = [table.stage_costs(stage, [placement])[0, 0] for stage, placement in enumerate(arch.placements)]
    assert added[1] == 0
    assert table.base.shape == table.total(arch).shape == (1,)
    assert table.base.dtype == table.total(arch).dtype == np.int64
    assert table.total(arch) == table.base + sum(added)
    assert table.stage_costs(0, arch.placements[:1]).dtype == np.int64
    error = table.error([arch, Architecture.plain("attune_tiny"), Architecture.parse("attune_tiny:se,se,se")])
    assert 0 <= error.median <= error.high
    assert -1 <= error.rank <= 1
    assert measure_latency(arch, NETWORK, setting=Setting(batch=4, repeats=3)).seconds > 0


def test_images_need_not_be_square():
    flat, seen = NetworkSpec.classifier((16, 24), num_classes=10, in_chans=1), []

    class Looking(Setting):
        def compare(self, first, second, shape):
            seen.append(shape)
            return super().compare(first, second, shape)

    table = LatencyTable("attune_tiny", flat, setting=Looking(repeats=2))
    assert table.stage_costs(0, Architecture.parse("attune_tiny:coordinate,none,none").placements[:1]).shape == (1, 1)
    assert set(seen) == {(1, 16, 24)}
    kept = json.loads(json.dumps(table.to_dict()))
    assert kept["network"]["image_size"] == [16, 24]
    LatencyTable("attune_tiny", flat, setting=FAST, known={**kept, "setting": {**kept["setting"], "repeats": 3}})
    with pytest.raises(UsageError, match="another network"):
        LatencyTable("attune_tiny", NetworkSpec.classifier((24, 16), 10, 1), setting=Setting(repeats=2), known=kept)


def params(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def clock(monkeypatch):
    """A clock that charges a microsecond for every parameter: sums of latencies are then those of parameters."""

    def charge(self, module, shape):
        return Latency(1e-6 * params(module), 0.0, self.repeats)

    def compare(self, first, second, shape):
        pair = charge(self, first, shape), charge(self, second, shape)
        return Comparison(*pair, pair[1].seconds / pair[0].seconds)

    monkeypatch.setattr(Setting, "measure", charge)
    monkeypatch.setattr(Setting, "compare", compare)


@pytest.mark.parametrize("native", NATIVE)
def test_attention_that_is_replaced_or_removed_is_not_paid_for(clock, native):
    name = "mobilenetv3_small_050"
    network = NetworkSpec.classifier(64, num_classes=10, native=native)
    table = LatencyTable(name, network, setting=FAST)
    for arch in (Architecture.parse(f"{name}:se-r16,se-r16@block,none,coordinate-r32"), Architecture.plain(name)):
        built = network.build(arch)
        assert table.total(arch) == pytest.approx(1000 * params(built), abs=2)


def test_measuring_leaves_the_plain_network_plain(clock):
    table = LatencyTable("attune_tiny", NETWORK, setting=FAST)
    arch = Architecture.parse("attune_tiny:se-r4,none,cbam-r4")
    assert table.compare(arch).ratio > 1
    assert table.compare(Architecture.plain("attune_tiny")).ratio == 1


def test_calibration_fits_what_placements_add_to_whole_networks(monkeypatch, clock):
    """On a machine where attention in several stages takes half as long again as the sum of each alone."""
    table = LatencyTable("attune_tiny", NETWORK, setting=FAST)
    words = ("none,none,none", "se,cbam,none", "se,cbam,eca", "none,cbam,cbam@block")
    archs = [Architecture.parse(f"attune_tiny:{text}") for text in words]
    base, alone = table.base[0], [table.total(arch)[0] - table.base[0] for arch in archs]
    truth = {arch: base + 1.5 * added for arch, added in zip(archs, alone, strict=True)}
    monkeypatch.setattr(
        table, "compare", lambda arch: Comparison(Latency(1, 0, 2), Latency(1, 0, 2), truth[arch] / base)
    )
    table.calibrate(archs)
    assert [table.total(arch)[0] for arch in archs] == pytest.approx([truth[arch] for arch in archs], abs=10)
    assert table.error(archs).high < 1e-3
    truth = {
        arch: 9 * nanoseconds for arch, nanoseconds in truth.items()
    }  # now the machine is busy with something else
    table.calibrate(archs)
    assert [table.total(arch)[0] - base for arch in archs] == alone
    table.calibrate([Architecture.plain("attune_tiny")])  # nothing to be learnt
    assert [table.total(arch)[0] - base for arch in archs] == alone


def test_every_compiled_network_has_code_of_its_own(monkeypatch):
    """Functions of one code share what was compiled for it, up to a limit; then they would run as they are."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # without generating code
    calls = [_callable(nn.Linear(2, count), compile=True) for count in (1, 2)]
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for count, call in enumerate(calls, start=1):
            assert call(torch.zeros(1, 2)).shape == (1, count)


def test_a_table_is_kept_and_read_without_measuring_again(monkeypatch):
    table = LatencyTable("attune_tiny", NETWORK, setting=FAST)
    placements = Architecture.parse("attune_tiny:se-r4,none,cbam-r4").placements
    costs = table.stage_costs(0, placements).tolist()
    kept = json.loads(json.dumps(table.to_dict()))
    assert kept["setting"] == {"batch": 1, "device": "cpu", "threads": 1, "compile": False, "repeats": 3}
    assert kept["machine"]
    monkeypatch.setattr("evaluators.latency._turns", None)  # whoever measures again fails
    again = LatencyTable("attune_tiny", NETWORK, setting=FAST, known=kept)
    assert (again.base, again.stage_costs(0, placements).tolist()) == (table.base, costs)
    elsewhere = LatencyTable("attune_tiny", NETWORK, setting=FAST, known={**kept, "machine": "another machine"})
    assert elsewhere.stage_costs(0, placements).tolist() == costs
    with pytest.raises(UsageError, match="not measured on another machine"):
        elsewhere.stage_costs(1, placements)
    with pytest.raises(UsageError, match="another method"):
        LatencyTable(
            "attune_tiny", NETWORK, setting=FAST, known={key: value for key, value in kept.items() if key != "shares"}
        )
    with pytest.raises(UsageError, match="another setting"):
        LatencyTable("attune_tiny", NETWORK, setting=Setting(batch=2, repeats=3), known=kept)
