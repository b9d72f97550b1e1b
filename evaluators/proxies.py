"""Zero-cost proxies: scores of an untrained network from a few batches.

snip: Lee et al. 2019; synflow: Tanaka et al. 2020; fisher: Theis et al. 2018; grad_norm and the common form of all of them:
Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, 2021; jacob_cov and naswot: Mellor et al., Neural Architecture
Search without Training, 2020 and 2021. None is used by default: see docs/evaluators.md.
Legend: B batch, U rectified units of one layer, D input values, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evaluators.base import EvaluationError, Metrics, OnData, Report
from evaluators.data import Data
from evaluators.data.batches import make_batches
from evaluators.training import pick_device, seeded
from spaces.errors import unknown

if TYPE_CHECKING:
    from spaces.placement import Architecture

Score = Callable[[nn.Module, Tensor, Tensor], float]


def _gradients(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(weight, gradient of the mean loss) for every parameter that has one."""
    model.zero_grad(set_to_none=True)
    cross_entropy(model(x_BCHW), y_B).backward()
    return [(weight.detach(), weight.grad) for weight in model.parameters() if weight.grad is not None]


def grad_norm(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> float:
    """sum over parameters of ||dL/dw||_2."""
    return sum(float(gradient.norm()) for _, gradient in _gradients(model, x_BCHW, y_B))


def snip(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> float:
    """sum |w dL/dw|: what removing single weights would change."""
    return sum(float((weight * gradient).abs().sum()) for weight, gradient in _gradients(model, x_BCHW, y_B))


def synflow(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> float:
    """log of sum |w dR/dw|, R the sum of the outputs of the network of absolute weights for an input of ones.

    No data is looked at. BatchNorm runs on its initial statistics, where it is the identity; float64 holds the products.
    """
    signs: dict[str, Tensor] = {}
    model = model.double().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            signs[name] = weight.sign()
            weight.abs_()
    model.zero_grad(set_to_none=True)
    model(torch.ones_like(x_BCHW[:1], dtype=torch.float64)).sum().backward()
    total = sum(
        float((weight.detach() * weight.grad).abs().sum()) for weight in model.parameters() if weight.grad is not None
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(signs[name])
    model.float()
    return float(torch.tensor(total, dtype=torch.float64).log())


def fisher(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> float:
    """sum over the channels of all convolutions of the mean of (a dL/da)^2 / 2, a summed over the map of each image."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    hooks = [module.register_forward_hook(keep) for module in model.modules() if isinstance(module, nn.Conv2d)]
    try:
        _gradients(model, x_BCHW, y_B)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(
        float((a.detach() * a.grad).flatten(2).sum(2).square().mean(0).sum() / 2) for a in outputs if a.grad is not None
    )


def jacob_cov(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> float:
    """-sum_i [log(s_i + k) + 1 / (s_i + k)], s the eigenvalues of the correlation of the input Jacobians of the images."""
    x_BCHW = x_BCHW.clone().requires_grad_(True)
    model(x_BCHW).sum().backward()
    assert x_BCHW.grad is not None
    correlation_BB = torch.corrcoef(x_BCHW.grad.flatten(1).double())
    s_B = torch.linalg.eigvalsh(correlation_BB.nan_to_num()).clamp(min=0) + 1e-5
    return -float((s_B.log() + 1 / s_B).sum())


def naswot(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> float:
    """log |det K_BB|, K_ij the number of rectified units on which images i and j agree."""
    B = len(x_BCHW)
    kernel_BB = torch.zeros(B, B, dtype=torch.float64, device=x_BCHW.device)

    def compare(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        on_BU = (output.detach().flatten(1) > 0).to(torch.float32)
        kernel_BB.add_((on_BU @ on_BU.T + (1 - on_BU) @ (1 - on_BU).T).double())

    hooks = [module.register_forward_hook(compare) for module in model.modules() if isinstance(module, nn.ReLU)]
    try:
        with torch.no_grad():
            model(x_BCHW)
    finally:
        for hook in hooks:
            hook.remove()
    return float(torch.linalg.slogdet(kernel_BB).logabsdet)


def params(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> float:
    """The number of parameters: what a proxy has to beat."""
    return float(sum(weight.numel() for weight in model.parameters()))


PROXIES: dict[str, Score] = {
    "params": params,
    "grad_norm": grad_norm,
    "snip": snip,
    "synflow": synflow,
    "fisher": fisher,
    "jacob_cov": jacob_cov,
    "naswot": naswot,
}


@dataclass(frozen=True, eq=False)
class ProxyEvaluator(OnData):
    """Scores untrained networks. Its metric `score` has units of its own; larger is better. fidelity: batches averaged over.

    Attention starts with fresh gates by default: at an identity start a gradient-based score cannot see its weights.
    """

    data: Data
    proxy: str
    batch_size: int = 64
    identity_init: bool = False
    native: str = "keep"
    device: torch.device = field(default_factory=pick_device)

    def __post_init__(self) -> None:
        if self.proxy not in PROXIES:
            raise unknown("proxy", self.proxy, PROXIES)

    @property
    def identity(self) -> str:
        start = "identity" if self.identity_init else "fresh"
        return f"proxy {self.proxy} {self.batch_size} {self.data.identity} {start} {self.native}"

    def at_home(self) -> Self:
        """The same on the device of this machine."""
        return replace(self, device=pick_device())

    def evaluate(
        self,
        arch: Architecture,
        *,
        fidelity: int,
        seed: int,
        report: Report | None = None,
        keep: Path | None = None,
        checkpoint: Path | None = None,
    ) -> Metrics:
        """score, and once more as `accuracy` for whoever maximises that, and seconds.

        Nothing is trained, so there are no weights to `keep` and nothing to go on with from a `checkpoint`.
        Raises EvaluationError when the score is not finite.
        """
        from spaces.backbone import build_model

        started = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        scores = []
        with seeded(seed, self.device):
            model = build_model(
                arch,
                self.num_classes,
                self.in_chans,
                image_size=self.image_size,
                identity_start=self.identity_init,
                native=self.native,
            ).to(self.device)
            batches = make_batches(self.data.train, self.data, self.batch_size, self.device, generator=generator)
            for _, (x_BCHW, y_B) in zip(range(fidelity), batches, strict=False):
                model.train()
                scores.append(PROXIES[self.proxy](model, x_BCHW, y_B))
        score = sum(scores) / len(scores)
        if not abs(score) < float("inf"):
            raise EvaluationError(f"{self.proxy} of {arch} is {score}")
        metrics: Metrics = {"score": score, "accuracy": score, "seconds": time.perf_counter() - started}
        if report is not None:
            report(fidelity, dict(metrics))
        return metrics
