"""A Gaussian process for accuracy over categorical genes and known costs, and the warp that makes accuracy Gaussian.

Shapes: N trials, K candidates, G genes, M costs (logarithms) and what else is a number, J levels. Warped
processes: Snelson et al., 2004; additive kernels: Duvenaud et al., 2011.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr

from search.samplers.censored import inverse, pseudo_observations

Array = NDArray[np.float64]
Genes = NDArray[np.int64]
Mask = NDArray[np.bool_]
JITTER = 1e-6
OFFSET = 0.25  # prior variance of what guesses of one level are wrong by together, in units of z squared
BLOCK = 60_000  # numbers of a kernel that are worked on at a time


def expected_excess(z: Array) -> Array:
    """E[(Z - z)+] of a standard normal Z."""
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) - z * ndtr(-z)


@dataclass(frozen=True)
class Warp:
    """A monotone map between accuracy a and the latent w = scale * z + shift that the process models with z.

    form 0: w = a. form 1: w = -log(bound - a), for accuracies that crowd below a ceiling. form -1: w = log(a - bound),
    for those that crowd above a floor. Each has the expected excess over a level in closed form (the formulas of
    Bachelier and of Black and Scholes).
    """

    form: int
    bound: float
    shift: float
    scale: float

    @classmethod
    def fit(cls, a_N: Array, form: int, gap: float) -> "Warp":
        """`gap`: how far the bound lies beyond the extreme of `a_N`, in standard deviations."""
        spread = float(a_N.std()) or 1.0
        bound = float(a_N.max() + gap * spread) if form == 1 else float(a_N.min() - gap * spread)
        w_N = cls(form, bound, 0.0, 1.0).latent(a_N)
        return cls(form, bound, float(w_N.mean()), float(w_N.std()) or 1.0)

    def latent(self, a_N: Array) -> Array:
        """z of each accuracy."""
        w_N = a_N if self.form == 0 else -np.log(self.bound - a_N) if self.form == 1 else np.log(a_N - self.bound)
        return (w_N - self.shift) / self.scale

    def accuracy(self, z_N: Array) -> Array:
        """The accuracy of each z (the median, under a Gaussian z)."""
        w_N = z_N * self.scale + self.shift
        return w_N if self.form == 0 else self.bound - np.exp(-w_N) if self.form == 1 else self.bound + np.exp(w_N)

    def log_slope(self, a_N: Array) -> float:
        """Sum of log dz/da: what turns a likelihood of z into one of the accuracies."""
        gap_N = np.ones_like(a_N) if self.form == 0 else np.abs(self.bound - a_N)
        return float(-np.log(gap_N).sum() - len(a_N) * np.log(self.scale))

    def excess(self, mean_K: Array, sd_K: Array, level_J: Array) -> Array:
        """E[(a - level)+] for z ~ N(mean, sd^2): (K,), (K,), (J,) -> (K, J)."""
        m_K1 = (mean_K * self.scale + self.shift)[:, None]
        s_K1 = (sd_K * self.scale)[:, None]
        if self.form == 0:
            return s_K1 * expected_excess((level_J - m_K1) / s_K1)
        below_J = np.maximum(self.bound - level_J, 0.0) * (self.form == -1)  # a floor, which every accuracy exceeds
        gap_J = np.maximum(np.abs(self.bound - level_J - below_J), 1e-300)
        d_KJ = (m_K1 + self.form * np.log(gap_J)) / s_K1
        if self.form == 1:
            put_KJ = gap_J * ndtr(d_KJ) - np.exp(np.minimum(-m_K1 + 0.5 * s_K1**2, 300)) * ndtr(d_KJ - s_K1)
            return np.clip(put_KJ, 0.0, None)
        call_KJ = np.exp(np.minimum(m_K1 + 0.5 * s_K1**2, 300)) * ndtr(d_KJ + s_K1) - gap_J * ndtr(d_KJ)
        return np.clip(call_KJ, 0.0, None) + below_J


WARPS = [
    (0, 0.0),
    *((1, gap) for gap in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)),
    *((-1, gap) for gap in (0.05, 0.2, 0.5, 1.0)),
]
FIRST_WARP = (1, 0.2)


def one_hot(genes_NG: Genes, values: list[Genes], dtype: type[np.floating[Any]] = np.float64) -> NDArray[Any]:
    """Indicators of each gene's values, which rise, side by side: (N, all values)."""
    out = np.zeros((len(genes_NG), sum(len(v) for v in values)), dtype=dtype)
    start = 0
    for g, v in enumerate(values):
        place_N = np.minimum(np.searchsorted(v, genes_NG[:, g]), len(v) - 1)
        there = np.flatnonzero(v[place_N] == genes_NG[:, g])
        out[there, start + place_N[there]] = 1.0
        start += len(v)
    return out


