"""Mechanisms other than the sampled Gaussian, against closed forms, exact convolutions and dp-accounting."""

import json
import math
from dataclasses import dataclass

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from scipy import special, stats

from reticent.accounting import (
    SHUFFLED,
    BandedGaussian,
    ComplexGaussian,
    Composition,
    DiscreteGaussian,
    DiscreteLoss,
    FixedSizeGaussian,
    Gaussian,
    Laplace,
    LocalGaussian,
    LocalRandomisedResponse,
    Masses,
    RandomisedResponse,
    Release,
    Repetition,
    SubsampledGaussian,
    Unbounded,
    UntilSelected,
    WorstOf,
    from_dp_event,
    mechanism_from_dict,
    to_dp_event,
)
from reticent.accounting.mechanisms.mechanism import profile_of
from reticent.errors import InputError

ALL = [
    Gaussian(1.3, 4),
    SubsampledGaussian(1.1, 0.05, 30),
    ComplexGaussian(1.5, 0.1, 20, correlation=0.3),
    FixedSizeGaussian(4.0, 20, 500, 30),
    BandedGaussian(1.2, 4, 0.1, 30),
    Laplace(2.0, 0.2, 5),
    DiscreteGaussian(2.5, 2, 0.3, 5),
    RandomisedResponse(0.7, 3, 0.5, 4),
    LocalGaussian(2.5, 3),
    LocalRandomisedResponse(0.7, 3, 2),
    DiscreteLoss((-0.5, 0.1, 0.6), (0.2, 0.3, 0.4), 0.1, 2),
    Repetition(Laplace(3.0), 4),
    WorstOf((SubsampledGaussian(1.0, 0.05, 20), SubsampledGaussian(1.0, 0.1, 5))),
    Composition((Laplace(3.0), SubsampledGaussian(2.0, 0.1, 10), RandomisedResponse(0.3))),
    Composition((LocalGaussian(2.0), LocalRandomisedResponse(0.3, 4))),
    UntilSelected(Laplace(3.0), (SubsampledGaussian(2.0, 0.3, 10), SubsampledGaussian(2.0, 0.5, 5))),
]


@pytest.mark.parametrize("mechanism", ALL, ids=lambda mechanism: type(mechanism).__name__)
def test_every_mechanism_states_its_circumstances_survives_json_and_gives_ordered_bounds(mechanism):
    stored = json.loads(json.dumps(mechanism.to_dict()))
    assert mechanism_from_dict(stored) == mechanism
    assert stored["version"] == 1
    assert {"unit", "neighbouring_relation", "sampling"} <= set(stored)
    assert isinstance(hash(mechanism), int)
    profile = mechanism.profile()
    for found in (profile.epsilon(0.3), profile.delta(0.4), profile.advantage(), profile.mu(1e-3)):
        assert 0 <= found.lower <= found.upper
        assert found.guarantee == "upper"
    for direction in ("remove", "add"):
        assert profile.delta(0.4, direction).lower <= profile.delta(0.4).upper
    assert profile.renyi(3.5) >= profile.renyi(2)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 5.0])
def test_laplace_has_its_closed_form_curve(scale):
    profile, end = Laplace(scale).profile(), 1 / scale
    for epsilon in (0.0, end / 3, 0.9 * end):
        assert profile.delta(epsilon).upper == pytest.approx(-math.expm1((epsilon - end) / 2), rel=1e-11)
    assert profile.delta(1.001 * end).upper == 0
    assert profile.epsilon(1e-5).upper <= end
    for alpha in (1e-6, 0.01, 0.2, 0.3033, 0.45, 0.7, 0.99):
        power = stats.laplace.sf(stats.laplace.isf(alpha) - end)
        assert profile.tradeoff(alpha).lower <= 1 - power + 1e-15
        assert profile.tradeoff(alpha).upper == pytest.approx(1 - power, abs=1e-5)
        assert profile.power(alpha).upper == pytest.approx(power, rel=1e-5)


@pytest.mark.parametrize(
    ("scale", "steps", "epsilon", "delta"),
    [
        (1, 1, 0.5, 0.221199216928595),
        (1, 2, 1, 0.241836675359208),
        (2, 5, 1, 0.145315612763074),
        (5, 10, 1, 0.0203092809455646),
        (10, 12, 0.5, 0.0136840997979078),
        (10, 12, 0, 0.134159700051262),
        (1, 5, 2, 0.313903810949848),
        (0.5, 3, 3, 0.463093052142841),
    ],
)
def test_composed_laplace_contains_the_exact_convolution(scale, steps, epsilon, delta):
    found = Laplace(scale, steps=steps).profile(accuracy=1e-7).delta(epsilon)
    assert found.lower <= delta * (1 + 1e-12)
    assert delta * (1 - 1e-12) <= found.upper <= delta * (1 + 1e-6)


