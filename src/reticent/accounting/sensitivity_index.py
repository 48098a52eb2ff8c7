"""The sensitivity index psi of the Gaussian mechanism, and its conversion from and to every other privacy number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, overload

import numpy as np
import numpy.typing as npt
from scipy.special import erfinv, log_ndtr, ndtr, ndtri, ndtri_exp

from reticent.accounting import gaussian
from reticent.accounting.checks import require_open, require_sampling_rate, require_steps
from reticent.accounting.values import Estimate
from reticent.errors import InputError

FloatArray = npt.NDArray[np.float64]
Rates = Sequence[float] | FloatArray


@dataclass(frozen=True)
class SensitivityIndex:
    """psi = sensitivity / noise std: how many standard deviations apart a person's presence and absence look.

    psi is the detectability index d' of signal detection and the mu of Gaussian differential privacy; a Gaussian
    mechanism is psi-GDP exactly (Kaissis et al., 2021, arXiv 2109.10528; Dong, Roth and Su, 2022). 0 is perfect privacy
    and infinity none. A run that samples its batches is not a Gaussian mechanism.

    Raises `InputError`, as do all methods, for a number out of range.
    """

    psi: float

    def __post_init__(self) -> None:
        require_within("psi", self.psi, 0.0, math.inf)

    @classmethod
    def from_sigma(cls, sensitivity: float, std: float) -> Self:
        """Of a query of L2 `sensitivity` with N(0, std^2) noise in every coordinate, both in the same unit."""
        require_within("std", std, 0.0, math.inf)
        if not 0 <= sensitivity < math.inf:
            raise InputError(f"sensitivity is {sensitivity!r}; give a finite number of at least 0")
        if sensitivity == 0:
            return cls(0.0)
        return cls(sensitivity / std if std else math.inf)

    @classmethod
    def from_noise_multiplier(cls, noise_multiplier: float, steps: int = 1, sampling_rate: float = 1.0) -> Self:
        """Of `steps` noisy sums over everybody, noise std in units of the clipping norm: psi = sqrt(steps) / z.

        One person is added or removed; replacing one doubles the sensitivity, hence psi. A sampling rate below 1 is
        refused.
        """
        require_within("noise_multiplier", noise_multiplier, 0.0, math.inf)
        require_steps(steps)
        require_sampling_rate(sampling_rate)
        if sampling_rate < 1:
            raise InputError(
                f"sampling_rate is {sampling_rate!r}; only 1 gives a Gaussian mechanism: use SubsampledGaussian for a "
                "guarantee, or central_limit_psi for an estimate"
            )
        return cls(math.sqrt(steps) / noise_multiplier if noise_multiplier else math.inf)

    @classmethod
    def from_epsilon_delta(cls, epsilon: float, delta: float) -> Self:
        """The psi whose profile passes through (epsilon, delta), epsilon >= 0 and 0 < delta < 1."""
        if not 0 <= epsilon < math.inf:
            raise InputError(f"epsilon is {epsilon!r}; give a finite number of at least 0")
        require_open("delta", delta, 0.0, 1.0)
        if epsilon == 0:
            return cls.from_advantage(delta)
        return cls(_psi_through(epsilon, delta))

    @classmethod
    def from_auc(cls, auc: float) -> Self:
        """From the area under the best attacker's ROC curve, 0.5 to 1: psi = sqrt(2) Phi^-1(auc)."""
        require_within("auc", auc, 0.5, 1.0)
        return cls(float(2 * erfinv(2 * auc - 1)))

    @classmethod
    def from_advantage(cls, advantage: float) -> Self:
        """From the largest TPR - FPR of any test, 0 to 1: psi = 2 Phi^-1((1 + advantage) / 2)."""
        require_within("advantage", advantage, 0.0, 1.0)
        return cls(math.sqrt(8) * float(erfinv(advantage)))

    @classmethod
    def from_error_rates(cls, fpr: float, tpr: float) -> Self:
        """From one point of the best attacker's ROC curve: psi = Phi^-1(tpr) - Phi^-1(fpr), tpr >= fpr."""
        require_open("fpr", fpr, 0.0, 1.0)
        require_open("tpr", tpr, 0.0, 1.0)
        require_within("tpr", tpr, fpr, 1.0)
        return cls(float(ndtri(tpr) - ndtri(fpr)))

    @classmethod
    def from_zcdp(cls, rho: float) -> Self:
        """From zero-concentrated differential privacy: psi = sqrt(2 rho)."""
        require_within("rho", rho, 0.0, math.inf)
        return cls(math.sqrt(2 * rho))

    @classmethod
    def from_covariance(cls, difference: npt.ArrayLike, covariance: npt.ArrayLike) -> Self:
        """Of noise N(0, S) on a vector: psi = ||S^(-1/2) d||, d the largest difference a person can make.

        `difference` has shape (n,), `covariance` S (n, n). Infinite if d reaches a direction without noise.
        """
        return cls(_mahalanobis(np.asarray(difference, dtype=float), np.asarray(covariance, dtype=float)))

    @property
    def auc(self) -> float:
        """Area under the best attacker's ROC curve, Phi(psi / sqrt(2)): its average over all false-alarm rates."""
        return float(ndtr(self.psi / math.sqrt(2)))

    @property
    def advantage(self) -> float:
        """Largest TPR - FPR of any test (Youden's J, total variation, delta at epsilon 0): 2 Phi(psi/2) - 1."""
        return gaussian.advantage(self.psi)

    @property
    def kl(self) -> float:
        """Kullback-Leibler divergence psi^2 / 2, in either order."""
        return self.psi**2 / 2

    @property
    def zcdp(self) -> float:
        """rho of zero-concentrated differential privacy, psi^2 / 2."""
        return self.psi**2 / 2

    @property
    def bhattacharyya(self) -> float:
        """Bhattacharyya coefficient exp(-psi^2 / 8); one minus it is the squared Hellinger distance."""
        return math.exp(-(self.psi**2) / 8)

    def renyi(self, order: float) -> float:
        """Rényi divergence of real order > 0: order psi^2 / 2 (Mironov, 2017)."""
        require_open("order", order, 0.0, math.inf)
        return order * self.psi**2 / 2

    def log_delta(self, epsilon: float) -> float:
        """Logarithm of delta(epsilon) for any real epsilon, also a negative one."""
        if not math.isfinite(epsilon):
            raise InputError(f"epsilon is {epsilon!r}; give a finite number")
        if self.psi == 0:
            return math.log(-math.expm1(epsilon)) if epsilon < 0 else -math.inf
        with np.errstate(over="ignore", invalid="ignore"):
            value = float(gaussian.log_delta(self.psi, epsilon))
        return -math.inf if math.isnan(value) else value  # epsilon / psi is too large for a float

    def delta(self, epsilon: float) -> float:
        """delta(epsilon) for any real epsilon."""
        return math.exp(self.log_delta(epsilon))

    def epsilon(self, delta: float) -> float:
        """Smallest epsilon >= 0 at which the mechanism is (epsilon, delta)-private, for 0 < delta < 1."""
        require_open("delta", delta, 0.0, 1.0)
        return gaussian.epsilon_at(self.psi, delta)

    @overload
    def tradeoff(self, fpr: float) -> float: ...
    @overload
    def tradeoff(self, fpr: Rates) -> FloatArray: ...
    def tradeoff(self, fpr: float | Rates) -> float | FloatArray:
        """Smallest share of missed participants at false-alarm rate(s) `fpr`: Phi(Phi^-1(1 - fpr) - psi)."""
        rates = rates_within("fpr", fpr)
        missed = np.zeros_like(rates) if math.isinf(self.psi) else gaussian.type_two_error(self.psi, rates)
        return missed if missed.ndim else float(missed)

    @overload
    def roc(self, fpr: float) -> float: ...
    @overload
    def roc(self, fpr: Rates) -> FloatArray: ...
    def roc(self, fpr: float | Rates) -> float | FloatArray:
        """Largest share of participants recognised at false-alarm rate(s) `fpr`: Phi(psi + Phi^-1(fpr))."""
        rates = rates_within("fpr", fpr)
        power = np.ones_like(rates) if math.isinf(self.psi) else np.asarray(ndtr(self.psi + ndtri(rates)))
        return power if power.ndim else float(power)

    def log_roc(self, log_fpr: float) -> float:
        """Logarithm of the ROC curve, for false-alarm rates too small to be written as a float."""
        require_open("log_fpr", log_fpr, -math.inf, 0.0)
        return float(log_ndtr(self.psi + ndtri_exp(log_fpr)))

    def compose(self, *others: Self) -> Self:
        """Of all these releases about the same person together, also chosen adaptively: sqrt(sum psi_i^2)."""
        return type(self)(math.hypot(self.psi, *(other.psi for other in others)))

    def group(self, k: int) -> Self:
        """For k people who appear or disappear together: k psi."""
        require_steps(k, "k")
        return type(self)(k * self.psi)

    def noise_std(self, sensitivity: float) -> float:
        """Noise standard deviation sensitivity / psi that gives a query of this L2 sensitivity (> 0) the index."""
        require_open("sensitivity", sensitivity, 0.0, math.inf)
        return sensitivity / self.psi if self.psi else math.inf

    def bayes_error(self, prior: float) -> float:
        """Smallest error of any attacker who holds membership (or absence: it is symmetric) for `prior` likely.

        (1 - w)(1 - delta(log(w / (1 - w)))) = w Phi(-t) + (1 - w) Phi(t - psi), t = psi/2 + log(w / (1 - w)) / psi.
        """
        require_within("prior", prior, 0.0, 1.0)
        if prior in (0.0, 1.0) or math.isinf(self.psi):
            return 0.0
        if self.psi == 0:
            return min(prior, 1 - prior)
        threshold = self.psi / 2 + (math.log(prior) - math.log1p(-prior)) / self.psi
        return float(prior * ndtr(-threshold) + (1 - prior) * ndtr(threshold - self.psi))

    def interpret(self, fpr: float = 0.01) -> str:
        """What psi means, in one sentence for a clinician; shares are rounded up."""
        require_open("fpr", fpr, 0.0, 1.0)
        guess = f"{100 * fpr:.3g} %"
        return (
            f"The best possible attacker who wrongly accuses {guess} of all outsiders recognises "
            f"{_percent_up(self.roc(fpr))} % of the participants (by guessing: {guess}); shown one of each, it tells "
            f"who took part in {_percent_up(self.auc)} % of cases (by guessing: 50 %)."
        )