class Surrogate:
    """GP with kernel k = main effects + interactions + a smooth trend over the costs + noise:

    k(x, x') = sum_g a_g [x_g = x'_g] + s_p exp(-sum_g l_g [x_g != x'_g] - sum_m q_m d_m^2 / 2)
               + s_c exp(-sum_m t_m d_m^2 / 2) + noise,   d_m = difference of the standardised log cost m.

    All factors are positive, held as logarithms under normal priors (MAP, analytic gradients). The prior gives the main
    effects and the trend half of the variance each: few trials must first learn what each gene is worth. `learn` fits
    factors and warp, `condition` takes the data in.

    An accuracy has a level: 0 where it was measured, 1 to `levels` where it is a guess, from a training that was ended after
    so many epochs. Guesses of one level share an offset, unknown but for its variance, and have a noise of their own
    (Swersky et al., 2014, with rungs in place of a curve). Of an accuracy that is censored the model takes no more than that
    it is at most so high, see censored.py; the warp is chosen by the others.
    """

    def __init__(self, genes: int, costs: int, *, levels: int = 0, noisy: bool = False) -> None:
        self.g, self.m, self.levels = genes, costs, levels
        one, each = np.ones(costs), np.ones(genes)
        # order: a_G, l_G, q_M, t_M, s_p, s_c, noise at each level
        self.prior = np.concatenate(
            [
                np.log(0.5 / max(genes, 1)) * each,
                np.log(2.0 / max(genes, 1)) * each,
                np.log(0.3 / max(costs, 1)) * one,
                np.log(1.0 / max(costs, 1)) * one,
                np.log([0.5, 0.5, 0.03 if noisy else 1e-3, *[0.3] * levels]),
            ]
        )
        self.width = np.ones_like(self.prior)
        self.width[2 * (genes + costs) + 2 :] = 2.0
        self.theta = self.prior.copy()
        self.warp_choice = FIRST_WARP

    def _split(self, theta: Array) -> tuple[Array, Array, Array, Array, float, float, Array]:
        g, m, e = self.g, self.m, np.exp(theta)
        s_p, s_c, *_ = scales = e[2 * (g + m) :]
        return e[:g], e[g : 2 * g], e[2 * g : 2 * g + m], e[2 * g + m : 2 * (g + m)], s_p, s_c, scales[2:]

    def kernel(
        self, genes_KG: Genes, costs_KM: Array, genes_NG: Genes, costs_NM: Array, *, rough: bool = False
    ) -> Array:
        """k without noise, (K, N): three matrix products, block by block of what a cache holds.

        ``rough``: in single precision, a third of the time, for the order of many candidates.
        """
        dtype = np.float32 if rough else np.float64
        a_G, l_G, q_M, t_M, s_p, s_c, _ = self._split(self.theta)
        values = [np.unique(genes_NG[:, g]) for g in range(self.g)]  # a value of candidates alone equals no trial's
        hot_K, hot_N = one_hot(genes_KG, values, dtype), one_hot(genes_NG, values)
        sizes = [len(v) for v in values]
        # Differing genes and distances in cost are sums over features, so each exponent is one product.
        same_N = hot_N * np.repeat(l_G, sizes)
        near_K, near_N = _distance_features(costs_KM, costs_NM, q_M)
        trend_K, trend_N = _distance_features(costs_KM, costs_NM, t_M)
        product_N = np.hstack([same_N, near_N]).T.astype(dtype, copy=False)
        main_N = (hot_N * np.repeat(a_G, sizes)).T.astype(dtype, copy=False)
        product_K = np.hstack([hot_K, near_K.astype(dtype, copy=False)])
        trend_K, trend_N = trend_K.astype(dtype, copy=False), trend_N.astype(dtype, copy=False)
        out_KN = np.empty((len(genes_KG), len(genes_NG)))
        for part in _blocks(len(genes_KG), len(genes_NG)):
            k_BN = product_K[part] @ product_N
            k_BN += np.log(s_p) - l_G.sum()
            np.exp(k_BN, out=k_BN)
            c_BN = trend_K[part] @ trend_N.T
            c_BN += np.log(s_c)
            k_BN += np.exp(c_BN, out=c_BN)
            k_BN += hot_K[part] @ main_N
            out_KN[part] = k_BN
        return out_KN

    def learn(
        self,
        genes_NG: Genes,
        costs_NM: Array,
        a_N: Array,
        level_N: Genes,
        censored_N: Mask | None = None,
        *,
        steps: int = 20,
    ) -> None:
        """Fit the factors to accuracies (N,) under the current warp, then take the warp of the highest likelihood."""
        n = len(a_N)
        same_GNN = (genes_NG.T[:, :, None] == genes_NG.T[:, None, :]).astype(float).reshape(self.g, n * n)
        d2_MNN = ((costs_NM.T[:, :, None] - costs_NM.T[:, None, :]) ** 2).reshape(self.m, n * n)
        z_N = Warp.fit(a_N, *self.warp_choice).latent(a_N)
        value_N, variance_N = self._observed(genes_NG, costs_NM, z_N, level_N, censored_N)
        found = minimize(
            self._loss,
            self.theta,
            args=(same_GNN, d2_MNN, value_N, level_N, variance_N),
            jac=True,
            method="L-BFGS-B",
            bounds=[(p - 8, p + 8) for p in self.prior],
            options={"maxiter": steps, "maxfun": 2 * steps},
        )
        self.theta = found.x
        exact_N = np.ones(n, dtype=bool) if censored_N is None else ~censored_N
        chol_NN = cholesky(self._covariance(genes_NG[exact_N], costs_NM[exact_N], level_N[exact_N]), lower=True)

        def likelihood(choice: tuple[int, float]) -> float:
            warp = Warp.fit(a_N, *choice)
            white_N = solve_triangular(chol_NN, warp.latent(a_N[exact_N]), lower=True)
            return float(-0.5 * white_N @ white_N + warp.log_slope(a_N[exact_N]))

        self.warp_choice = max(WARPS, key=likelihood)

    def _covariance(self, genes_NG: Genes, costs_NM: Array, level_N: Genes) -> Array:
        """Covariance (N, N) of accuracies, with what their levels add."""
        *_, noise_L = self._split(self.theta)
        k_NN = self.kernel(genes_NG, costs_NM, genes_NG, costs_NM) + _offsets(level_N)
        k_NN[np.diag_indices(len(k_NN))] += noise_L[level_N] + JITTER
        return k_NN

    def _observed(
        self, genes_NG: Genes, costs_NM: Array, z_N: Array, level_N: Genes, censored_N: Mask | None
    ) -> tuple[Array, Array]:
        """What stands for z (N,), and its variance besides the noise (N,), where some z are only known to be at most so."""
        if censored_N is None or not censored_N.any():
            return z_N, np.zeros(len(z_N))
        return pseudo_observations(self._covariance(genes_NG, costs_NM, level_N), z_N, censored_N)

    def _loss(
        self, theta: Array, same_GNN: Array, d2_MNN: Array, z_N: Array, level_N: Genes, variance_N: Array
    ) -> tuple[float, Array]:
        """Negative log posterior of the factors and its gradient; `variance_N` is added to the noise."""
        n = len(z_N)
        a_G, l_G, q_M, t_M, s_p, s_c, noise_L = self._split(theta)
        product_NN = s_p * np.exp(l_G @ same_GNN - l_G.sum() - 0.5 * (q_M @ d2_MNN))
        trend_NN = s_c * np.exp(-0.5 * (t_M @ d2_MNN))
        k_NN = (a_G @ same_GNN + product_NN + trend_NN).reshape(n, n) + _offsets(level_N)
        k_NN[np.diag_indices(n)] += noise_L[level_N] + JITTER + variance_N
        chol_NN = np.linalg.cholesky(k_NN)
        inverse_NN = inverse(chol_NN)
        alpha_N = inverse_NN @ z_N
        weight_NN = 0.5 * (inverse_NN - np.outer(alpha_N, alpha_N))
        weight = weight_NN.ravel()
        by_product, by_trend = weight * product_NN, weight * trend_NN
        gradient = np.concatenate(
            [
                (same_GNN @ weight) * a_G,
                (same_GNN @ by_product - by_product.sum()) * l_G,
                -0.5 * (d2_MNN @ by_product) * q_M,
                -0.5 * (d2_MNN @ by_trend) * t_M,
                [by_product.sum(), by_trend.sum()],
                np.bincount(level_N, np.diag(weight_NN), self.levels + 1) * noise_L,
            ]
        )
        off = (theta - self.prior) / self.width
        loss = 0.5 * z_N @ alpha_N + np.log(np.diag(chol_NN)).sum() + 0.5 * off @ off
        return float(loss), gradient + off / self.width

    def condition(
        self, genes_NG: Genes, costs_NM: Array, a_N: Array, level_N: Genes, censored_N: Mask | None = None
    ) -> None:
        """The posterior given accuracies (N,), with the factors and the form of warp as they were learned."""
        self.warp = Warp.fit(a_N, *self.warp_choice)
        z_N = self.warp.latent(a_N)
        z_N, variance_N = self._observed(genes_NG, costs_NM, z_N, level_N, censored_N)
        self._set(genes_NG, costs_NM, z_N, level_N, variance_N)

    def believe(self, genes_PG: Genes, costs_PM: Array) -> Array:
        """Take pending candidates in as if they came out at their mean (kriging believer); returns that z (P,)."""
        mean_P = self.mean(genes_PG, costs_PM)
        self._set(
            np.vstack([self._genes_NG, genes_PG]),
            np.vstack([self._costs_NM, costs_PM]),
            np.concatenate([self._z_N, mean_P]),
            np.concatenate([self._level_N, np.zeros(len(mean_P), dtype=np.int64)]),
            np.concatenate([self._variance_N, np.zeros(len(mean_P))]),
        )
        return mean_P

    def _set(self, genes_NG: Genes, costs_NM: Array, z_N: Array, level_N: Genes, variance_N: Array) -> None:
        self._genes_NG, self._costs_NM, self._z_N, self._level_N = genes_NG, costs_NM, z_N, level_N
        self._variance_N = variance_N
        k_NN = self._covariance(genes_NG, costs_NM, level_N)
        k_NN[np.diag_indices(len(k_NN))] += variance_N
        self._chol_NN = cholesky(k_NN, lower=True, overwrite_a=True, check_finite=False)
        self._alpha_N = cho_solve((self._chol_NN, True), z_N)

    def mean(self, genes_KG: Genes, costs_KM: Array, *, rough: bool = False) -> Array:
        """Mean of z, (K,), without ever holding K x N numbers: candidates and trials may both be many."""
        known = self._genes_NG, self._costs_NM
        blocks = _blocks(len(genes_KG), len(self._z_N), 16 * BLOCK)
        means = [self.kernel(genes_KG[b], costs_KM[b], *known, rough=rough) @ self._alpha_N for b in blocks]
        return np.concatenate([np.zeros(0), *means])

    def predict(self, genes_KG: Genes, costs_KM: Array, *, rough: bool = False) -> tuple[Array, Array]:
        """Mean and standard deviation of z, without noise: (K,), (K,)."""
        k_KN = self.kernel(genes_KG, costs_KM, self._genes_NG, self._costs_NM, rough=rough)
        white_NK = solve_triangular(self._chol_NN, k_KN.T, lower=True, check_finite=False)
        a_G, *_, s_p, s_c, _ = self._split(self.theta)
        variance_K = a_G.sum() + s_p + s_c - np.einsum("nk,nk->k", white_NK, white_NK)
        return k_KN @ self._alpha_N, np.sqrt(np.maximum(variance_K, 1e-10))

    def draw(self, genes_KG: Genes, costs_KM: Array, count: int, rng: np.random.Generator) -> Array:
        """So many draws of the z of all candidates together, without noise: (S, K). For few: it holds K x K numbers."""
        k_KN = self.kernel(genes_KG, costs_KM, self._genes_NG, self._costs_NM)
        white_NK = solve_triangular(self._chol_NN, k_KN.T, lower=True, check_finite=False)
        k_KK = self.kernel(genes_KG, costs_KM, genes_KG, costs_KM) - white_NK.T @ white_NK
        values_K, vectors_KK = np.linalg.eigh(k_KK)
        root_KK = vectors_KK * np.sqrt(np.maximum(values_K, 0.0))
        return k_KN @ self._alpha_N + rng.standard_normal((count, len(genes_KG))) @ root_KK.T


def _offsets(level_N: Genes) -> Array:
    """Covariance (N, N) that guesses of one level have because they are wrong together."""
    return OFFSET * ((level_N[:, None] == level_N) & (level_N > 0))


def _blocks(rows: int, columns: int, numbers: int = BLOCK) -> list[slice]:
    """Consecutive rows, together all of them, that make blocks of about so many numbers."""
    step = max(1, numbers // max(columns, 1))
    return [slice(start, start + step) for start in range(0, rows, step)]


def _distance_features(costs_KM: Array, costs_NM: Array, factor_M: Array) -> tuple[Array, Array]:
    """Features (K, M + 2) and (N, M + 2) whose products are minus half the weighted squared distances."""
    left, right = costs_KM * np.sqrt(factor_M), costs_NM * np.sqrt(factor_M)
    one_K, one_N = np.ones((len(left), 1)), np.ones((len(right), 1))
    half_K, half_N = -0.5 * (left**2).sum(axis=1)[:, None], -0.5 * (right**2).sum(axis=1)[:, None]
    return np.hstack([left, half_K, one_K]), np.hstack([right, one_N, half_N])
