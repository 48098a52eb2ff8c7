"""Canaries' scores as findings: empirical lower bounds on epsilon and mu beside a certified guarantee."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reticent.accounting import EmpiricalLowerBound
from reticent.attacks.auditing import one_run_bounds as bounds
from reticent.attacks.auditing.one_run_bounds import SMALLEST_ERROR, guess, guesses_for
from reticent.records import Finding, Interval, Number

_EXPECTED_MU = 2.0
"""Of what nothing is guaranteed: what the number of guesses is then chosen for."""


@dataclass(frozen=True)
class Guarantee:
    """What is certified of the algorithm that the canaries went through."""

    epsilon: Number
    delta: float
    mu: Number


def one_run_findings(
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    guarantee: Guarantee,
    confidence: float,
    tests: int,
    common: Mapping[str, Any],
) -> Iterator[Finding]:
    """Epsilon by Steinke et al. (2023) and mu by Mahloujifar et al. (2024), from the scores of canaries in and out.

    Args:
        tests: p-values are multiplied by it.
        common: fields of both findings; what is in its `settings` stands beside the numbers of guesses.
    """
    level, canaries, delta = 1 - confidence, len(inside) + len(outside), guarantee.delta
    expected, seed = guarantee.mu.upper or _EXPECTED_MU, int(common["seed"])

    each = guesses_for(canaries, expected, lambda found: bounds.epsilon_at(found, delta, level))
    guesses, certified = guess(inside, outside, each, seed), guarantee.epsilon.upper
    yield _finding(
        "epsilon",
        EmpiricalLowerBound(bounds.epsilon_at(guesses, delta, level), confidence, "one run"),
        guesses,
        guarantee.epsilon,
        None if certified is None else min(1.0, tests * bounds.epsilon_p_value(guesses, certified, delta)),
        common,
    )
    each = guesses_for(canaries, expected, lambda found: bounds.mu_at(found, level))
    guesses, certified = guess(inside, outside, each, seed), guarantee.mu.upper
    yield _finding(
        "mu",
        EmpiricalLowerBound(bounds.mu_at(guesses, level), confidence, "one run, f-DP"),
        guesses,
        guarantee.mu,
        None if certified is None else min(1.0, tests * bounds.mu_p_value(guesses, certified, SMALLEST_ERROR)),
        common,
    )


def _finding(
    metric: str,
    bound: EmpiricalLowerBound,
    guesses: bounds.Guesses,
    guarantee: Number,
    p_value: float | None,
    common: Mapping[str, Any],
) -> Finding:
    told = (
        f"{guesses.right} of {guesses.made} guesses about {guesses.canaries} planted patients were right, which proves"
    )
    at = f" at delta = {guarantee.delta:g}" if guarantee.delta is not None else ""
    proven = f"{metric} {bound}{at}" if bound.value > 0 else f"nothing about {metric}"
    limit = "nothing is guaranteed" if guarantee.upper is None else f"guaranteed is at most {guarantee}"
    settings = common["settings"] | {"guesses": guesses.made, "right": guesses.right, "method": bound.method}
    return Finding(
        **{**common, "settings": settings},
        metric=metric,
        value=bound.value,
        interval=Interval(lower=bound.value, upper=None, confidence=bound.confidence),
        baseline=0.0,
        kind="empirical lower bound",
        guarantee=guarantee,
        p_value=p_value,
        reading=f"{told} {proven}; {limit}.",
    )