def central_limit_psi(noise_multiplier: float, sampling_rate: float, steps: int) -> Estimate:
    """q sqrt(T (e^(1/z^2) - 1)) for Poisson-sampled steps (Dong, Roth and Su, 2022): an estimate, often too small."""
    require_open("noise_multiplier", noise_multiplier, 0.0, math.inf)
    require_sampling_rate(sampling_rate)
    require_steps(steps)
    exponent = noise_multiplier**-2
    variance = math.expm1(exponent) if exponent < 700 else math.inf
    return Estimate(sampling_rate * math.sqrt(steps * variance), "central limit (may be too small), not a guarantee")


def require_within(name: str, value: float, low: float, high: float) -> None:
    """Raise `InputError` naming `name` and the range unless low <= value <= high."""
    if not low <= value <= high:
        most = "" if math.isinf(high) else f" and at most {high:g}"
        raise InputError(f"{name} is {value!r}; give a number of at least {low:g}{most}")


def rates_within(name: str, rates: float | Rates) -> FloatArray:
    """The rates as an array of the same shape; raises `InputError` unless all lie in [0, 1]."""
    values = np.asarray(rates, dtype=np.float64)
    for value in values[~((values >= 0) & (values <= 1))].flat:
        require_within(name, float(value), 0.0, 1.0)
    return values