@pytest.mark.parametrize(("epsilon", "categories"), [(0.1, 2), (1.0, 2), (1.0, 5), (4.0, 3)])
def test_randomised_response_has_its_closed_form(epsilon, categories):
    profile = RandomisedResponse(epsilon, categories).profile()
    other = 1 / (math.exp(epsilon) + categories - 1)
    for at in (0.0, epsilon / 2, 0.99 * epsilon):
        assert profile.delta(at).upper == pytest.approx(other * (math.exp(epsilon) - math.exp(at)), rel=1e-9)
    assert profile.delta(epsilon * 1.001).upper == 0
    if categories == 2:
        mu = 2 * stats.norm.ppf(math.exp(epsilon) / (1 + math.exp(epsilon)))
        assert profile.mu().lower <= mu + 1e-9
        assert mu - 1e-9 <= profile.mu().upper <= mu + 2e-5


@pytest.mark.parametrize("steps", [2, 25])
def test_composed_randomised_response_is_a_binomial(steps):
    epsilon, k = 0.4, np.arange(steps + 1)
    losses = (2 * k - steps) * epsilon
    hits = stats.binom.pmf(k, steps, special.expit(epsilon))
    for at in (0.0, 0.3, 1.7):
        truth = float(np.sum(hits * np.maximum(0, -np.expm1(at - losses))))
        found = RandomisedResponse(epsilon, steps=steps).profile().delta(at)
        assert found.lower * (1 - 1e-9) <= truth <= found.upper * (1 + 1e-9)
        assert found.upper == pytest.approx(truth, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("sigma", "sensitivity"), [(0.4, 1), (3.0, 1), (50.0, 7)])
def test_discrete_gaussian_matches_the_sum_over_the_integers(sigma, sensitivity):
    x = np.arange(-int(40 * sigma) - 60, int(40 * sigma) + 60)
    absent = np.exp(-(x**2) / (2 * sigma**2))
    absent /= absent.sum()
    present = np.exp(-((x - sensitivity) ** 2) / (2 * sigma**2))
    present /= present.sum()
    profile = DiscreteGaussian(sigma, sensitivity).profile()
    for epsilon in (0.0, 0.2, 1.0):
        truth = float(np.maximum(0, present - math.exp(epsilon) * absent).sum())
        assert profile.delta(epsilon).upper == pytest.approx(truth, rel=1e-9, abs=1e-45)
    assert DiscreteGaussian(50.0, 7, steps=20).profile().epsilon(1e-5).upper == pytest.approx(
        Gaussian(50 / 7, 20).profile().epsilon(1e-5).upper, rel=1e-4
    )


@pytest.mark.parametrize(
    "mechanism", [Laplace(1.0, 0.1, 100), Laplace(2.0, steps=20), Laplace(0.5, 0.3, 10)], ids=lambda m: repr(m)
)
def test_plain_and_sampled_laplace_agree_with_dp_accounting(mechanism):
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(to_dp_event(mechanism))
    found = mechanism.profile().epsilon(1e-5)
    assert found.lower <= accountant.get_epsilon(1e-5) <= found.upper * (1 + 1e-3)
    assert found.upper <= accountant.get_epsilon(1e-5) * (1 + 1e-4)


def test_a_discrete_loss_is_composed_atom_by_atom():
    mechanism = DiscreteLoss((-1.0, 0.3, 1.2), (0.2, 0.3, 0.45), 0.05, steps=3)
    losses, shares = np.array([-1.0, 0.3, 1.2]), np.array([0.2, 0.3, 0.45])
    sums = losses[:, None, None] + losses[:, None] + losses
    weights = shares[:, None, None] * shares[:, None] * shares
    for epsilon in (0.0, 0.5, 2.0):
        truth = float(np.sum(weights * np.maximum(0, -np.expm1(epsilon - sums)))) + 1 - 0.95**3
        found = mechanism.profile(accuracy=1e-10).delta(epsilon, "remove")
        assert found.lower - 1e-12 <= truth <= found.upper + 1e-12
        assert found.upper == pytest.approx(truth, rel=1e-4)
    assert math.isinf(mechanism.profile().epsilon(0.1).upper)


