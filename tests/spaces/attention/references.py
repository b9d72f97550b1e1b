"""Every attention type a second time: its formula written directly and slowly in float64 NumPy, from the paper.

Nothing here imports the library. `REFERENCES[name](x, w, options)` takes a map or volume x, the module's state_dict as
arrays w, and the gene values, flags and mode in `options`; two-part types are given by their parts.
"""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]


# --- layers ---------------------------------------------------------------------------------------------------------
def sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def sub(w: Weights, prefix: str) -> Weights:
    return {key[len(prefix) + 1 :]: value for key, value in w.items() if key.startswith(prefix + ".")}


def linear(x: Array, w: Weights) -> Array:
    return x @ w["weight"].T + w.get("bias", 0.0)


def conv(x: Array, w: Weights, groups: int = 1, dilation: int = 1, stride: int = 1) -> Array:
    """ "Same" cross-correlation over any number of axes: one shifted product per tap."""
    weight = w["weight"]
    taps = weight.shape[2:]
    pads = [(t - 1) // 2 * dilation for t in taps]
    padded = np.pad(x, [(0, 0), (0, 0)] + [(p, p) for p in pads])
    sizes = [(n + stride - 1) // stride for n in x.shape[2:]]
    out = np.zeros((x.shape[0], weight.shape[0], *sizes))
    cin, cout = weight.shape[1], weight.shape[0] // groups
    for tap in np.ndindex(*taps):
        window = padded[(slice(None), slice(None))]
        for axis, (t, n) in enumerate(zip(tap, x.shape[2:], strict=True)):
            window = np.moveaxis(
                np.moveaxis(window, axis + 2, 0)[t * dilation : t * dilation + n : stride], 0, axis + 2
            )
        for g in range(groups):
            part = weight[g * cout : (g + 1) * cout][(slice(None), slice(None), *tap)]
            out[:, g * cout : (g + 1) * cout] += np.einsum("oi,bi...->bo...", part, window[:, g * cin : (g + 1) * cin])
    if "bias" in w:
        out += w["bias"].reshape(1, -1, *[1] * (x.ndim - 2))
    return out


def batch_norm(x: Array, w: Weights, train: bool) -> Array:
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    if train and x.size > x.shape[1]:
        mean, var = x.mean(axes), x.var(axes)
    else:
        mean, var = w["running_mean"], w["running_var"]
    normed = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + 1e-5)
    return normed * w["weight"].reshape(shape) + w["bias"].reshape(shape)


def group_norm(x: Array, w: Weights, groups: int) -> Array:
    y = x.reshape(x.shape[0], groups, -1)
    y = (y - y.mean(2, keepdims=True)) / np.sqrt(y.var(2, keepdims=True) + 1e-5)
    shape = (1, -1, *[1] * (x.ndim - 2))
    return y.reshape(x.shape) * w["weight"].reshape(shape) + w["bias"].reshape(shape)


def mean_space(x: Array) -> Array:
    return x.mean(tuple(range(2, x.ndim)))


def max_space(x: Array) -> Array:
    return x.max(tuple(range(2, x.ndim)))


def expand(v: Array, x: Array) -> Array:
    return v.reshape(*v.shape, *[1] * (x.ndim - 2))


def strip(x: Array, axis: int) -> Array:
    """The mean over all axes of space and time but one."""
    return x.mean(tuple(other for other in range(2, x.ndim) if other != axis))


def spread(v: Array, x: Array, axis: int) -> Array:
    """One number for each place along an axis."""
    return np.expand_dims(v, tuple(other for other in range(2, x.ndim) if other != axis))


def shuffle(x: Array, groups: int) -> Array:
    order = [i * (x.shape[1] // groups) + j for j in range(x.shape[1] // groups) for i in range(groups)]
    return x[:, order]


def conv_over_channels(v: Array, kernel: Array) -> Array:
    """1-D convolution of (B, C) along C with one zero-padded kernel."""
    k = kernel.size
    padded = np.pad(v, ((0, 0), (k // 2, k // 2)))
    return sum(kernel.reshape(-1)[t] * padded[:, t : t + v.shape[1]] for t in range(k))


def mlp(v: Array, w: Weights) -> Array:
    return linear(relu(linear(v, sub(w, "fc1"))), sub(w, "fc2"))


# --- gates: parts of two-part types and gates on their own, as logits --------------------------------------------------
def se_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    return expand(mlp(mean_space(x), w), x)


def eca_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    return expand(conv_over_channels(mean_space(x), w["conv.weight"]), x)


def aam_channel_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    return expand(conv_over_channels(max_space(x), w["conv.weight"]), x)


def full_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    return expand(linear(mean_space(x), sub(w, "fc")), x)


def srm_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    std = np.sqrt(x.var(tuple(range(2, x.ndim))) + 1e-5)
    z = mean_space(x) * w["weight"][:, 0] + std * w["weight"][:, 1]
    return expand(batch_norm(z, sub(w, "norm"), o.train), x)


def fca_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    if x.ndim == 5:  # a clip at frequency 0 in time
        flat = fca_logits(x.sum(2) / np.sqrt(x.shape[2]), w, o)
        return flat[..., None]
    rows = [0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2]
    columns = [0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2]
    b, c, h, wd = x.shape
    out = np.zeros((b, c))
    for channel in range(c):
        n = channel * 16 // c
        u, v = rows[n] * h // 7, columns[n] * wd // 7
        for i in range(h):
            for j in range(wd):
                wave = np.cos(np.pi * u * (i + 0.5) / h) * np.cos(np.pi * v * (j + 0.5) / wd)
                wave *= (np.sqrt(2) if u else 1) / np.sqrt(h) * (np.sqrt(2) if v else 1) / np.sqrt(wd)
                out[:, channel] += x[:, channel, i, j] * wave
    return expand(mlp(out, w), x)


def gct_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    s = w["alpha"] * np.sqrt((x**2).sum(tuple(range(2, x.ndim))) + 1e-5)
    normed = w["gamma"] * s / np.sqrt((s**2).mean(1, keepdims=True) + 1e-5)
    return expand(normed + w["beta"], x)


def second_order_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    seen = relu(x) if vars(o).get("first_relu") else x
    y = relu(batch_norm(conv(seen, sub(w, "reduce")), sub(w, "norm"), o.train))
    b, h = y.shape[:2]
    y = y.reshape(b, h, -1)
    cov = np.stack([np.cov(y[i], bias=True).reshape(h, h) for i in range(b)])
    cov = batch_norm(cov, sub(w, "row_norm"), o.train)
    rows = np.zeros((b, 4 * h))
    for r in range(h):
        for t in range(4):
            rows[:, 4 * r + t] = cov[:, r] @ w["rows.weight"][4 * r + t, 0] + w["rows.bias"][4 * r + t]
    return expand(linear(rows, sub(w, "expand")), x)


def cbam_channel_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    return expand(mlp(mean_space(x), w) + mlp(max_space(x), w), x)


def cbam_spatial_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    pooled = np.stack([x.max(1), x.mean(1)], 1)
    return batch_norm(conv(pooled, sub(w, "conv")), sub(w, "norm"), o.train)


def aam_spatial_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    return conv(np.stack([x.mean(1), x.max(1)], 1), sub(w, "conv"))


def bam_channel_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    hidden = batch_norm(linear(mean_space(x), sub(w, "fc1")), sub(w, "norm"), o.train)
    return expand(linear(relu(hidden), sub(w, "fc2")), x)


def bam_spatial_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    for first, dilation in ((0, 1), (3, 4), (6, 4)):
        x = conv(x, sub(w, f"layers.{first}"), dilation=dilation)
        x = relu(batch_norm(x, sub(w, f"layers.{first + 1}"), o.train))
    return conv(x, sub(w, "layers.9"))


def gam_channel_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    """The paper permutes to (B, H, W, C) and applies an MLP to the last axis."""
    moved = np.moveaxis(x, 1, -1)
    flat = {k: v.reshape(v.shape[0], -1) if v.ndim > 1 else v for k, v in w.items()}
    return np.moveaxis(mlp(moved, flat), -1, 1)


def gam_spatial_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    y = relu(batch_norm(conv(x, sub(w, "conv1"), o.groups), sub(w, "norm1"), o.train))
    return batch_norm(conv(shuffle(y, o.groups), sub(w, "conv2"), o.groups), sub(w, "norm2"), o.train)


def scse_spatial_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    return conv(x, sub(w, "conv"))


def gala_spatial_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    return conv(relu(conv(relu(conv(x, sub(w, "conv1"))), sub(w, "conv2"))), sub(w, "conv3"))


def strip_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    summed = np.zeros(x.shape)
    for axis, name in enumerate("thw"[5 - x.ndim :], start=2):
        one = batch_norm(conv(strip(x, axis), sub(w, f"conv_{name}")), sub(w, f"norm_{name}"), o.train)
        summed = summed + spread(one, x, axis)
    return conv(relu(summed), sub(w, "fuse"))


def sge_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    b, c = x.shape[:2]
    out = np.zeros(x.shape)
    q = c // o.groups
    for i in range(b):
        for g in range(o.groups):
            part = x[i, g * q : (g + 1) * q].reshape(q, -1)
            t = part.mean(1) @ part
            t = (t - t.mean()) / (t.std() + 1e-5)
            out[i, g * q : (g + 1) * q] = (w["weight"][g] * t + w["bias"][g]).reshape(x.shape[2:])
    return out


def lska_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    dilation = {7: 2, 11: 2, 23: 3, 35: 3}[o.kernel]
    axes = x.ndim - 2
    for n, d in enumerate((1,) * axes + (dilation,) * axes):
        x = conv(x, sub(w, f"layers.{n}"), groups=x.shape[1], dilation=d)
    return conv(x, sub(w, f"layers.{2 * axes}"))


def pixel_logits(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    return conv(x, sub(w, "conv"))


def one_plus_tanh(z: Array) -> Array:
    return 1 + np.tanh(z)


def bam_gate(z: Array) -> Array:
    return 1 + sigmoid(z)


def hard_sigmoid(z: Array) -> Array:
    return np.clip(z / 6 + 0.5, 0, 1)


def identity(z: Array) -> Array:
    return z


# --- types that are no single gate -------------------------------------------------------------------------------------
def double_attention(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    b, c = x.shape[:2]
    flat = x.reshape(b, c, -1)
    a, bb, v = (conv(x, sub(w, name)).reshape(b, -1, flat.shape[2]) for name in ("conv_a", "conv_b", "conv_v"))
    z = np.zeros(a.shape)
    for i in range(b):
        attention = softmax(bb[i], 1)  # over the positions of one image
        descriptors = sum(np.outer(a[i, :, p], attention[:, p]) for p in range(flat.shape[2]))
        z[i] = descriptors @ softmax(v[i], 0)  # over the n descriptors at each position
    return x + conv(z.reshape(b, -1, *x.shape[2:]), sub(w, "project"))


def attend(q: Array, k: Array, v: Array, scale: float) -> Array:
    """One query (rows of q) at a time."""
    out = np.zeros((q.shape[0], v.shape[1]))
    for i in range(q.shape[0]):
        out[i] = softmax(k @ q[i] * scale, 0) @ v
    return out


def non_local(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    theta, phi, g = np.split(conv(x, sub(w, "conv_qkv")), 3, 1)
    z = np.zeros(theta.shape)
    d = theta.shape[1]
    for i in range(len(x)):
        t, f, v = (m[i].reshape(d, -1).T for m in (theta, phi, g))
        z[i] = attend(t, f, v, d**-0.5 if o.scaled else 1.0).T.reshape(z[i].shape)
    return x + conv(z, sub(w, "project"))


def self_attention(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    q, k, v = np.split(conv(x, sub(w, "conv_qkv")), 3, 1)
    z = np.zeros(q.shape)
    d = q.shape[1] // o.heads
    for i in range(len(x)):
        for n in range(o.heads):
            part = slice(n * d, (n + 1) * d)
            qn, kn, vn = (m[i, part].reshape(d, -1).T for m in (q, k, v))
            z[i, part] = attend(qn, kn, vn, d**-0.5).T.reshape(d, *x.shape[2:])
    if o.position == "conv":
        z = z + conv(v, sub(w, "local"), groups=v.shape[1])
    return x + conv(z, sub(w, "project"))


def resize_linear(table: Array, size: int) -> Array:
    """Rows of `table` resampled to `size` points, half-pixel centres, ends repeated."""
    n = table.shape[1]
    out = np.zeros((table.shape[0], size))
    for i in range(size):
        at = min(max((i + 0.5) * n / size - 0.5, 0), n - 1)
        low = int(np.floor(at))
        high = min(low + 1, n - 1)
        out[:, i] = table[:, low] * (1 - (at - low)) + table[:, high] * (at - low)
    return out


def augmented_conv(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    sides = x.shape[2:]
    q, k, v = np.split(conv(x, sub(w, "conv_qkv")), 3, 1)
    d = q.shape[1] // o.heads
    names = "thw"[3 - len(sides) :]
    tables = [resize_linear(w[f"relative_{name}"], 2 * n - 1) for name, n in zip(names, sides, strict=True)]
    z = np.zeros(q.shape)
    for i in range(len(x)):
        for n in range(o.heads):
            part = slice(n * d, (n + 1) * d)
            for here in np.ndindex(*sides):
                query = q[(i, part, *here)]
                logits = np.zeros(sides)
                for there in np.ndindex(*sides):
                    key = k[(i, part, *there)].copy()
                    for table, a, b, side in zip(tables, here, there, sides, strict=True):
                        key += table[:, b - a + side - 1]
                    logits[there] = query @ key / np.sqrt(d)
                weights = softmax(logits.reshape(-1), 0)
                z[(i, part, *here)] = v[i, part].reshape(d, -1) @ weights
    attended = conv(z, sub(w, "project"))
    return np.concatenate([conv(x, sub(w, "conv")), attended], 1)


def dual_channel(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    out = np.zeros(x.shape)
    for i in range(len(x)):
        flat = x[i].reshape(x.shape[1], -1)
        energy = flat @ flat.T
        out[i] = (softmax(energy.max(1, keepdims=True) - energy, 1) @ flat).reshape(x.shape[1:])
    return x + w["gamma"] * out


def dual_position(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    qkv = conv(x, sub(w, "conv_qkv"))
    h = (qkv.shape[1] - x.shape[1]) // 2
    out = np.zeros(x.shape)
    for i in range(len(x)):
        q, k, v = (m.reshape(m.shape[0], -1).T for m in (qkv[i, :h], qkv[i, h : 2 * h], qkv[i, 2 * h :]))
        out[i] = attend(q, k, v, 1.0).T.reshape(x.shape[1:])
    return x + w["gamma"] * out


def global_context(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    b, c = x.shape[:2]
    weights = softmax(conv(x, sub(w, "attend")).reshape(b, -1), 1)
    context = (x.reshape(b, c, -1) * weights[:, None]).sum(2)
    y = linear(context, sub(w, "fc1"))
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
    y = relu(y * w["norm.weight"] + w["norm.bias"])
    return x + expand(linear(y, sub(w, "fc2")), x)


def coordinate(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    names = "thw"[5 - x.ndim :]
    directions = {"coordinate": names, "coordinate_h": "h", "coordinate_w": "w"}[o.name]
    pooled = [strip(x, names.index(axis) + 2) for axis in directions]
    y = batch_norm(conv(np.concatenate(pooled, 2), sub(w, "conv1")), sub(w, "norm"), o.train)
    y = y * np.clip(y + 3, 0, 6) / 6
    out, start = x, 0
    for axis, one in zip(directions, pooled, strict=True):
        gate = sigmoid(conv(y[:, :, start : start + one.shape[2]], sub(w, f"convs.{axis}")))
        start += one.shape[2]
        out = out * spread(gate, x, names.index(axis) + 2)
    return out


def triplet(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    """As published: rotate, pool the first axis, gate, rotate back, average. Of a clip, a branch for each of four axes."""
    if x.ndim == 5:
        total = np.zeros(x.shape)
        for n, axis in enumerate((2, 3, 4, 1)):
            pooled = np.stack([x.max(axis), x.mean(axis)], 1)
            gate = sigmoid(batch_norm(conv(pooled, sub(w, f"convs.{n}")), sub(w, f"norms.{n}"), o.train))
            total += x * np.expand_dims(gate[:, 0], axis)
        return total / 4

    def branch(rotated: Array, axes: str) -> Array:
        pooled = np.stack([rotated.max(1), rotated.mean(1)], 1)
        gate = sigmoid(batch_norm(conv(pooled, sub(w, f"convs.{axes}")), sub(w, f"norms.{axes}"), o.train))
        return rotated * gate

    swapped_h = branch(x.transpose(0, 2, 1, 3), "cw").transpose(0, 2, 1, 3)
    swapped_w = branch(x.transpose(0, 3, 2, 1), "hc").transpose(0, 3, 2, 1)
    return (swapped_h + swapped_w + branch(x, "hw")) / 3


def ela(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    def gate(strip: Array) -> Array:
        y = conv(strip, sub(w, "conv"), groups=strip.shape[1])
        return sigmoid(group_norm(y, sub(w, "norm"), np.gcd(16, strip.shape[1])))

    for axis, one in [(axis, gate(strip(x, axis))) for axis in range(2, x.ndim)]:
        x = x * spread(one, x, axis)
    return x


def simam(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    axes = tuple(range(2, x.ndim))
    d = (x - x.mean(axes, keepdims=True)) ** 2
    n = max(1, int(np.prod(x.shape[2:])) - 1)
    return x * sigmoid(d / (4 * (d.sum(axes, keepdims=True) / n + 1e-4)) + 0.5)


def shuffle_attention(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    c = x.shape[1]
    q, half = c // o.groups, c // o.groups // 2
    out = np.zeros(x.shape)
    for g in range(o.groups):
        first, second = x[:, g * q : g * q + half], x[:, g * q + half : (g + 1) * q]
        means = expand(w["channel_weight"] * mean_space(first) + w["channel_bias"], x)
        normed = group_norm(second, sub(w, "norm"), half)
        maps = expand(w["spatial_weight"], x) * normed + expand(w["spatial_bias"], x)
        out[:, g * q : g * q + half] = first * sigmoid(means)
        out[:, g * q + half : (g + 1) * q] = second * sigmoid(maps)
    return shuffle(out, 2)


def ema(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    q, sides = x.shape[1] // o.groups, x.shape[2:]
    y = x.reshape(-1, q, *sides)
    strips = np.concatenate([strip(y, axis) for axis in range(2, y.ndim)], 2)
    pooled = np.split(sigmoid(conv(strips, sub(w, "conv1"))), np.cumsum(sides)[:-1], 2)
    gated = y
    for axis, one in enumerate(pooled, start=2):
        gated = gated * spread(one, y, axis)
    x1 = group_norm(gated, sub(w, "norm"), q)
    x2 = conv(y, sub(w, "conv3"))
    gate = np.zeros((len(y), 1, *sides))
    for i in range(len(y)):
        first = softmax(mean_space(x1[i][None])[0], 0) @ x2[i].reshape(q, -1)
        second = softmax(mean_space(x2[i][None])[0], 0) @ x1[i].reshape(q, -1)
        gate[i, 0] = (first + second).reshape(sides)
    return (y * sigmoid(gate)).reshape(x.shape)


def gather_excite(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    c, sides = x.shape[1], x.shape[2:]
    e = o.extent
    y = x
    if o.name == "gather_excite_minus":
        if e == 0:
            y = expand(mean_space(x), x)
        else:
            y = np.zeros((*x.shape[:2], *(-(-side // e) for side in sides)))
            for place in np.ndindex(*y.shape[2:]):
                window = tuple(slice(max(0, i * e - e + 1), i * e + e) for i in place)
                y[(..., *place)] = mean_space(x[(..., *window)])
    else:
        steps = int(np.log2(e))
        for n in range(steps):
            y = conv(y, sub(w, f"gather.{3 * n}"), groups=c, stride=2)
            y = batch_norm(y, sub(w, f"gather.{3 * n + 1}"), o.train)
            y = relu(y) if n < steps - 1 else y
    if o.name == "gather_excite":
        y = conv(relu(conv(y, sub(w, "excite.0"))), sub(w, "excite.2"))
    for axis, side in enumerate(sides, start=2):
        y = y.take(np.arange(side) * y.shape[axis] // side, axis)
    return x * sigmoid(y)


def spatial_transformer(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    b, sides = len(x), np.array(x.shape[2:])
    dims = len(sides)
    y = relu(conv(x, sub(w, "reduce")))
    pooled = np.zeros((b, y.shape[1], *[4] * dims))
    for place in np.ndindex(*[4] * dims):
        window = tuple(slice(i * n // 4, -(-(i + 1) * n // 4)) for i, n in zip(place, sides, strict=True))
        pooled[(..., *place)] = mean_space(y[(..., *window)])
    theta = linear(pooled.reshape(b, -1), sub(w, "theta")).reshape(b, dims, dims + 1)
    out = np.zeros(x.shape)
    for n in range(b):
        for place in np.ndindex(*sides):
            target = (2 * np.array(place) + 1) / sides - 1
            source = (theta[n] @ np.append(target[::-1], 1.0))[::-1]  # theta has x first
            found = ((source + 1) * sides - 1) / 2
            for corner in np.ndindex(*[2] * dims):
                near = np.floor(found).astype(int) + corner
                if ((near >= 0) & (near < sides)).all():
                    out[(n, slice(None), *place)] += x[(n, slice(None), *near)] * np.prod(1 - np.abs(found - near))
    return out


def resize_each(x: Array, sides: tuple[int, ...]) -> Array:
    """Bilinear, and trilinear of clips: linear along one axis after the other."""
    for axis, side in enumerate(sides, start=2):
        last = np.moveaxis(x, axis, -1)
        x = np.moveaxis(resize_linear(last.reshape(-1, x.shape[axis]), side).reshape(*last.shape[:-1], side), -1, axis)
    return x


def max_pool(x: Array) -> Array:
    """3 x 3 (x 3), stride 2, padding 1."""
    padded = np.pad(x, [(0, 0), (0, 0)] + [(1, 1)] * (x.ndim - 2), constant_values=-np.inf)
    out = np.zeros((*x.shape[:2], *((side + 1) // 2 for side in x.shape[2:])))
    for place in np.ndindex(*out.shape[2:]):
        out[(..., *place)] = max_space(padded[(..., *(slice(2 * i, 2 * i + 3) for i in place))])
    return out


def residual_attention(x: Array, w: Weights, o: SimpleNamespace) -> Array:
    def layer(y: Array, name: str) -> Array:
        return relu(batch_norm(conv(y, sub(w, f"{name}.0")), sub(w, f"{name}.1"), o.train))

    half = layer(max_pool(layer(x, "enter")), "down1")
    quarter = layer(max_pool(half), "down2")
    skip = half + resize_each(quarter, half.shape[2:])
    mask = resize_each(layer(skip, "up1"), x.shape[2:])
    return x * (1 + sigmoid(conv(mask, sub(w, "leave"))))


# --- the table -----------------------------------------------------------------------------------------------------------
Part = tuple[Callable[[Array, Weights, SimpleNamespace], Array], Callable[[Array], Array]]
CHANNEL: dict[str, Part] = {
    "se": (se_logits, sigmoid),
    "eca": (eca_logits, sigmoid),
    "effective_se": (full_logits, hard_sigmoid),
    "parnet": (full_logits, sigmoid),
    "srm": (srm_logits, sigmoid),
    "fca": (fca_logits, sigmoid),
    "gct": (gct_logits, one_plus_tanh),
    "second_order": (second_order_logits, sigmoid),
    "cbam": (cbam_channel_logits, sigmoid),
    "bam": (bam_channel_logits, bam_gate),
    "gam": (gam_channel_logits, sigmoid),
    "aam": (aam_channel_logits, sigmoid),
    "scse": (se_logits, sigmoid),
    "gala": (se_logits, sigmoid),
}
SPATIAL: dict[str, Part] = {
    "cbam": (cbam_spatial_logits, sigmoid),
    "bam": (bam_spatial_logits, bam_gate),
    "gam": (gam_spatial_logits, sigmoid),
    "aam": (aam_spatial_logits, sigmoid),
    "scse": (scse_spatial_logits, sigmoid),
    "gala": (gala_spatial_logits, sigmoid),
    "strip": (strip_logits, sigmoid),
    "sge": (sge_logits, sigmoid),
    "lska": (lska_logits, identity),
    "pixel_attention": (pixel_logits, sigmoid),
}
MAPS = {("dual_attention", "channel"): dual_channel, ("dual_attention", "spatial"): dual_position}
WHOLE = {
    "double_attention": double_attention,
    "non_local": non_local,
    "self_attention": self_attention,
    "augmented_conv": augmented_conv,
    "global_context": global_context,
    "coordinate": coordinate,
    "coordinate_h": coordinate,
    "coordinate_w": coordinate,
    "triplet": triplet,
    "ela": ela,
    "simam": simam,
    "shuffle_attention": shuffle_attention,
    "ema": ema,
    "gather_excite": gather_excite,
    "gather_excite_theta": gather_excite,
    "gather_excite_minus": gather_excite,
    "spatial_transformer": spatial_transformer,
    "residual_attention": residual_attention,
}


def part(x: Array, w: Weights, o: SimpleNamespace, name: str, kind: str) -> Array:
    """The map that one part leaves."""
    if (name, kind) in MAPS:
        return MAPS[name, kind](x, w, o)
    logits, activate = (CHANNEL if kind == "channel" else SPATIAL)[name]
    if name == "gam" and kind == "channel" and not o.channel_gate:
        activate = identity
    return x * activate(logits(x, w, o))


def reference(name: str, x: Array, w: Weights, o: SimpleNamespace) -> Array:
    """The type or mix `name` on x, with genes, flags and mode in o."""
    if name in WHOLE:
        return WHOLE[name](x, w, o)
    first, plus, second = name.partition("+")
    second = second if plus else first
    if not plus and o.arrangement is None:
        return part(x, w, o, name, "channel" if name in CHANNEL else "spatial")
    wc, ws = sub(w, "channel"), sub(w, "spatial")
    if o.arrangement == "series":
        return part(part(x, wc, o, first, "channel"), ws, o, second, "spatial")
    gates = (first, "channel") not in MAPS and (second, "spatial") not in MAPS
    if second in ("bam", "gala") and gates:
        mc, ms = CHANNEL[first][0](x, wc, o), SPATIAL[second][0](x, ws, o)
        if second == "bam":
            return x * (1 + sigmoid(mc * ms if o.fusion == "product" else mc + ms))
        shape = (1, -1, *[1] * (x.ndim - 2))
        alpha, beta = w["alpha"].reshape(shape), w["beta"].reshape(shape)
        return x * (np.tanh if o.activation == "tanh" else sigmoid)(alpha * (ms + mc) + beta * ms * mc)
    maps = part(x, wc, o, first, "channel"), part(x, ws, o, second, "spatial")
    return np.maximum(*maps) if o.fusion == "max" else maps[0] + maps[1]