def _psi_through(epsilon: float, delta: float) -> float:
    """Root in psi of log delta(epsilon) = log delta, by bisection: delta increases with psi."""
    target, low, high = math.log(delta), 0.0, 1e-8
    while SensitivityIndex(high).log_delta(epsilon) < target:
        low, high = high, 2 * high
    while high - low > 4 * math.ulp(high):
        middle = (low + high) / 2
        low, high = (middle, high) if SensitivityIndex(middle).log_delta(epsilon) < target else (low, middle)
    return high


def _mahalanobis(difference: FloatArray, covariance: FloatArray) -> float:
    if difference.ndim != 1 or covariance.shape != (difference.size, difference.size):
        raise InputError(
            f"covariance has shape {covariance.shape}, difference {difference.shape}; give shapes (n, n) and (n,)"
        )
    if not (np.isfinite(difference).all() and np.isfinite(covariance).all()):
        raise InputError("difference or covariance has entries that are not finite; give numbers")
    scale = float(np.abs(covariance).max(initial=0.0))
    if not np.allclose(covariance, covariance.T, rtol=0, atol=1e-10 * scale):
        raise InputError("covariance is not symmetric; give the covariance matrix of the noise")
    variances, axes = np.linalg.eigh(covariance)
    tolerance = 1e-13 * scale * max(1, difference.size)
    if (variances < -tolerance).any():
        raise InputError(
            f"covariance has the negative eigenvalue {variances.min():g}; give a positive semidefinite one"
        )
    along = axes.T @ difference
    quiet = variances <= tolerance
    if (np.abs(along[quiet]) > 1e-10 * np.linalg.norm(difference)).any():
        return math.inf
    return float(np.linalg.norm(along[~quiet] / np.sqrt(variances[~quiet])))


def _percent_up(share: float) -> str:
    """In per cent, three significant digits, rounded up."""
    unit = 10.0 ** (math.floor(math.log10(100 * share)) - 2) if share > 0 else 1.0
    return f"{min(100.0, math.ceil(100 * share / unit - 1e-9) * unit):.10g}"
