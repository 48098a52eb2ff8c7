"""The plan of an active-learning campaign: every phase's steps, rates and noise, before any data is touched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from reticent.accounting import (
    Certified,
    Composition,
    Laplace,
    Mechanism,
    SubsampledGaussian,
    UntilSelected,
    WorstOf,
)
from reticent.accounting.mechanisms import Unit
from reticent.errors import InputError
from reticent.training.active.acquisition import STRATEGIES
from reticent.training.active.schedule import Rates, Search

Schedule = Literal["step-amplification", "naive"]
Accountant = Literal["certified", "renyi"]
_TRIES = 12
_CLOSE = 1e-3


@dataclass(frozen=True)
class Phase:
    """One phase of labelling and training. Groups are numbered by the phase that added them, from 0."""

    selected: int
    """Subjects that are selected and labelled before it: the group of the same number."""
    steps: int
    noise_multiplier: float
    rates: tuple[float, ...]
    """Sampling rate of each group so far, its own last."""
    expected_batch: float
    """Subjects that a step draws on average."""


@dataclass(frozen=True)
class ActivePlan:
    """What each group of subjects will be exposed to; the number of phases is that of groups."""

    phases: tuple[Phase, ...]
    epsilon: float
    """What no subject's total may exceed, at `delta`."""
    delta: float
    batch_size: int
    """Constant that the noised sums are divided by."""
    round_epsilon: float
    """Of the scores of one selection round; 0 where selection reads no private data."""
    unit: Unit = "subject"

    def mechanism(self, group: int, through: int | None = None) -> Composition:
        """What a subject of the group is exposed to until the end of phase `through` (the last one if it is None).

        Its noised scores in every round up to the one that selected it, and all steps from then on: what a ledger is to
        charge it with.

        Raises:
            InputError: there is no such group at the end of that phase.
        """
        last = len(self.phases) - 1 if through is None else through
        if not 0 <= group <= last < len(self.phases):
            raise InputError(f"no group {group} at the end of phase {last}: there are {len(self.phases)} of each")
        parts: list[Mechanism] = [
            SubsampledGaussian(phase.noise_multiplier, phase.rates[group], phase.steps, unit=self.unit)
            for phase in self.phases[group : last + 1]
        ]
        if group and self.round_epsilon:
            parts.insert(0, self.selection(rounds=group))
        return Composition(tuple(parts))

    def selection(self, rounds: int = 1) -> Laplace:
        """The noised scores of a subject that was in the pool of so many rounds, selected or not.

        Raises:
            InputError: selection reads no private data, or there are no rounds.
        """
        if not self.round_epsilon:
            raise InputError("selection at random or from a public pool is no mechanism: it reads no private data")
        return Laplace(1 / self.round_epsilon, steps=rounds, unit=self.unit)

    def guarantee(self, through: int | None = None) -> WorstOf:
        """What holds for every subject after phase `through` (the last one if it is None), whoever is selected on
        whatever was seen.
        """
        last = len(self.phases) - 1 if through is None else through
        groups = [self.mechanism(group, last) for group in range(last + 1)]
        if not self.round_epsilon or len(groups) == 1:
            return WorstOf(tuple(groups))
        followed = (Composition(group.mechanisms[1:]) for group in groups[1:])
        return WorstOf((groups[0], UntilSelected(self.selection(), tuple(followed))))

    def spent(self, group: int, through: int | None = None) -> Certified:
        """The group's epsilon at `delta` after a phase (the last one if it is None), selection included."""
        return self.mechanism(group, through).profile().epsilon(self.delta)

    def table(self) -> list[dict[str, float | list[float]]]:
        """The phases in rows, each with `epsilons`: the upper bound of each group so far."""
        return [
            {
                "selected": phase.selected,
                "steps": phase.steps,
                "noise_multiplier": phase.noise_multiplier,
                "rates": list(phase.rates),
                "expected_batch": phase.expected_batch,
                "epsilons": [self.spent(group, i).upper for group in range(i + 1)],
            }
            for i, phase in enumerate(self.phases)
        ]