def test_fixed_size_sampling_is_bracketed_between_what_cohorts_attain_and_the_symmetrised_pair():
    fixed = FixedSizeGaussian(3.0, 50, 1000, 100)
    attained = SubsampledGaussian(1.5, 0.05, 100).profile()
    found = fixed.profile()
    assert fixed.neighbouring_relation == "replace-one"
    assert found.epsilon(1e-5).lower == pytest.approx(attained.epsilon(1e-5).upper, rel=1e-4)
    assert found.epsilon(1e-5).upper > attained.epsilon(1e-5).upper
    whole = FixedSizeGaussian(3.0, 1000, 1000, 100).profile()
    assert whole.mu().upper == pytest.approx(2 / 3 * 10, rel=1e-12)


def test_one_step_of_fixed_size_sampling_has_the_larger_profile_of_both_orders_exactly():
    found = FixedSizeGaussian(2.0, 10, 100, 1).profile()
    for epsilon in (0.01, 0.2, 1.0, 3.0):
        truth = SubsampledGaussian(1.0, 0.1, 1).profile().delta(epsilon, "remove").upper
        assert found.delta(epsilon).lower <= truth * (1 + 1e-9)
        assert truth * (1 - 1e-9) <= found.delta(epsilon).upper <= truth * (1 + 1e-4)


def test_banded_noise_with_cyclic_sampling_counts_the_turns_of_a_group():
    assert BandedGaussian(1.2, 4, 0.1, 30).profile().epsilon(1e-5) == (
        SubsampledGaussian(1.2, 0.1, 8).profile().epsilon(1e-5)
    )


def test_groups_with_sampling_rates_of_their_own_have_what_the_worst_has():
    groups = [SubsampledGaussian(1.0, 0.05, 20), SubsampledGaussian(0.8, 0.02, 50), SubsampledGaussian(2.0, 0.4, 20)]
    worst = WorstOf(tuple(groups)).profile()
    profiles = [group.profile() for group in groups]
    for delta in (1e-8, 1e-3):
        truth = max(profile.epsilon(delta).upper for profile in profiles)
        assert worst.epsilon(delta).lower <= truth <= worst.epsilon(delta).upper * (1 + 1e-9)
        assert worst.epsilon(delta).upper <= truth * (1 + 1e-3)
    both = Composition((WorstOf((groups[0], groups[1])), Gaussian(2.0))).profile().epsilon(1e-5)
    alone = [Composition((group, Gaussian(2.0))).profile().epsilon(1e-5).upper for group in groups[:2]]
    assert both.upper == pytest.approx(max(alone), rel=1e-4)


def test_complex_noise_is_worst_along_the_correlated_direction():
    for correlation, factor in ((0.0, 1.0), (0.3, 1.195), (-0.6, 1.581), (0.9, 3.162)):
        assert ComplexGaussian(1.0, correlation=correlation).profile().mu().upper == pytest.approx(factor, abs=1e-3)
    assert ComplexGaussian.from_total_std(2.0, 1.0).profile().mu().upper == pytest.approx(math.sqrt(2) / 2)
    sampled = SubsampledGaussian(1.1, 0.05, 30).profile().epsilon(1e-5)
    assert ComplexGaussian(1.1, 0.05, 30).profile().epsilon(1e-5) == sampled


@pytest.mark.parametrize("size", [2, 3])
def test_a_group_of_people_amplifies_the_power_once_for_each(size):
    exact, bounded = Gaussian(2.0).profile(), SubsampledGaussian(2.0, 1 - 1e-12, 1).profile()
    assert exact.group(size).mu().upper == size / 2
    truth = exact.group(size)
    group = bounded.group(size)
    assert truth.epsilon(1e-5).upper <= group.epsilon(1e-5).upper <= truth.epsilon(1e-5).upper * 1.005
    assert truth.advantage().upper <= group.advantage().upper <= truth.advantage().upper * 1.005
    assert truth.power(0.01).upper * (1 - 1e-9) <= group.power(0.01).upper <= truth.power(0.01).upper * 1.01
    assert exact.group(3).renyi(4) == pytest.approx(9 * exact.renyi(4))


def test_a_shuffled_loader_gets_no_certified_bound_and_the_reason():
    mechanism = Composition((Gaussian(1.0), Unbounded(SHUFFLED)))
    assert mechanism.profile().epsilon(1e-5).to_dict()["kind"] == "unbounded"
    assert "Poisson" in mechanism.profile().reason


@dataclass(frozen=True)
class Geometric:
    """A third party's loss: two-sided geometric noise of ratio e^-1/b on a count, given by its own masses."""

    scale: float
    lattice: float | None = None

    @property
    def span(self):
        return -1 / self.scale, 1 / self.scale

    @property
    def spread(self):
        return 1 / self.scale

    @property
    def guard(self):
        return 1e-12

    def masses(self, edges):
        end, tail = 1 / self.scale, math.exp(-1 / self.scale)
        present = {end: 1 / (1 + tail), -end: tail / (1 + tail)}
        found = [np.full(len(edges) - 1, -math.inf) for _ in range(4)]
        for loss, mass in present.items():
            cell = int(np.searchsorted(edges, loss + 1e-13, side="right")) - 1
            if 0 <= cell < len(edges) - 1:
                low, high = edges[cell], edges[cell + 1]
                values = mass, mass * math.exp(-loss), mass * -math.expm1(low - loss), mass * math.expm1(high - loss)
                for whole, value in zip(found, values, strict=True):
                    whole[cell] = math.log(max(value, 1e-300))
        return Masses(*found)

    def log_moment(self, order):
        return (order - 1) / self.scale


