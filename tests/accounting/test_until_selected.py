"""Rounds of a release until a unit is selected by what they told: bounded by the worst rule, not the worst sequence."""

import itertools
import math

import numpy as np
import pytest

from reticent.accounting import (
    Composition,
    Gaussian,
    Laplace,
    RandomisedResponse,
    SubsampledGaussian,
    Unbounded,
    UntilSelected,
    WorstOf,
    mechanism_from_dict,
)
from reticent.errors import InputError

ROUND, FIRST, SECOND = 0.5, 2.0, 0.8


def responses(epsilon, times):
    """(P, Q) of every outcome of randomised responses."""
    single = [(math.exp(epsilon), 1.0), (1.0, math.exp(epsilon))]
    total = (1 + math.exp(epsilon)) ** times
    return [
        tuple(math.prod(part[side] for part in outcome) / total for side in (0, 1))
        for outcome in itertools.product(single, repeat=times)
    ]


def hockey_stick(outcomes, epsilon):
    return sum(max(0.0, p - math.exp(epsilon) * q) for p, q in outcomes)


def worst_rule(epsilon):
    """The largest divergence over all 64 rules of two rounds, each by the definition, outcome by outcome."""
    rounds, first, second = responses(ROUND, 1), responses(FIRST, 1), responses(SECOND, 3)
    found = []
    for choices in itertools.product((True, False), repeat=6):
        stops, later, outcomes = choices[:2], np.reshape(choices[2:], (2, 2)), []
        for i, one in enumerate(rounds):
            if stops[i]:
                outcomes += [(one[0] * p, one[1] * q) for p, q in first]
                continue
            for j, other in enumerate(rounds):
                follows = second if later[i, j] else [(1.0, 1.0)]
                outcomes += [(one[0] * other[0] * p, one[1] * other[1] * q) for p, q in follows]
        found.append(hockey_stick(outcomes, epsilon))
    return max(found)


def test_the_bound_is_the_worst_of_all_rules_counted_out():
    mechanism = UntilSelected(
        RandomisedResponse(ROUND), (RandomisedResponse(FIRST), RandomisedResponse(SECOND, steps=3))
    )
    profile = mechanism.profile()
    for epsilon in (0.0, 0.3, 0.9, 1.4, 1.8, 2.2, 2.6):
        upper, exact = profile.delta(epsilon).upper, worst_rule(epsilon)
        assert exact <= upper <= exact + 2e-3
        assert profile.delta(epsilon).lower <= exact


def test_a_rule_that_looks_at_the_rounds_is_worse_than_every_fixed_sequence():
    mechanism = UntilSelected(
        RandomisedResponse(ROUND), (RandomisedResponse(FIRST), RandomisedResponse(SECOND, steps=3))
    )
    fixed = WorstOf(mechanism.sequences).profile()
    gains = [worst_rule(epsilon) - fixed.delta(epsilon).upper for epsilon in (0.9, 1.4, 1.8, 2.2)]
    assert max(gains) > 0.01


def test_one_round_that_always_selects_is_a_composition():
    training = SubsampledGaussian(2.0, 0.3, 40)
    stopped = UntilSelected(Laplace(2.0), (training,)).profile()
    composed = Composition((Laplace(2.0), training)).profile()
    for delta in (1e-3, 1e-5, 1e-8):
        assert composed.epsilon(delta).lower <= stopped.epsilon(delta).upper
        assert stopped.epsilon(delta).upper == pytest.approx(composed.epsilon(delta).upper, rel=1e-4)
    assert stopped.mu().upper == pytest.approx(composed.mu().upper, rel=2e-3)


def test_it_is_above_all_sequences_and_below_the_worst_of_every_part():
    parts = SubsampledGaussian(1.5, 0.4, 20), SubsampledGaussian(4.0, 0.9, 30), Gaussian(1.1)
    mechanism = UntilSelected(Laplace(4.0), parts)
    found = mechanism.profile().epsilon(1e-5)
    single = [sequence.profile().epsilon(1e-5).upper for sequence in mechanism.sequences]
    assert max(single) <= found.upper * (1 + 1e-9)
    assert found.lower >= max(single) * (1 - 1e-3)
    rounds = 3 / 4
    assert found.upper <= max(part.profile().epsilon(1e-5).upper for part in parts) + rounds + 1e-6


def test_it_is_stored_and_composes_like_any_mechanism():
    mechanism = UntilSelected(Laplace(2.0), (Gaussian(1.0), Gaussian(1.2)))
    assert mechanism_from_dict(mechanism.to_dict()) == mechanism
    both = Composition((mechanism, Gaussian(2.0))).profile().epsilon(1e-5)
    assert both.upper > mechanism.profile().epsilon(1e-5).upper
    assert (
        WorstOf((mechanism, Gaussian(0.9))).profile().epsilon(1e-5).upper >= Gaussian(0.9).profile().epsilon(1e-5).lower
    )


def test_nothing_is_guaranteed_where_a_part_guarantees_nothing():
    assert UntilSelected(Laplace(2.0), (Unbounded("no noise"),)).profile().epsilon(1e-5).upper == math.inf
    with pytest.raises(InputError, match="at least one"):
        UntilSelected(Laplace(2.0), ())
    with pytest.raises(InputError, match="unit"):
        UntilSelected(Laplace(2.0), (Gaussian(1.0, unit="record"),))
