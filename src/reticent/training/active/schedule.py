"""The search for the steps, rates and noise of every phase, by the quick accountant."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reticent.errors import InputError
from reticent.training.active.renyi import NOTHING, Divergences, epsilon_of, gaussian_step, laplace

_PRECISION = 1e-6
_BATCH_PRECISION = 2e-4
_SWEEPS = 12
_LEAST_NOISE, _MOST_NOISE = 0.3, 1e4
_LOWEST_FINE_TUNED = 0.6


@dataclass(frozen=True)
class Rates:
    """One phase: `old` is the sampling rate of subjects labelled in earlier phases, `new` of those it adds."""

    steps: int
    noise_multiplier: float
    old: float
    new: float

    def divergences(self, *, new: bool = False) -> Divergences:
        """Of the whole phase, for a subject of the one kind or the other."""
        return self.steps * gaussian_step(self.noise_multiplier, self.new if new else self.old)


@dataclass(frozen=True)
class Search:
    """What a plan is sought for; `selection_epsilon` is that of one round."""

    sizes: tuple[int, ...]
    """Subjects that each phase adds."""
    epsilon: float
    delta: float
    batch_size: int
    epochs: int
    selection_epsilon: float

    def naive(self) -> tuple[Rates, ...]:
        """The base schedule with the least noise at which every group is within epsilon.

        With n subjects so far, S = floor(n / batch size) steps an epoch at a sampling rate of 1 / S for everybody.

        Raises:
            InputError: no noise is enough.
        """
        return self._naive(tuple(range(len(self.sizes))))

    def step_amplification(self) -> tuple[Rates, ...]:
        """More steps in every phase after the first, at two rates: late groups use up what they have by the end.

        The first group follows the base schedule's epsilon, phase by phase; the group that a phase adds gets the
        largest rate at which its *own* total at the end of training, selection and later phases included, is within
        epsilon; steps and noise keep the expected batch at `batch_size`. Later phases depend on earlier ones and the
        other way round, hence the sweeps.

        Raises:
            InputError: a group has nothing left to train with, or the sweeps do not settle.
        """
        base = self._naive((0,))
        limits = list(itertools.accumulate(rates.divergences() for rates in base))
        phases = list(base)
        for _ in range(_SWEEPS):
            spent = phases[0].divergences()
            for i in range(1, len(phases)):
                phases[i] = self._amplified(i, base[i], spent, epsilon_of(limits[i], self.delta), phases)
                spent = spent + phases[i].divergences()
            phases = [self._within(phases, i) for i in range(len(phases))]
            if all(self._batch_is_met(phases, i) for i in range(1, len(phases))):
                return tuple(phases)
        raise InputError("no plan keeps the batch size in every phase; change --batch-size or the query sizes")

    def expected_batch(self, phase: int, rates: Rates) -> float:
        """Subjects that a step of the phase draws on average."""
        return rates.old * sum(self.sizes[:phase]) + rates.new * self.sizes[phase]

    def total(self, phases: Sequence[Rates], group: int) -> float:
        """What a group has used at the end."""
        return epsilon_of(self._others(phases, group) + phases[group].divergences(new=True), self.delta)

    def _naive(self, groups: Sequence[int]) -> tuple[Rates, ...]:
        """The base schedule that keeps `groups` within epsilon."""

        def phases(noise_multiplier: float) -> tuple[Rates, ...]:
            made = []
            for subjects in itertools.accumulate(self.sizes):
                an_epoch = max(1, subjects // self.batch_size)
                made.append(Rates(self.epochs * an_epoch, noise_multiplier, 1 / an_epoch, 1 / an_epoch))
            return tuple(made)

        def excess(inverse: float) -> float:
            made = phases(1 / inverse)
            return max(self.total(made, group) for group in groups) - self.epsilon

        inverse = _largest(excess, 1 / _MOST_NOISE, 1 / _LEAST_NOISE)
        if inverse is None:
            raise InputError(
                f"epsilon {self.epsilon:g} is out of reach after selection rounds of {self.selection_epsilon:g} each; "
                "lower the epsilon of selection or take fewer epochs"
            )
        return phases(1 / inverse)

    def _amplified(self, i: int, base: Rates, spent: Divergences, limit: float, phases: Sequence[Rates]) -> Rates:
        """Phase i with the most steps that keep the batch, then with the noise that meets it."""
        others = self._others(phases, i)

        def rates(steps: int, noise_multiplier: float) -> Rates:
            old = self._largest_rate(steps, noise_multiplier, spent, limit)
            new = self._largest_rate(steps, noise_multiplier, others, self.epsilon)
            if old is None or new is None:
                who = "its earlier groups" if old is None else "the group that it adds"
                raise InputError(
                    f"phase {i}: nothing is left of epsilon {self.epsilon:g} for {who}; lower the epsilon of "
                    "selection, or give the phase more subjects"
                )
            return Rates(steps, noise_multiplier, old, new)

        def batch(found: Rates) -> float:
            return self.expected_batch(i, found) - self.batch_size

        low, high = 1, base.steps
        while batch(rates(high, base.noise_multiplier)) >= 0:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if batch(rates(middle, base.noise_multiplier)) >= 0 else (low, middle)
        least, most = _LOWEST_FINE_TUNED * base.noise_multiplier, base.noise_multiplier
        found = _largest(lambda noise: batch(rates(low, noise)), least, most)
        return rates(low, most if found is None else found)

    def _largest_rate(self, steps: int, noise_multiplier: float, others: Divergences, limit: float) -> float | None:
        """The largest sampling rate within the limit, from below; None if there is none."""

        def excess(rate: float) -> float:
            return epsilon_of(others + steps * gaussian_step(noise_multiplier, rate), self.delta) - limit

        return _largest(excess, 1e-6, 1.0)

    def _within(self, phases: Sequence[Rates], group: int) -> Rates:
        """The phase with the rate of its new group set anew, now that later phases are known."""
        rates = phases[group]
        if not group:
            return rates
        new = self._largest_rate(rates.steps, rates.noise_multiplier, self._others(phases, group), self.epsilon)
        return replace(rates, new=new or rates.new)

    def _others(self, phases: Sequence[Rates], group: int) -> Divergences:
        """What a group is exposed to beside the phase that adds it: its selection, and later phases."""
        selection = group * laplace(self.selection_epsilon)
        return sum((rates.divergences() for rates in phases[group + 1 :]), start=NOTHING + selection)

    def _batch_is_met(self, phases: Sequence[Rates], i: int) -> bool:
        return abs(self.expected_batch(i, phases[i]) / self.batch_size - 1) <= _BATCH_PRECISION


def _largest(excess: Callable[[float], float], low: float, high: float) -> float | None:
    """The largest value with excess <= 0, from below, of a function that grows; None where even `low` exceeds.

    Regula falsi with the weight of an end halved that stays twice (Illinois).
    """
    above = excess(high)
    if above <= 0:
        return high
    below = excess(low)
    if below > 0:
        return None
    side = 0
    for _ in range(200):
        if high - low <= _PRECISION * high:
            break
        share = below / (below - above) if below < 0 else 0.5
        middle = low + (high - low) * min(0.999, max(0.001, share))
        value = excess(middle)
        if value <= 0:
            low, below = middle, value
            above = above / 2 if side == -1 else above
            side = -1
        else:
            high, above = middle, value
            below = below / 2 if side == 1 else below
            side = 1
    return low
