"""The plain form of each attention type, as papers and the code copied between repositories write it.

Counterparts of benchmarks/attention.py where timm has no module: one layer after the other, rotated or permuted maps,
adaptive pooling, no fused or reordered products. The formulas are those of spaces/attention, so that only the way of
computing differs. Shapes as in spaces/attention/parts.py.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm import layers
from timm.layers.cbam import CbamModule
from torch import Tensor, nn

from spaces.attention import attention_type
from spaces.attention.channel import FrequencyChannel


class Pool(nn.Module):
    """[max, mean] over the first axis after the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)


def spatial_gate(kernel: int = 7, norm: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(Pool(), conv, nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity(), nn.Sigmoid())


class Times(nn.Module):
    """x times what a chain of layers makes of it."""

    def __init__(self, *chain: nn.Module) -> None:
        super().__init__()
        self.chain = nn.Sequential(*chain)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.chain(x).expand_as(x)


class Bam(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(nn.Linear(c, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, c))
        block = [nn.Conv2d(c, h, 1), nn.BatchNorm2d(h), nn.ReLU()]
        for _ in range(2):
            block += [nn.Conv2d(h, h, 3, padding=4, dilation=4), nn.BatchNorm2d(h), nn.ReLU()]
        self.spatial = nn.Sequential(*block, nn.Conv2d(h, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, (x.size(2), x.size(3))).flatten(1)
        channel = self.channel(pooled).unsqueeze(2).unsqueeze(3).expand_as(x)
        return (1 + torch.sigmoid(channel + self.spatial(x).expand_as(x))) * x


class Gam(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(nn.Linear(c, h), nn.ReLU(inplace=True), nn.Linear(h, c))
        self.spatial = nn.Sequential(
            nn.Conv2d(c, h, 7, padding=3),
            nn.BatchNorm2d(h),
            nn.ReLU(inplace=True),
            nn.Conv2d(h, c, 7, padding=3),
            nn.BatchNorm2d(c),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        permuted = x.permute(0, 2, 3, 1).reshape(b, -1, c)
        gate = self.channel(permuted).view(b, height, width, c).permute(0, 3, 1, 2)
        x = x * gate.sigmoid()
        return x * self.spatial(x).sigmoid()


class DoubleAttention(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        self.a, self.b, self.v = (nn.Conv2d(c, h, 1) for _ in range(3))
        self.project = nn.Conv2d(h, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        a = self.a(x).reshape(b, -1, height * width)
        maps = F.softmax(self.b(x).reshape(b, -1, height * width), dim=-1)
        vectors = F.softmax(self.v(x).reshape(b, -1, height * width), dim=1)
        descriptors = torch.bmm(a, maps.permute(0, 2, 1))
        return x + self.project(descriptors.matmul(vectors).reshape(b, -1, height, width))


class HSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * F.relu6(x + 3) / 6


class Coordinate(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        self.pool_h, self.pool_w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        self.shared = nn.Sequential(nn.Conv2d(c, h, 1), nn.BatchNorm2d(h), HSwish())
        self.conv_h, self.conv_w = nn.Conv2d(h, c, 1), nn.Conv2d(h, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        y = self.shared(torch.cat((self.pool_h(x), self.pool_w(x).permute(0, 1, 3, 2)), dim=2))
        y_h, y_w = torch.split(y, [height, width], dim=2)
        return x * self.conv_w(y_w.permute(0, 1, 3, 2)).sigmoid() * self.conv_h(y_h).sigmoid()


class CoordinateOne(nn.Module):
    def __init__(self, c: int, h: int, pool: tuple[int | None, int | None]) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.chain = nn.Sequential(nn.Conv2d(c, h, 1), nn.BatchNorm2d(h), HSwish(), nn.Conv2d(h, c, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.chain(self.pool(x))


class Aam(nn.Module):
    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.spatial = spatial_gate(norm=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_max_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        return x * self.conv(pooled).transpose(-1, -2).unsqueeze(-1).sigmoid() + x * self.spatial(x)


class Triplet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cw, self.hc, self.hw = (spatial_gate() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        swapped = x.permute(0, 2, 1, 3).contiguous()
        by_h = (swapped * self.cw(swapped)).permute(0, 2, 1, 3).contiguous()
        swapped = x.permute(0, 3, 2, 1).contiguous()
        by_w = (swapped * self.hc(swapped)).permute(0, 3, 2, 1).contiguous()
        return 1 / 3 * (x * self.hw(x) + by_h + by_w)


class Spread(nn.Module):
    """Gather, excite, spread by nearest neighbours."""

    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for _ in range(3):
            blocks += [nn.Conv2d(c, c, 3, 2, 1, groups=c, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True)]
        excite = [nn.Conv2d(c, h, 1), nn.ReLU(inplace=True), nn.Conv2d(h, c, 1)] if h else []
        self.chain = nn.Sequential(*blocks[:-1], *excite)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.interpolate(self.chain(x), size=x.shape[-2:]).sigmoid()


class Gala(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, h, 1), nn.ReLU(), nn.Conv2d(h, c, 1))
        middle = nn.Conv2d(h, h, 5, padding=2)
        self.spatial = nn.Sequential(nn.Conv2d(c, h, 1), nn.ReLU(), middle, nn.ReLU(), nn.Conv2d(h, 1, 1))
        self.alpha, self.beta = (nn.Parameter(torch.ones(1, c, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        f, s = self.channel(x).expand_as(x), self.spatial(x).expand_as(x)
        return x * torch.sigmoid(self.alpha * (s + f) + self.beta * (s * f))


class SelfAttention(nn.Module):
    def __init__(self, c: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.project = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        q, k, v = (m(x).reshape(b * self.heads, c // self.heads, -1) for m in (self.q, self.k, self.v))
        weights = F.softmax(torch.bmm(q.transpose(1, 2), k) / math.sqrt(c // self.heads), dim=-1)
        return x + self.project(torch.bmm(v, weights.transpose(1, 2)).reshape(b, c, height, width))


class AugmentedConv(nn.Module):
    """The relative logits are expanded to all pairs of positions and added to the products, as published."""

    def __init__(self, c: int, h: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.h = heads, h
        self.conv = nn.Conv2d(c, c - h, 3, padding=1)
        self.qkv, self.project = nn.Conv2d(c, 3 * h, 1), nn.Conv2d(h, h, 1)
        self.rel_h, self.rel_w = (nn.Parameter(torch.randn(h // heads, 27)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        d = self.h // self.heads
        q, k, v = self.qkv(x).reshape(b, 3, self.heads, d, height * width).unbind(1)
        q = q * d**-0.5
        logits = torch.matmul(q.transpose(2, 3), k)
        maps = q.reshape(b, self.heads, d, height, width)
        for axis, size, table in (("h", height, self.rel_h), ("w", width, self.rel_w)):
            resized = F.interpolate(table[None], size=2 * size - 1, mode="linear")[0]
            at = torch.arange(size, device=x.device)
            offsets = resized[:, at[None] - at[:, None] + size - 1].to(maps.dtype)
            relative = torch.einsum(f"bndhw,d{axis}k->bnhwk", maps, offsets)
            if axis == "h":
                relative = relative[..., None].expand(-1, -1, -1, -1, -1, width)
            else:
                relative = relative[..., None, :].expand(-1, -1, -1, -1, height, -1)
            logits = logits + relative.reshape(b, self.heads, height * width, height * width)
        z = torch.matmul(F.softmax(logits, -1), v.transpose(2, 3)).transpose(2, 3).reshape(b, self.h, height, width)
        return torch.cat((self.conv(x), self.project(z)), 1)


class SpatialTransformer(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(c, h, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.theta = nn.Linear(16 * h, 6)
        nn.init.zeros_(self.theta.weight)
        self.theta.bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.theta(self.head(x)).float().view(-1, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x.float(), grid, align_corners=False).to(x.dtype)


class ResidualAttention(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()

        def layer(i: int, k: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(i, h, k, padding=k // 2, bias=False), nn.BatchNorm2d(h), nn.ReLU())

        self.enter, self.one, self.two, self.up = layer(c, 1), layer(h, 3), layer(h, 3), layer(h, 3)
        self.leave = nn.Conv2d(h, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        half = self.one(F.max_pool2d(self.enter(x), 3, 2, 1))
        quarter = self.two(F.max_pool2d(half, 3, 2, 1))
        skip = half + F.interpolate(quarter, size=half.shape[-2:], mode="bilinear")
        return (1 + self.leave(F.interpolate(self.up(skip), size=x.shape[-2:], mode="bilinear")).sigmoid()) * x


class SecondOrder(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(c, h, 1), nn.BatchNorm2d(h), nn.ReLU())
        self.norm = nn.BatchNorm2d(h)
        self.rows, self.leave = nn.Conv2d(h, 4 * h, (h, 1), groups=h), nn.Conv2d(4 * h, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(x).flatten(2)
        p = y.shape[2]
        centre = torch.eye(p, device=x.device, dtype=y.dtype) / p - 1 / p**2
        covariance = y.bmm(centre.expand(len(y), p, p)).bmm(y.transpose(1, 2))
        return x * self.leave(self.rows(self.norm(covariance.unsqueeze(3)))).sigmoid()


class SimAM(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[2] * x.shape[3] - 1
        square = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        y = square / (4 * (square.sum(dim=[2, 3], keepdim=True) / n + 1e-4)) + 0.5
        return x * torch.sigmoid(y)


class Srm(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight, self.norm = nn.Parameter(torch.zeros(c, 2)), nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(*x.shape[:2], -1)
        style = torch.stack((flat.mean(-1), (flat.var(-1, unbiased=False) + 1e-5).sqrt()), -1)
        return x * self.norm((style * self.weight).sum(2)[:, :, None, None]).sigmoid()


class ShuffleAttention(nn.Module):
    def __init__(self, c: int, g: int) -> None:
        super().__init__()
        self.g, half = g, c // (2 * g)
        self.cw, self.sw = (nn.Parameter(torch.zeros(1, half, 1, 1)) for _ in range(2))
        self.cb, self.sb = (nn.Parameter(torch.ones(1, half, 1, 1)) for _ in range(2))
        self.norm = nn.GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        x0, x1 = x.reshape(b * self.g, -1, height, width).chunk(2, dim=1)
        first = x0 * torch.sigmoid(self.cw * F.adaptive_avg_pool2d(x0, 1) + self.cb)
        second = x1 * torch.sigmoid(self.sw * self.norm(x1) + self.sb)
        y = torch.cat((first, second), 1).reshape(b, 2, -1, height, width)
        return y.permute(0, 2, 1, 3, 4).reshape(b, -1, height, width)


class Sge(nn.Module):
    def __init__(self, g: int) -> None:
        super().__init__()
        self.g = g
        self.weight, self.bias = nn.Parameter(torch.zeros(1, g, 1, 1)), nn.Parameter(torch.ones(1, g, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        x = x.reshape(b * self.g, -1, height, width)
        t = (x * F.adaptive_avg_pool2d(x, 1)).sum(dim=1, keepdim=True).reshape(b * self.g, -1)
        t = t - t.mean(dim=1, keepdim=True)
        t = t / (t.std(dim=1, unbiased=False, keepdim=True) + 1e-5)
        t = t.reshape(b, self.g, height, width) * self.weight + self.bias
        return (x * torch.sigmoid(t.reshape(b * self.g, 1, height, width))).reshape(b, -1, height, width)


class Ema(nn.Module):
    def __init__(self, c: int, g: int) -> None:
        super().__init__()
        self.g, q = g, c // g
        self.norm, self.conv1, self.conv3 = nn.GroupNorm(q, q), nn.Conv2d(q, q, 1), nn.Conv2d(q, q, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        y = x.reshape(b * self.g, -1, height, width)
        q = c // self.g
        rows, columns = F.adaptive_avg_pool2d(y, (None, 1)), F.adaptive_avg_pool2d(y, (1, None)).permute(0, 1, 3, 2)
        rows, columns = torch.split(self.conv1(torch.cat([rows, columns], dim=2)), [height, width], dim=2)
        x1 = self.norm(y * rows.sigmoid() * columns.permute(0, 1, 3, 2).sigmoid())
        x2 = self.conv3(y)
        first = F.adaptive_avg_pool2d(x1, 1).reshape(-1, q, 1).permute(0, 2, 1).softmax(-1)
        second = F.adaptive_avg_pool2d(x2, 1).reshape(-1, q, 1).permute(0, 2, 1).softmax(-1)
        gate = torch.matmul(first, x2.reshape(-1, q, height * width))
        gate = gate + torch.matmul(second, x1.reshape(-1, q, height * width))
        return (y * gate.reshape(-1, 1, height, width).sigmoid()).reshape(b, c, height, width)


class Fca(nn.Module):
    """With the basis computed beforehand for one map size, as published."""

    def __init__(self, c: int, h: int, size: int) -> None:
        super().__init__()
        own = FrequencyChannel(c, h)
        rows, columns = own.basis(own.frequencies_2C[0], size), own.basis(own.frequencies_2C[1], size)
        self.register_buffer("weight", (rows[:, :, None] * columns[:, None]).float())
        self.fc = nn.Sequential(nn.Linear(c, h, False), nn.ReLU(inplace=True), nn.Linear(h, c, False), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sum(x * self.weight, dim=[2, 3])
        return x * self.fc(y)[:, :, None, None].expand_as(x)


class Scse(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        chain = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, h, 1), nn.ReLU(), nn.Conv2d(h, c, 1), nn.Sigmoid()]
        self.channel = nn.Sequential(*chain)
        self.spatial = nn.Sequential(nn.Conv2d(c, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.channel(x) + x * self.spatial(x)


class DualAttention(nn.Module):
    def __init__(self, c: int, h: int) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Conv2d(c, h, 1), nn.Conv2d(c, h, 1), nn.Conv2d(c, c, 1)
        self.gamma_p, self.gamma_c = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        q = self.q(x).reshape(b, -1, width * height).permute(0, 2, 1)
        weights = F.softmax(torch.bmm(q, self.k(x).reshape(b, -1, width * height)), dim=-1)
        v = self.v(x).reshape(b, -1, width * height)
        position = self.gamma_p * torch.bmm(v, weights.permute(0, 2, 1)).reshape(b, c, height, width) + x
        flat = x.reshape(b, c, -1)
        energy = torch.bmm(flat, flat.permute(0, 2, 1))
        energy = torch.max(energy, -1, keepdim=True)[0].expand_as(energy) - energy
        channel = self.gamma_c * torch.bmm(F.softmax(energy, dim=-1), flat).reshape(b, c, height, width) + x
        return position + channel


class Strip(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()

        def strip(pool: tuple[int | None, int | None], kernel: tuple[int, int], padding: tuple[int, int]) -> nn.Module:
            conv = nn.Conv2d(c, c, kernel, padding=padding, bias=False)
            return nn.Sequential(nn.AdaptiveAvgPool2d(pool), conv, nn.BatchNorm2d(c))

        self.one, self.two = strip((None, 1), (3, 1), (1, 0)), strip((1, None), (1, 3), (0, 1))
        self.three = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.one(x).expand_as(x) + self.two(x).expand_as(x))
        return x * self.three(y).sigmoid()


class Ela(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(c, c, 7, padding=3, groups=c, bias=False)
        self.norm = nn.GroupNorm(16, c)

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        rows = torch.mean(x, dim=3, keepdim=True).reshape(b, c, height)
        columns = torch.mean(x, dim=2, keepdim=True).reshape(b, c, width)
        rows = self.norm(self.conv(rows)).sigmoid().reshape(b, c, height, 1)
        columns = self.norm(self.conv(columns)).sigmoid().reshape(b, c, 1, width)
        return x * rows * columns


class Lska(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(c, c, (1, 3), padding=(0, 1), groups=c)
        self.two = nn.Conv2d(c, c, (3, 1), padding=(1, 0), groups=c)
        self.three = nn.Conv2d(c, c, (1, 3), padding=(0, 2), groups=c, dilation=2)
        self.four = nn.Conv2d(c, c, (3, 1), padding=(2, 0), groups=c, dilation=2)
        self.five = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x.clone() * self.five(self.four(self.three(self.two(self.one(x)))))


class Gct(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, c, 1, 1))
        self.gamma, self.beta = (nn.Parameter(torch.zeros(1, c, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        embedding = (x.pow(2).sum((2, 3), keepdim=True) + 1e-5).pow(0.5) * self.alpha
        norm = self.gamma / (embedding.pow(2).mean(dim=1, keepdim=True) + 1e-5).pow(0.5)
        return x * (1.0 + torch.tanh(embedding * norm + self.beta))


def counterpart(name: str, channels: int, size: int) -> tuple[str, nn.Module]:
    """("timm" or "plain", the module) that computes what `create_attention(name, channels)` does on size x size maps."""
    c = channels
    parts = attention_type(name).effective(c)
    _, hidden, kernel, groups, *_ = parts[0]
    in_timm: dict[str, Callable[[], nn.Module]] = {
        "se": lambda: layers.SEModule(c, rd_channels=hidden),
        "eca": lambda: layers.EcaModule(kernel_size=kernel),
        "cbam": lambda: CbamModule(c, rd_channels=hidden),
        "effective_se": lambda: layers.EffectiveSEModule(c),
        "global_context": lambda: layers.GlobalContext(c, fuse_add=True, fuse_scale=False, rd_channels=hidden),
        "non_local": lambda: layers.NonLocalAttn(c, use_scale=True, rd_channels=hidden),
        "gather_excite_minus": lambda: layers.GatherExcite(c, extra_params=False, extent=0, use_mlp=False),
    }
    plain: dict[str, Callable[[], nn.Module]] = {
        "bam": lambda: Bam(c, hidden),
        "gam": lambda: Gam(c, hidden),
        "double_attention": lambda: DoubleAttention(c, hidden),
        "coordinate": lambda: Coordinate(c, hidden),
        "coordinate_h": lambda: CoordinateOne(c, hidden, (None, 1)),
        "coordinate_w": lambda: CoordinateOne(c, hidden, (1, None)),
        "aam": lambda: Aam(kernel),
        "triplet": Triplet,
        "gather_excite": lambda: Spread(c, hidden),
        "gather_excite_theta": lambda: Spread(c, 0),
        "gala": lambda: Gala(c, hidden),
        "self_attention": lambda: SelfAttention(c),
        "augmented_conv": lambda: AugmentedConv(c, hidden),
        "spatial_transformer": lambda: SpatialTransformer(c, hidden),
        "residual_attention": lambda: ResidualAttention(c, hidden),
        "second_order": lambda: SecondOrder(c, hidden),
        "pixel_attention": lambda: Times(nn.Conv2d(c, c, 1), nn.Sigmoid()),
        "parnet": lambda: Times(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1, bias=False), nn.Sigmoid()),
        "simam": SimAM,
        "srm": lambda: Srm(c),
        "shuffle_attention": lambda: ShuffleAttention(c, groups),
        "sge": lambda: Sge(groups),
        "ema": lambda: Ema(c, groups),
        "fca": lambda: Fca(c, hidden, size),
        "scse": lambda: Scse(c, hidden),
        "dual_attention": lambda: DualAttention(c, parts[1][1]),
        "strip": lambda: Strip(c),
        "ela": lambda: Ela(c),
        "lska": lambda: Lska(c),
        "gct": lambda: Gct(c),
    }
    if name in in_timm:
        return "timm", in_timm[name]()
    return "plain", plain[name]()
