"""Zero-cost proxies: scores of an untrained network from a few batches.

snip: Lee et al. 2019; synflow: Tanaka et al. 2020; fisher: Theis et al. 2018; grad_norm and the common form of all of them:
Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, 2021; jacob_cov and naswot: Mellor et al., Neural Architecture
Search without Training, 2020 and 2021. None is used by default: see docs/evaluators.md.
Legend: B batch, U rectified units of one layer, D input values, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from evaluators.base import EVALUATORS, Estimate, EvaluatorConfig, OnTask, Setting
from evaluators.outcomes import EvaluationError, Metrics, Report
from evaluators.tasks.base import Task
from evaluators.training.device import OnDevice, pick_device, seeded
from spaces.errors import unknown
from spaces.network import Native
from spaces.placement import Architecture

Loss = Callable[[Any, Any], Tensor]  # the task's: (output, target) -> mean loss
Score = Callable[[nn.Module, Tensor, Any, Loss], float]


def _gradients(model: nn.Module, x_BCHW: Tensor, target: Any, loss: Loss) -> list[tuple[Tensor, Tensor]]:
    """(weight, gradient of the mean loss) for every parameter that has one."""
    model.zero_grad(set_to_none=True)
    loss(model(x_BCHW), target).backward()
    return [(weight.detach(), weight.grad) for weight in model.parameters() if weight.grad is not None]


def grad_norm(model: nn.Module, x_BCHW: Tensor, target: Any, loss: Loss) -> float:
    """sum over parameters of ||dL/dw||_2."""
    return sum(float(gradient.norm()) for _, gradient in _gradients(model, x_BCHW, target, loss))


def snip(model: nn.Module, x_BCHW: Tensor, target: Any, loss: Loss) -> float:
    """sum |w dL/dw|: what removing single weights would change."""
    return sum(float((weight * gradient).abs().sum()) for weight, gradient in _gradients(model, x_BCHW, target, loss))


def synflow(model: nn.Module, x_BCHW: Tensor, target: Any, loss: Loss) -> float:
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


def fisher(model: nn.Module, x_BCHW: Tensor, target: Any, loss: Loss) -> float:
    """sum over the channels of all convolutions of the mean of (a dL/da)^2 / 2, a summed over the map of each image."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    hooks = [
        module.register_forward_hook(keep) for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))
    ]
    try:
        _gradients(model, x_BCHW, target, loss)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(
        float((a.detach() * a.grad).flatten(2).sum(2).square().mean(0).sum() / 2) for a in outputs if a.grad is not None
    )


def jacob_cov(model: nn.Module, x_BCHW: Tensor, target: Any, loss: Loss) -> float:
    """-sum_i [log(s_i + k) + 1 / (s_i + k)], s the eigenvalues of the correlation of the input Jacobians of the images."""
    x_BCHW = x_BCHW.clone().requires_grad_(True)
    model(x_BCHW).sum().backward()
    assert x_BCHW.grad is not None
    correlation_BB = torch.corrcoef(x_BCHW.grad.flatten(1).double())
    s_B = torch.linalg.eigvalsh(correlation_BB.nan_to_num()).clamp(min=0) + 1e-5
    return -float((s_B.log() + 1 / s_B).sum())


def naswot(model: nn.Module, x_BCHW: Tensor, target: Any, loss: Loss) -> float:
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


def params(model: nn.Module, x_BCHW: Tensor, target: Any, loss: Loss) -> float:
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
class ProxyEvaluator(OnDevice, OnTask):
    """Scores untrained networks. Its metric `score` has units of its own; larger is better. fidelity: batches averaged over.

    Attention starts with fresh gates by default: at an identity start a gradient-based score cannot see its weights.
    """

    task: Task
    proxy: str
    batch_size: int = 64
    identity_start: bool = False
    native: Native = "keep"
    device: torch.device = field(default_factory=pick_device)

    def __post_init__(self) -> None:
        if self.proxy not in PROXIES:
            raise unknown("proxy", self.proxy, PROXIES)

    @property
    def identity(self) -> str:
        start = "identity" if self.identity_start else "fresh"
        return f"proxy {self.proxy} {self.batch_size} {self.task.identity} {start} {self.native}"

    def estimate(self, arch: Architecture, *, fidelity: int, validations: int) -> Estimate:
        """What `evaluate` takes, by doing it once more after a first time."""
        self.evaluate(arch, fidelity=1, seed=0)
        return Estimate(self.evaluate(arch, fidelity=fidelity, seed=0)["seconds"])

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
        """score, once more by the name of the task's metric for whoever maximises that, and seconds.

        Nothing is trained, so there are no weights to `keep` and nothing to go on with from a `checkpoint`.
        Raises EvaluationError when the score is not finite.
        """
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        scores = []
        with seeded(seed, self.device):
            model = self.network.build(arch).to(self.device)
            batches = self.task.batches("train", batch_size=self.batch_size, device=self.device, generator=generator)
            for _, (x_BCHW, target) in zip(range(fidelity), batches, strict=False):
                model.train()
                scores.append(PROXIES[self.proxy](model, x_BCHW, target, self.task.loss))
        score = sum(scores) / len(scores)
        if not abs(score) < float("inf"):
            raise EvaluationError(f"{self.proxy} of {arch} is {score}")
        judged = self.metric.sign * score
        metrics: Metrics = {"score": score, self.metric.name: judged, "seconds": time.perf_counter() - started}
        if report is not None:
            report(fidelity, dict(metrics))
        return metrics


class ProxyConfig(EvaluatorConfig):
    """Scores untrained networks. fidelity: batches averaged over."""

    name: Literal["proxy"] = "proxy"
    proxy: str = Field(default="params", description="which one")

    @field_validator("proxy")
    @classmethod
    def _known(cls, proxy: str) -> str:
        if proxy not in PROXIES:
            raise unknown("proxy", proxy, PROXIES)
        return proxy

    def build(self, setting: Setting) -> ProxyEvaluator:
        return ProxyEvaluator(setting.task(), self.proxy, native=setting.native)


EVALUATORS.register("proxy", ProxyConfig)
