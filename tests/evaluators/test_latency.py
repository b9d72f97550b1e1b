"""Latency: what can be said without a clock."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.latency import Latency, LatencyTable, Setting, measure, measure_latency
from spaces.backbone import build_model
from spaces.errors import UsageError
from spaces.placement import Architecture

FAST = Setting(repeats=3)
TINY = {"image_size": 16, "num_classes": 10, "setting": FAST}


class Counting(nn.Module):
    calls = 0

    def forward(self, x):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.calls += 1
        return x


def test_measuring_warms_up_repeats_and_leaves_the_mode():
    module = Counting().train()
    latency = measure(module, torch.zeros(1), repeats=7, warm_up=3)
    assert module.calls >= 10
    assert module.training
    assert latency.repeats == 7
    assert latency.seconds < 1
    assert latency.seconds > 0
    assert latency.spread >= 0
    with pytest.raises(UsageError, match="at least 2"):
        measure(module, torch.zeros(1), repeats=1)


def test_the_table_adds_up():
    table = LatencyTable("attune_tiny", **TINY)
    arch = Architecture.parse("attune_tiny:se-r4,none,cbam-r4")
    added = [table.stage_costs(stage, [placement])[0, 0] for stage, placement in enumerate(arch.placements)]
    assert added[1] == 0
    assert min(added[0], added[2]) > 0
    assert table.total(arch) == table.base + sum(added)
    assert table.stage_costs(0, arch.placements[:1]).dtype == np.int64
    error = table.error([arch, Architecture.plain("attune_tiny"), Architecture.parse("attune_tiny:se,se,se")])
    assert 0 <= error.median <= error.high
    assert -1 <= error.rank <= 1
    assert measure_latency(arch, image_size=16, num_classes=10, setting=Setting(batch=4, repeats=3)).seconds > 0


def test_attention_that_is_replaced_or_removed_is_not_paid_for(monkeypatch):
    """A clock that charges a microsecond for every parameter: the sums are then those of the parameters."""

    def charge(self, module, shape):
        return Latency(1e-6 * sum(p.numel() for p in module.parameters()), 0.0, self.repeats)

    monkeypatch.setattr(Setting, "measure", charge)
    name = "mobilenetv3_small_050"
    text = f"{name}:se-r16,se-r16@block,none,coordinate-r32"
    for native in ("keep", "replace", "remove"):
        table = LatencyTable(name, image_size=64, num_classes=10, native=native, setting=FAST)
        for arch in (Architecture.parse(text), Architecture.plain(name)):
            params = sum(p.numel() for p in build_model(arch, 10, image_size=64, native=native).parameters())
            assert table.total(arch) == 1000 * params


def test_calibration_fits_the_sum_to_whole_networks(monkeypatch):
    """On a machine where a module in a network takes half as long again as alone, and the network itself 5 us more."""
    table = LatencyTable("attune_tiny", **TINY)
    archs = [Architecture.parse(f"attune_tiny:{words}") for words in ("se,none,none", "se,cbam,none", "se,cbam,eca")]
    base, alone = table.base, [table.total(arch) - table.base for arch in archs]
    truth = {arch: base + 5_000 + int(1.5 * added) for arch, added in zip(archs, alone, strict=True)}
    truth[Architecture.plain("attune_tiny")] = base + 5_000
    monkeypatch.setattr(table, "measure", lambda arch: Latency(truth[arch] / 1e9, 0.0, 3))
    table.calibrate(archs)
    assert table.base == pytest.approx(base + 5_000, abs=2)
    assert [table.total(arch) for arch in archs] == pytest.approx([truth[arch] for arch in archs], abs=10)
    assert table.error(archs).high < 1e-3
    truth = {arch: 9 * seconds for arch, seconds in truth.items()}  # now the machine is busy with something else
    table.calibrate(archs)
    assert table.base == pytest.approx(base + 5_000, abs=2)


def test_a_table_is_kept_and_read_without_measuring_again(monkeypatch):
    table = LatencyTable("attune_tiny", **TINY)
    placements = Architecture.parse("attune_tiny:se-r4,none,cbam-r4").placements
    costs = table.stage_costs(0, placements).tolist()
    kept = json.loads(json.dumps(table.to_dict()))
    assert kept["setting"] == {"batch": 1, "device": "cpu", "threads": 1, "compile": False, "repeats": 3}
    assert kept["machine"]
    monkeypatch.setattr("evaluators.latency.measure", None)  # whoever measures again fails
    again = LatencyTable("attune_tiny", **TINY, known=kept)
    assert (again.base, again.stage_costs(0, placements).tolist()) == (table.base, costs)
    elsewhere = LatencyTable("attune_tiny", **TINY, known={**kept, "machine": "another machine"})
    assert elsewhere.stage_costs(0, placements).tolist() == costs
    with pytest.raises(UsageError, match="not measured on another machine"):
        elsewhere.stage_costs(1, placements)
    with pytest.raises(UsageError, match="another setting"):
        LatencyTable("attune_tiny", image_size=16, num_classes=10, setting=Setting(batch=2, repeats=3), known=kept)