@dataclass(frozen=True)
class ThirdParty:
    scale: float
    unit: str = "subject"
    neighbouring_relation: str = "add-or-remove-one"
    sampling: str = "none"

    @property
    def plans(self):
        return ((Release(Geometric(self.scale)),),)

    attained = plans

    def profile(self, accuracy=1e-5):
        return profile_of(self.plans, accuracy=accuracy)

    def to_dict(self):
        return {"type": "ThirdParty", "scale": self.scale}


def test_a_third_partys_mechanism_stands_alone_and_composes_with_ours():
    assert ThirdParty(2.0).profile().epsilon(1e-5).upper == pytest.approx(
        RandomisedResponse(0.5).profile().epsilon(1e-5).upper, rel=1e-6
    )
    both = Composition((ThirdParty(2.0), SubsampledGaussian(1.0, 0.1, 10))).profile().epsilon(1e-5)
    ours = Composition((RandomisedResponse(0.5), SubsampledGaussian(1.0, 0.1, 10))).profile().epsilon(1e-5)
    assert both.upper == pytest.approx(ours.upper, rel=1e-4)


@pytest.mark.parametrize(
    "mechanism",
    [
        Gaussian(1.3, 4),
        Gaussian(2.0),
        SubsampledGaussian(1.1, 0.05, 30),
        FixedSizeGaussian(4.0, 20, 500, 30),
        Laplace(2.0),
        Laplace(2.0, 0.2),
        Repetition(Laplace(2.0), 5),
        Composition((Gaussian(1.0), SubsampledGaussian(1.0, 0.1, 5))),
        Unbounded("a non-private event"),
    ],
    ids=lambda mechanism: type(mechanism).__name__,
)
def test_events_of_dp_accounting_survive_the_round_trip(mechanism):
    assert from_dp_event(to_dp_event(mechanism)) == mechanism


def _twice_sampled():
    once = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1.0))
    return dp_accounting.PoissonSampledDpEvent(0.1, once)


def test_events_without_a_mechanism_are_refused_by_name():
    with pytest.raises(InputError, match="ZCDpEvent"):
        from_dp_event(dp_accounting.ZCDpEvent(1.0))
    with pytest.raises(InputError, match="DiscreteLoss"):
        to_dp_event(DiscreteLoss((0.0,), (1.0,)))
    with pytest.raises(InputError, match="Poisson sampling"):
        from_dp_event(_twice_sampled())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Laplace(0.0), "noise_multiplier"),
        (lambda: Laplace(math.nan), "noise_multiplier"),
        (lambda: Laplace(1.0, 1.1), "sampling_rate"),
        (lambda: DiscreteGaussian(1.0, 0), "sensitivity"),
        (lambda: RandomisedResponse(1.0, 1), "categories"),
        (lambda: RandomisedResponse(-1.0), "epsilon"),
        (lambda: ComplexGaussian(1.0, correlation=1.0), "correlation"),
        (lambda: FixedSizeGaussian(1.0, 20, 10, 5), "sample_size"),
        (lambda: BandedGaussian(1.0, 0, 0.1, 5), "bands"),
        (lambda: Repetition(Gaussian(1.0), 0), "times"),
        (lambda: WorstOf(()), "choice"),
        (lambda: Composition((FixedSizeGaussian(1.0, 2, 10, 5), Gaussian(1.0))), "neighbouring_relation"),
        (lambda: DiscreteLoss((1.0, 0.0), (0.5, 0.5)), "increase"),
        (lambda: DiscreteLoss((0.0, 1.0), (0.5, 0.4)), "sum to"),
        (lambda: DiscreteLoss((-2.0,), (1.0,)), "more than 1"),
        (lambda: DiscreteLoss((0.0, math.inf), (0.5, 0.5)), "infinite"),
        (lambda: Gaussian(1.0).profile().group(0), "size"),
        (lambda: SubsampledGaussian(1.0, 0.1, 5).profile(accuracy=0.0), "accuracy"),
    ],
)
def test_silly_parameters_are_named_in_one_line(make, name):
    with pytest.raises(InputError, match=name) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1
