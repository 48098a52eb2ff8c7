"""Reconstruction from scratch: what an attacker without prior knowledge can rebuild from noisy gradients.

Riess et al. (2024), "From mean to extreme", arXiv 2402.12861. A malicious network whose gradient is the record turns
DP-SGD into "the record plus Gaussian noise". That observation is the best unbiased attack. It is no limit on attackers
in general: shrinking it, or an image of zeros, can come closer, and stands beside it everywhere here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from reticent.accounting import chi_squared
from reticent.accounting.checks import require_open, require_steps
from reticent.accounting.roots import root
from reticent.accounting.sensitivity_index import require_within
from reticent.errors import InputError

FloatArray = npt.NDArray[np.float64]
Numbers = Sequence[float] | FloatArray
Estimator = Literal["unbiased", "shrinkage"]


class AttackSuccess(NamedTuple):
    """One attack: its expected mean squared error, and the probability of an error of at most eta."""

    attack: str
    expected_mse: float
    probability: float


@dataclass(frozen=True)
class FromScratchAttack:
    """Law of the mean squared error (MSE) of the attacker who sees a record x in R^N plus noise of std v^(1/2).

    v = sigma^2 r^2 / T with sigma the noise multiplier, r the record's norm and T the observations (steps in which the
    attacker knows the record took part). The clipping norm C cancels if the attacker's layer has M >= (C/r)^2 rows,
    as it will; for fewer `rows` at `max_norm`, v = sigma^2 C^2 / (M T). r is assumed known to the attacker.

    `estimator` "unbiased": the observation itself, the best unbiased attack; MSE ~ Gamma(N/2, scale 2 v / N).
    "shrinkage": the observation times c = r^2 / (r^2 + N v); MSE ~ c^2 v / N times noncentral chi^2_N(N^2 v / r^2).
    The smaller a record's norm, the better the attack: over a data set, take the smallest. Errors are in the units of
    `record_norm` and `data_range`, those that the network was fed. Raises `InputError` for a number out of range.
    """

    n_dims: int
    noise_multiplier: float
    record_norm: float
    data_range: float = 1.0
    observations: int = 1
    estimator: Estimator = "unbiased"
    rows: int | None = None
    max_norm: float | None = None

    def __post_init__(self) -> None:
        require_steps(self.n_dims, "n_dims")
        require_steps(self.observations, "observations")
        for name in ("noise_multiplier", "record_norm", "data_range"):
            require_open(name, getattr(self, name), 0.0, math.inf)
        if self.estimator not in ("unbiased", "shrinkage"):
            raise InputError(f'estimator is {self.estimator!r}; give "unbiased" or "shrinkage"')
        if (self.rows is None) != (self.max_norm is None):
            raise InputError(f"rows is {self.rows!r} and max_norm {self.max_norm!r}; give both or neither")
        if self.rows is not None and self.max_norm is not None:
            require_steps(self.rows, "rows")
            require_open("max_norm", self.max_norm, 0.0, math.inf)

    @property
    def noise_variance(self) -> float:
        """Variance v of each coordinate of the observation."""
        reach = self.record_norm
        if self.rows is not None and self.max_norm is not None:
            reach = max(reach, self.max_norm / math.sqrt(self.rows))
        return (self.noise_multiplier * reach) ** 2 / self.observations

    @property
    def zeros_mse(self) -> float:
        """MSE of the trivial attacker who always answers with zeros: r^2 / N, whatever the noise."""
        return self.record_norm**2 / self.n_dims

    @property
    def _scale(self) -> float:
        """What a (noncentral) chi^2_N variable is multiplied by to give the MSE."""
        return self._factor**2 * self.noise_variance / self.n_dims

    @property
    def _factor(self) -> float:
        if self.estimator == "unbiased":
            return 1.0
        return self.record_norm**2 / (self.record_norm**2 + self.n_dims * self.noise_variance)

    @property
    def _noncentrality(self) -> float:
        if self.estimator == "unbiased":
            return 0.0
        return self.n_dims**2 * self.noise_variance / self.record_norm**2

    def expected_mse(self) -> float:
        """v, or v / (1 + N v / r^2) with shrinkage, which is always below r^2 / N."""
        return self._factor * self.noise_variance

    @overload
    def log_mse_cdf(self, eta: float) -> float: ...
    @overload
    def log_mse_cdf(self, eta: Numbers) -> FloatArray: ...
    def log_mse_cdf(self, eta: float | Numbers) -> float | FloatArray:
        """log P(MSE <= eta), finite for every eta > 0 however unlikely."""
        squares = _positive("eta", eta) / self._scale
        logs = [chi_squared.log_cdf(float(x), self.n_dims, self._noncentrality) for x in squares.flat]
        return np.reshape(logs, squares.shape) if squares.ndim else logs[0]

    @overload
    def mse_cdf(self, eta: float) -> float: ...
    @overload
    def mse_cdf(self, eta: Numbers) -> FloatArray: ...
    def mse_cdf(self, eta: float | Numbers) -> float | FloatArray:
        """P(MSE <= eta); 0 means below 1e-323, never impossible."""
        logs = self.log_mse_cdf(eta)
        return np.exp(logs) if isinstance(logs, np.ndarray) else math.exp(logs)

    def mse_ppf(self, p: float) -> float:
        """The eta with P(MSE <= eta) = p, 0 < p < 1."""
        require_open("p", p, 0.0, 1.0)
        return self._scale * chi_squared.quantile(p, self.n_dims, self._noncentrality)

    @overload
    def psnr_sf(self, psi: float) -> float: ...
    @overload
    def psnr_sf(self, psi: Numbers) -> FloatArray: ...
    def psnr_sf(self, psi: float | Numbers) -> float | FloatArray:
        """P(PSNR >= psi), psi in dB: PSNR = 10 log10(data_range^2 / MSE)."""
        eta = self.data_range**2 * 10 ** (-np.asarray(psi, dtype=np.float64) / 10)
        return self.mse_cdf(eta) if eta.ndim else self.mse_cdf(float(eta))

    def correlation(self, pixel_variance: float | None = None) -> float:
        """About sqrt(s^2 / (s^2 + v)): correlation of record and reconstruction, which shrinking leaves alone.

        s^2 is the variance over the record's pixels; default r^2 / N, a record of mean zero.
        """
        variance = self.zeros_mse if pixel_variance is None else pixel_variance
        require_within("pixel_variance", variance, 0.0, math.inf)
        return math.sqrt(variance / (variance + self.noise_variance))

    def beside(self, eta: float) -> list[AttackSuccess]:
        """The best unbiased attack, norm-informed shrinkage, and the image of zeros, at one eta."""
        unbiased, shrinkage = replace(self, estimator="unbiased"), replace(self, estimator="shrinkage")
        return [
            AttackSuccess("best unbiased attack", unbiased.expected_mse(), unbiased.mse_cdf(eta)),
            AttackSuccess("norm-informed shrinkage", shrinkage.expected_mse(), shrinkage.mse_cdf(eta)),
            AttackSuccess("image of zeros", self.zeros_mse, float(eta >= self.zeros_mse)),
        ]


@dataclass(frozen=True)
class ReconstructionNoise:
    """Noise multipliers at which an MSE of at most `eta` has probability `gamma`, one for each attack.

    `shrinkage` is infinite from eta = r^2 / N on, where an image of zeros succeeds whatever the noise.
    """

    gamma: float
    eta: float
    unbiased: float
    shrinkage: float
    zeros_mse: float

    def reading(self) -> str:
        """The three attacks in one sentence."""
        shrunk = f"norm-informed shrinkage at {self.shrinkage:.4g}"
        if self.eta >= self.zeros_mse:
            shrunk = "an image of zeros gets there always, whatever the noise"
        return (
            f"The best unbiased attack from scratch reaches an MSE of {self.eta:.3g} in {100 * self.gamma:.3g} % of "
            f"attempts at noise multiplier {self.unbiased:.4g}, less often above; {shrunk}. An image of zeros has MSE "
            f"{self.zeros_mse:.3g}. An attacker with prior knowledge may do better than all of these."
        )


def noise_for_reconstruction(
    gamma: float,
    n_dims: int,
    record_norm: float,
    eta: float | None = None,
    psnr: float | None = None,
    data_range: float = 1.0,
    observations: int = 1,
    rows: int | None = None,
    max_norm: float | None = None,
) -> ReconstructionNoise:
    """Noise that leaves an MSE of at most `eta`, or a PSNR of at least `psnr` dB, probability `gamma`.

    Unbiased: sigma = sqrt(N T eta / (2 gammaincinv(N/2, gamma))) / r, with max(r, C / sqrt(M)) for r if `rows` and
    `max_norm` are given; shrinkage by root finding. See `FromScratchAttack` for the other arguments.
    """
    require_open("gamma", gamma, 0.0, 1.0)
    attack = FromScratchAttack(n_dims, 1.0, record_norm, data_range, observations, "unbiased", rows, max_norm)
    error = _wanted_mse(eta, psnr, data_range)
    require_open("eta", error, 0.0, math.inf)
    unbiased = math.sqrt(error / attack.mse_ppf(gamma))
    shrinkage = _shrinkage_noise(replace(attack, estimator="shrinkage", noise_multiplier=unbiased), gamma, error)
    return ReconstructionNoise(gamma, error, unbiased, shrinkage, attack.zeros_mse)


def _wanted_mse(eta: float | None, psnr: float | None, data_range: float) -> float:
    if eta is not None and psnr is None:
        return eta
    if psnr is not None and eta is None:
        return data_range**2 * 10 ** (-psnr / 10)
    raise InputError(f"eta is {eta!r} and psnr {psnr!r}; give one of them")


def _shrinkage_noise(start: FromScratchAttack, gamma: float, eta: float) -> float:
    if eta >= start.zeros_mse:
        return math.inf

    def excess(log_noise: float) -> float:
        return replace(start, noise_multiplier=math.exp(log_noise)).log_mse_cdf(eta) - math.log(gamma)

    low = high = math.log(start.noise_multiplier)
    while excess(high) > 0:
        high += 0.7
    while excess(low) < 0:
        low -= 0.7
    return math.exp(root(excess, low, high, xtol=1e-13, rtol=1e-13))


def _positive(name: str, numbers: float | Numbers) -> FloatArray:
    values = np.asarray(numbers, dtype=np.float64)
    for value in values[~((values > 0) & (values < math.inf))].flat:
        require_open(name, float(value), 0.0, math.inf)
    return values
