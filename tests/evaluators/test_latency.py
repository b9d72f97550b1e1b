"""Latency and memory: what can be said without a clock."""

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.latency import LatencyTable, check_memory, measure, measure_latency, training_memory
from spaces.backbone import build_model
from spaces.errors import UsageError
from spaces.placement import Architecture


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
    assert module.calls == 10
    assert module.training
    assert latency.repeats == 7
    assert latency.seconds > 0
    assert latency.spread >= 0
    with pytest.raises(UsageError, match="at least 2"):
        measure(module, torch.zeros(1), repeats=1)


def test_the_table_adds_up():
    table = LatencyTable("attune_tiny", image_size=32, num_classes=10, repeats=3)
    arch = Architecture.parse("attune_tiny:se-r4,none,cbam-r4")
    added = [table.stage_costs(stage, [placement])[0, 0] for stage, placement in enumerate(arch.placements)]
    assert added[1] == 0
    assert min(added[0], added[2]) > 0
    assert table.estimate(arch) == pytest.approx((table.base + sum(added)) / 1e9)
    assert table.stage_costs(0, arch.placements[:1]).dtype == np.int64
    median, worst = table.error([arch, Architecture.plain("attune_tiny")])
    assert 0 <= median <= worst
    assert measure_latency(arch, image_size=32, num_classes=10, batch=4, repeats=3).seconds > 0


def test_training_memory_counts_what_autograd_keeps():
    """Linear in the batch, one more copy of the weights per state of the optimizer, and the large map of a non-local block."""
    setting = {"image_size": 32, "num_classes": 10}
    plain, placed = Architecture.plain("attune_tiny"), Architecture.parse("attune_tiny:non_local,none,none")
    one, two, four = (training_memory(plain, batch=batch, **setting) for batch in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)
    model_bytes = 4 * sum(p.numel() for p in build_model(plain, 10, image_size=32).parameters())
    assert one > 3 * model_bytes
    assert training_memory(plain, batch=1, optimizer_states=2, **setting) - one == model_bytes
    attention = 16 * 16 * 16 * 16 * 4  # the softmax over all pairs of pixels of a 16 x 16 map
    assert training_memory(placed, batch=1, **setting) - one >= attention


def test_a_batch_that_cannot_fit_is_refused():
    with pytest.raises(UsageError, match=r"needs about [0-9.]+ GiB to train, but there are 0.01 GiB"):
        check_memory(Architecture.plain("resnet50"), 2**23, batch=64, image_size=224)
    check_memory(Architecture.plain("attune_tiny"), 2**30, batch=8, image_size=32)
