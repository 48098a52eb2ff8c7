"""Relaxed adversaries for the Gaussian mechanism: attackers who do not know the direction of the person's contribution.

Kaissis et al. (2022), "Generalised likelihood ratio testing adversaries through the differential privacy lens", arXiv
2210.13028. They say how strong an attack can be with less knowledge than the worst case has; they are no guarantee,
and every number here is an `Estimate`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from reticent.accounting import gaussian, glrt_laws
from reticent.accounting.checks import require_open, require_sampling_rate, require_steps
from reticent.accounting.roots import root
from reticent.accounting.sensitivity_index import Rates, SensitivityIndex, rates_within
from reticent.accounting.values import Certified, Estimate
from reticent.errors import InputError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GLRTAdversary:
    """Attacker who knows the noise but not the shift nu the person causes, and so tests the squared norm.

    With mu = sensitivity / noise std, the statistic ||y||^2 / std^2 follows chi^2_dof if the person is absent, and
    noncentral chi^2_dof(mu^2) if present. `dof` = 1: direction known up to its sign; `dof` = number of released
    coordinates: direction unknown, a very weak attacker. `sampling_rate` < 1: one step which the person joined with
    that probability, unseen. The test is also the most powerful one against a direction drawn uniformly, so `tradeoff`
    is convex and `delta` its exact dual. Raises `InputError`, as do all methods, for a number out of range.
    """

    mu: float
    dof: int = 1
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.mu < math.inf:
            raise InputError(f"mu is {self.mu!r}; give a finite number of at least 0")
        require_steps(self.dof, "dof")
        require_sampling_rate(self.sampling_rate)

    @property
    def threat_model(self) -> str:
        """What the attacker is assumed not to know, in words."""
        return self._relaxed()

    def worst_case_roc(self, fpr: float) -> Certified:
        """True-positive rate of the attacker who knows the contribution exactly: what privacy bounds."""
        power = self.sampling_rate * SensitivityIndex(self.mu).roc(fpr) + (1 - self.sampling_rate) * fpr
        return Certified(power, power, "upper")

    def roc_values(self, fpr: float | Rates) -> FloatArray:
        """`roc` as plain numbers: q S1(S0^-1(fpr)) + (1 - q) fpr, S0 and S1 the survival functions of both laws."""
        rates = rates_within("fpr", fpr)
        power = glrt_laws.power(self.mu, self.dof, rates) if self.mu else rates
        return np.asarray(self.sampling_rate * power + (1 - self.sampling_rate) * rates)

    def symmetric_tradeoff_values(self, alpha: float | Rates) -> FloatArray:
        """Lower convex hull of f and its inverse: the curve for both orders of presence and absence, plain numbers.

        It is f where f is steeper than -1, its mirror image where it is flatter, and a line of slope -1 between.
        """
        alphas = rates_within("alpha", alpha)
        if self.mu == 0:
            return 1 - alphas
        corner = math.exp(glrt_laws.log_above(0.0, self.dof, glrt_laws.threshold(self.mu, self.dof, 0.0)))
        height = 1 - float(self.roc_values(corner))
        mirrored = np.reshape([self._inverse(float(a)) for a in alphas.flat], alphas.shape)
        flat = np.where(alphas < height, corner + height - alphas, mirrored)
        return np.where(alphas <= corner, 1 - self.roc_values(alphas), flat)

    @overload
    def roc(self, fpr: float) -> Estimate: ...
    @overload
    def roc(self, fpr: Rates) -> list[Estimate]: ...
    def roc(self, fpr: float | Rates) -> Estimate | list[Estimate]:
        """True-positive rate(s) at false-positive rate(s) `fpr`, absence being the null hypothesis."""
        return self._like(fpr, self.roc_values(fpr))

    @overload
    def tradeoff(self, alpha: float, symmetric: bool = False) -> Estimate: ...
    @overload
    def tradeoff(self, alpha: Rates, symmetric: bool = False) -> list[Estimate]: ...
    def tradeoff(self, alpha: float | Rates, symmetric: bool = False) -> Estimate | list[Estimate]:
        """Type II error f(alpha) = 1 - roc(alpha), or of the symmetric curve; f itself is not symmetric."""
        values = self.symmetric_tradeoff_values(alpha) if symmetric else 1 - self.roc_values(alpha)
        return self._like(alpha, values)

    def delta(self, epsilon: float) -> Estimate:
        """delta(epsilon) of presence against absence, max over x of roc(x) - e^epsilon x, for any real epsilon."""
        require_open("epsilon", epsilon, -math.inf, math.inf)
        return self._estimate(self._delta(epsilon))

    def delta_reverse(self, epsilon: float) -> Estimate:
        """delta(epsilon) of absence against presence; 0 from epsilon = mu^2 / 2 on."""
        require_open("epsilon", epsilon, -math.inf, math.inf)
        return self._estimate(self._delta_reverse(epsilon))

    def epsilon(self, delta: float) -> Estimate:
        """Smallest epsilon >= 0 at which neither order exceeds `delta`, 0 < delta < 1."""
        require_open("delta", delta, 0.0, 1.0)

        def excess(epsilon: float) -> float:
            profile = max(self._delta(epsilon), self._delta_reverse(epsilon))
            return math.log(max(profile, 1e-320)) - math.log(delta)

        if self.mu == 0 or excess(0.0) <= 0:
            return self._estimate(0.0)
        worst = gaussian.epsilon_at(self.mu, delta)
        return self._estimate(root(excess, 0.0, 1.01 * worst + 1e-9, xtol=1e-13, rtol=1e-13))

    def advantage(self) -> Estimate:
        """Largest TPR - FPR, delta(0)."""
        return self._estimate(self._delta(0.0))

    def auc(self) -> Estimate:
        """P(T1 > T0), a noncentral F probability; for `dof` 1, Phi(m)^2 + Phi(-m)^2 with m = mu / sqrt(2)."""
        from scipy.stats import ncf  # imported here, as in chi_squared

        if self.mu**2 == 0:  # where ncf.sf is wrong
            area = 0.5
        elif self.dof == 1:
            m = self.mu / math.sqrt(2)
            area = float(ndtr(m) ** 2 + ndtr(-m) ** 2)
        else:
            area = float(ncf.sf(1.0, self.dof, self.dof, self.mu**2))
        return self._estimate(self.sampling_rate * area + (1 - self.sampling_rate) / 2)

    def describe(self, fpr: float = 0.01) -> str:
        """The relaxed and the worst case side by side, in one sentence."""
        return (
            f"At a false-alarm rate of {100 * fpr:.3g} % this attacker recognises {100 * self.roc(fpr).value:.3g} % "
            f"of the participants [{self.threat_model}]; the worst case, which privacy guarantees, is "
            f"{100 * self.worst_case_roc(fpr).upper:.3g} %."
        )

    def _delta(self, epsilon: float) -> float:
        """q delta_1(log(1 + (e^epsilon - 1) / q)), delta_1 that of an unsampled step (Dong, Roth and Su, 2022)."""
        q = self.sampling_rate
        uninformed = -math.expm1(min(epsilon, 0.0))
        if self.mu == 0 or uninformed >= q:
            return uninformed
        if epsilon < 1:
            return q * glrt_laws.delta(self.mu, self.dof, math.log1p(math.expm1(epsilon) / q))
        inner = epsilon + math.log1p((q - 1) * math.exp(-epsilon)) - math.log(q)
        return q * glrt_laws.delta(self.mu, self.dof, inner)

    def _delta_reverse(self, epsilon: float) -> float:
        """a delta_r(epsilon + log(q / a)), a = 1 - (1 - q) e^epsilon, delta_r that of an unsampled step."""
        q = self.sampling_rate
        if self.mu == 0:
            return -math.expm1(min(epsilon, 0.0))
        if q < 1 and epsilon >= -math.log1p(-q):
            return 0.0
        weight = 1 - (1 - q) * math.exp(epsilon) if q < 1 else 1.0
        return weight * glrt_laws.delta_reverse(self.mu, self.dof, epsilon + math.log(q) - math.log(weight))

    def _inverse(self, beta: float) -> float:
        """The alpha with f(alpha) = beta."""
        if beta in (0.0, 1.0):
            return 1.0 - beta
        return root(lambda a: 1 - float(self.roc_values(a)) - beta, 0.0, 1.0, xtol=1e-16, rtol=1e-14)

    def _relaxed(self, more: str = "") -> str:
        unknown = "sign" if self.dof == 1 else f"direction in {self.dof} dimensions"
        batch = "" if self.sampling_rate == 1 else f", batch not seen at sampling rate {self.sampling_rate:g}"
        return f"relaxed adversary (GLRT, {unknown} of the contribution unknown{batch}{more}), not a guarantee"

    def _estimate(self, value: float) -> Estimate:
        return Estimate(value, self.threat_model)

    def _like(self, rates: float | Rates, values: FloatArray) -> Estimate | list[Estimate]:
        if np.ndim(rates) == 0:
            return self._estimate(float(values))
        return [self._estimate(float(value)) for value in values]


def compose_glrt(
    adversaries: Sequence[GLRTAdversary], knowledge: Literal["coherent", "incoherent"] = "coherent"
) -> GLRTAdversary:
    """The adversary who sees several steps over everybody, non-centralities mu_t^2 added.

    "coherent": one unknown sign or direction is shared by all steps, and the attacker tests their weighted sum: `dof`
    stays. "incoherent": an independent unknown direction each step, and the squared norms are added: `dof` adds up.
    Sampled steps have no closed form: see `compose_sampled_glrt`.
    """
    if not adversaries:
        raise InputError("adversaries is empty; give at least one")
    if any(adversary.sampling_rate < 1 for adversary in adversaries):
        raise InputError("an adversary has a sampling_rate below 1; use compose_sampled_glrt for sampled steps")
    if knowledge not in ("coherent", "incoherent"):
        raise InputError(f'knowledge is {knowledge!r}; give "coherent" or "incoherent"')
    dofs = [adversary.dof for adversary in adversaries]
    if knowledge == "coherent" and len(set(dofs)) > 1:
        raise InputError(f"dof differs between the adversaries ({sorted(set(dofs))}); one shared direction has one dof")
    mu = math.hypot(*(adversary.mu for adversary in adversaries))
    return GLRTAdversary(mu, dofs[0] if knowledge == "coherent" else sum(dofs))


def compose_sampled_glrt(adversary: GLRTAdversary, steps: int, fprs: Rates) -> list[Estimate]:
    """True-positive rates after `steps` sampled steps, by the best test on the squared norm of every step.

    The attacker forgets the sign or direction after every step, and so is weaker than a coherent one even at
    `sampling_rate` 1. False-alarm rates below 1e-10 drown in the rounding of the numerical convolution.
    """
    require_steps(steps)
    rates = np.atleast_1d(rates_within("fpr", fprs))
    powers = rates
    if adversary.mu > 0:
        powers = glrt_laws.composed_power(adversary.mu, adversary.dof, adversary.sampling_rate, steps, rates)
    method = adversary._relaxed(f", forgotten after each of {steps} steps")
    return [Estimate(float(value), method) for value in powers]


@dataclass(frozen=True)
class ThreatModelRow:
    """True-positive rates at one false-alarm rate: the guaranteed worst case, and attackers who know less."""

    fpr: float
    worst_case: Certified
    sign_unknown: Estimate
    direction_unknown: dict[int, Estimate]


def threat_model_table(mu: float, fprs: Sequence[float], dofs: Sequence[int] = ()) -> list[ThreatModelRow]:
    """One row for each false-alarm rate; `dofs` are the dimensions in which the direction is unknown."""
    sign = GLRTAdversary(mu)
    directions = {dof: GLRTAdversary(mu, dof) for dof in dofs}
    return [
        ThreatModelRow(fpr, sign.worst_case_roc(fpr), sign.roc(fpr), {d: a.roc(fpr) for d, a in directions.items()})
        for fpr in fprs
    ]