def plan_step_amplification(
    query_sizes: Sequence[int],
    *,
    epsilon: float,
    delta: float,
    batch_size: int,
    epochs: int,
    strategy: str = "random",
    selection_epsilon: float = 0.0,
    public_pool: bool = False,
    schedule: Schedule = "step-amplification",
    accountant: Accountant = "certified",
    unit: Unit = "subject",
) -> ActivePlan:
    """Plan a campaign so that every group's total, by its *own* history, is within (epsilon, delta) at the end.

    Subjects labelled late take part in fewer steps and would leave most of epsilon unused. With step amplification,
    every phase after the first takes more steps, draws subjects labelled before it at a lower rate and those it adds at
    a higher one, such that all have used as much at the end (Schwethelm et al., 2024). Selection costs are composed
    with training as mechanisms; the whole is then checked by the certified accounting, with selection treated as
    adaptive (`UntilSelected`).

    Args:
        query_sizes: subjects to label before each phase, the first ones at random.
        batch_size: subjects of a step on average, in every phase after the first if amplified.
        epochs: of each phase, before amplification.
        strategy: any of `acquisition.STRATEGIES`; all but random read the pool and need `selection_epsilon`.
        selection_epsilon: of the noised scores of all rounds together, in equal parts; pure epsilon.
        public_pool: the pool is public until it is labelled: its scores cost nothing.
        schedule: "naive" leaves steps at the epochs and draws everybody at the same rate.
        accountant: what epsilon is met by: "certified", or the looser "renyi", as published plans are.

    Raises:
        InputError: an option is out of range, the strategy needs an epsilon or cannot be private, or the target is out
            of reach: so is any epsilon below ln(1 / delta) / 62, where the quick accountant's orders end.
    """
    _require(query_sizes, epsilon, delta, batch_size, epochs, selection_epsilon)
    for name, value, known in (
        ("schedule", schedule, get_args(Schedule)),
        ("accountant", accountant, get_args(Accountant)),
    ):
        if value not in known:
            raise InputError(f"{name} {value!r} is not known; choose {' or '.join(known)}")
    _require_priced(strategy, selection_epsilon, public_pool)
    sizes, rounds = tuple(query_sizes), len(query_sizes) - 1
    a_round = selection_epsilon / rounds if rounds else 0.0

    def plan(target: float) -> ActivePlan:
        search = Search(sizes, target, delta, batch_size, epochs, a_round)
        found = search.naive() if schedule == "naive" else search.step_amplification()
        return ActivePlan(_phases(search, found), epsilon, delta, batch_size, a_round, unit)

    return _certified(plan, epsilon, delta, accountant)


def _require(
    query_sizes: Sequence[int], epsilon: float, delta: float, batch_size: int, epochs: int, selection_epsilon: float
) -> None:
    """Raise InputError for numbers out of range."""
    if not query_sizes or min(query_sizes) < 1:
        raise InputError("every query size is to be at least 1, the first one that of the random start")
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise InputError(
            f"epsilon {epsilon:g} and delta {delta:g}: give an epsilon above 0 and a delta between 0 and 1"
        )
    if batch_size < 1 or epochs < 1:
        raise InputError("batch size and epochs are to be at least 1")
    if batch_size > query_sizes[0]:
        raise InputError(
            f"a batch of {batch_size} cannot be drawn from the {query_sizes[0]} subjects of the first phase; lower the "
            "batch size or label more at first"
        )
    if not 0 <= selection_epsilon < epsilon:
        raise InputError(
            f"selection takes {selection_epsilon:g} of epsilon {epsilon:g}; it must leave some for training"
        )
    if selection_epsilon and len(query_sizes) == 1:
        raise InputError(
            "one query size, the random start, leaves nothing to select; leave out the epsilon of selection"
        )


def _require_priced(strategy: str, selection_epsilon: float, public_pool: bool) -> None:
    """Refuse strategies that would read a private pool for nothing, and costs without a purpose."""
    if strategy not in STRATEGIES:
        raise InputError(f"strategy {strategy!r} is not known; choose one of {', '.join(STRATEGIES)}")
    free = strategy == "random" or public_pool
    if free and selection_epsilon:
        why = "random selection reads no data" if strategy == "random" else "a public pool's scores cost nothing"
        raise InputError(f"{why}: leave out the epsilon of selection")
    if not free and strategy == "core-set":
        raise InputError(
            "core-set selection cannot be made private: one patient moves the distances of all others; choose entropy, "
            "or declare the pool public"
        )
    if not free and not selection_epsilon:
        raise InputError(
            f"{strategy} scores patients who are never labelled: give selection an epsilon, choose random, or declare "
            "the pool public"
        )


def _phases(search: Search, found: Sequence[Rates]) -> tuple[Phase, ...]:
    return tuple(
        Phase(
            search.sizes[i],
            rates.steps,
            rates.noise_multiplier,
            (*itertools.repeat(rates.old, i), rates.new),
            search.expected_batch(i, rates),
        )
        for i, rates in enumerate(found)
    )


def _certified(plan: Callable[[float], ActivePlan], epsilon: float, delta: float, accountant: Accountant) -> ActivePlan:
    """The plan for the largest target of the quick accountant whose certified epsilon is within `epsilon`.

    The quick accountant's own epsilon is met first; as it is looser, the target may then be raised, by secants of the
    one epsilon against the other.

    Raises:
        InputError: no target gives a certified plan.
    """
    target, best = epsilon, None
    low, high = (0.0, 0.0), None
    for _ in range(1 if accountant == "renyi" else _TRIES):
        made = plan(target)
        found = made.guarantee().profile().epsilon(delta).upper
        if found <= epsilon:
            low, best = (target, found), made
            if found > epsilon * (1 - _CLOSE):
                break
        else:
            high = (target, found)
        aim = epsilon * (1 - _CLOSE / 2)
        if high is None or not math.isfinite(high[1]):
            target *= aim / found if math.isfinite(found) else 0.5
        else:
            target = low[0] + (high[0] - low[0]) * (aim - low[1]) / (high[1] - low[1])
    if best is None:
        raise InputError(f"no plan for epsilon {epsilon:g} could be certified; take fewer epochs or a larger delta")
    return best
