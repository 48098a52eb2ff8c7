"""Plans of active learning, against published numbers and independent accountants (dp_accounting)."""

import math
import time

import numpy as np
import pytest
from dp_accounting.pld import pld_privacy_accountant
from dp_accounting.rdp import rdp_privacy_accountant
from scipy.integrate import quad

from reticent.accounting import (
    Composition,
    Laplace,
    SubsampledGaussian,
    UntilSelected,
    mechanism_from_dict,
    to_dp_event,
)
from reticent.accounting.gaussian_loss import GaussianLoss
from reticent.errors import InputError
from reticent.training.active import plan_step_amplification
from reticent.training.active.renyi import NOTHING, ORDERS, epsilon_of, gaussian_step, laplace

CIFAR = {
    "query_sizes": (10_000, 10_000, 3_000, 1_000, 1_000),
    "epsilon": 8.0,
    "delta": 1e-5,
    "batch_size": 4096,
    "epochs": 30,
}
USED = (4.617, 5.791, 6.624, 7.395, 8.000)
FINALLY = (8.000, 6.060, 4.918, 3.854, 2.499)


def plan(**options):
    return plan_step_amplification(**(CIFAR | options))


def renyi_epsilon(mechanism, delta=1e-5):
    """Of a composition, by the quick accountant."""
    total = NOTHING
    for part in mechanism.mechanisms:
        if isinstance(part, Laplace):
            total = total + part.steps * laplace(1 / part.noise_multiplier)
        else:
            total = total + part.steps * gaussian_step(part.noise_multiplier, part.sampling_rate)
    return epsilon_of(total, delta)


def other_epsilon(mechanism, accountant, delta=1e-5):
    """Of a composition, by an accountant of dp_accounting."""
    for part in mechanism.mechanisms:
        accountant.compose(to_dp_event(part))
    return accountant.get_epsilon(delta)


@pytest.fixture(scope="module")
def naive():
    return plan(schedule="naive", accountant="renyi")


@pytest.fixture(scope="module")
def amplified():
    return {
        0: plan(accountant="renyi"),
        2: plan(accountant="renyi", strategy="entropy", selection_epsilon=2.0),
    }


@pytest.mark.parametrize(("sigma", "rate"), [(4.1, 0.15), (0.8, 0.01), (1.5, 0.9), (4.1, 0.5), (6.0, 1.0)])
def test_the_quick_accountant_has_the_moments_of_closed_forms_and_of_adaptive_quadrature(sigma, rate):
    own = gaussian_step(sigma, rate) * (ORDERS - 1)
    for order in (2, 3, 7, 20, 63):
        moment = GaussianLoss(sigma, rate).log_moment(order)
        assert own[np.abs(ORDERS - order).argmin()] == pytest.approx(moment, rel=1e-9)
    for order in (1.1, 2.4, 5.5):

        def excess(x, order=order):
            ratio = np.log1p(rate * np.expm1((2 * x - 1) / 2 / sigma**2))
            return math.exp(-((x / sigma) ** 2) / 2) / sigma / math.sqrt(2 * math.pi) * np.expm1(order * ratio)

        moment = math.log1p(quad(excess, -12 * sigma, 12 * sigma + order, epsabs=1e-14, epsrel=1e-10, limit=500)[0])
        assert own[np.abs(ORDERS - order).argmin()] == pytest.approx(moment, rel=1e-7)


def test_the_quick_accountant_is_close_to_anothers():
    """Whole orders only: between them that of dp_accounting does not converge at large rates."""
    for sigma, rate in ((4.1, 0.15), (0.8, 0.01), (6.0, 1.0)):
        mechanism = Composition((SubsampledGaussian(sigma, rate, 50), Laplace(2.0, steps=3)))
        other = other_epsilon(mechanism, rdp_privacy_accountant.RdpAccountant([*range(2, 64)]))
        assert other * (1 - 0.02) <= renyi_epsilon(mechanism) <= other


def test_the_naive_schedule_has_the_published_noise_and_spending(naive):
    assert [phase.steps for phase in naive.phases] == [60, 120, 150, 150, 180]
    assert [phase.rates[0] for phase in naive.phases] == pytest.approx([1 / 2, 1 / 4, 1 / 5, 1 / 5, 1 / 6])
    assert naive.phases[0].noise_multiplier == pytest.approx(4.106, abs=0.02)
    used = [renyi_epsilon(naive.mechanism(0, through=i)) for i in range(5)]
    assert used == pytest.approx(USED, abs=0.02)
    assert [renyi_epsilon(naive.mechanism(group)) for group in range(5)] == pytest.approx(FINALLY, abs=0.02)


def test_certified_accounting_needs_less_noise_and_naive_spending_falls_with_the_phase_of_labelling():
    certified = plan(schedule="naive")
    assert certified.phases[0].noise_multiplier < 4.106 - 0.02
    spent = [certified.spent(group).upper for group in range(5)]
    assert spent == sorted(spent, reverse=True)
    assert spent[4] < 0.4 * spent[0]
    assert 8.0 * (1 - 2e-3) < certified.guarantee().profile().epsilon(1e-5).upper <= 8.0


@pytest.mark.parametrize(
    ("selection", "steps", "old", "new"),
    [(0, (334, 252, 231, 214), (0.1503, 0.1545, 0.1613, 0.1528), (0.2594, 0.3356, 0.3857, 0.4288))],
)
def test_amplified_phases_are_the_published_ones(amplified, selection, steps, old, new):
    phases = amplified[selection].phases[1:]
    assert [phase.steps for phase in phases] == pytest.approx(steps, abs=1)
    assert [phase.rates[0] for phase in phases] == pytest.approx(old, rel=5e-3)
    assert [phase.rates[-1] for phase in phases] == pytest.approx(new, rel=5e-3)


@pytest.mark.parametrize("selection", [0, 2])
def test_every_group_ends_at_the_budget_by_its_own_history(amplified, naive, selection):
    made = amplified[selection]
    for i, (phase, base) in enumerate(zip(made.phases[1:], naive.phases[1:], strict=True), start=1):
        assert abs(phase.expected_batch - 4096) <= 2
        assert phase.steps > base.steps
        assert phase.rates[-1] > phase.rates[0]
        assert phase.noise_multiplier <= base.noise_multiplier
        assert renyi_epsilon(made.mechanism(0, through=i)) == pytest.approx(USED[i], rel=1e-3)
    totals = [renyi_epsilon(made.mechanism(group)) for group in range(5)]
    assert totals == pytest.approx([8.0] * 5, rel=1e-3)
    assert max(totals) <= 8.0 + 1e-6
    for group in range(5):  # by numerics that share nothing with ours
        accountant = pld_privacy_accountant.PLDAccountant(value_discretization_interval=1e-3)
        assert 7.0 < other_epsilon(made.mechanism(group), accountant) <= 8.0


def test_the_public_algorithm_exceeds_the_budget_that_ours_keeps(amplified):
    """Its published steps and rates at a selection epsilon of 2, which take every earlier group for the first one."""
    rows = ((303, 0.1578, 0.2518), (236, 0.1597, 0.3009), (223, 0.1641, 0.3223), (204, 0.1564, 0.3420))
    totals = []
    for group in range(1, 5):
        parts = [SubsampledGaussian(4.102, new if i == group else old, t) for i, (t, old, new) in enumerate(rows, 1)]
        totals.append(renyi_epsilon(Composition(tuple(parts[group - 1 :]))) + 0.5 * group)
    assert totals == pytest.approx([8.104, 8.127, 8.086, 8.002], abs=0.02)
    assert max(totals) > 8.1
    assert max(renyi_epsilon(amplified[2].mechanism(group)) for group in range(5)) <= 8.0 + 1e-6


def test_selection_is_composed_and_costs_less_than_its_epsilon(amplified):
    """Group 4 keeps more for training than the 8 - 2 that adding epsilons would leave it."""
    training = Composition(amplified[2].mechanism(4).mechanisms[1:])
    assert 6.3 < renyi_epsilon(training) < 8.0
    assert amplified[2].mechanism(4).mechanisms[0] == Laplace(2.0, steps=4)
    assert amplified[2].mechanism(0).mechanisms[0] == SubsampledGaussian(
        amplified[2].phases[0].noise_multiplier, 0.5, 60
    )


def test_the_certified_plan_holds_for_whoever_is_selected_by_whatever_was_seen():
    began = time.monotonic()
    made = plan(strategy="entropy", selection_epsilon=2.0)
    assert time.monotonic() - began < 60
    whole = made.guarantee()
    assert isinstance(whole.mechanisms[1], UntilSelected)
    assert mechanism_from_dict(whole.to_dict()) == whole
    total = whole.profile().epsilon(1e-5).upper
    assert 8.0 * (1 - 2e-3) < total <= 8.0
    assert all(made.spent(group).upper <= total * (1 + 1e-9) for group in range(5))
    assert made.selection(rounds=4).profile().epsilon(1e-5).upper <= 2.0
    rows = made.table()
    assert [len(row["epsilons"]) for row in rows] == [1, 2, 3, 4, 5]
    for group in range(5):
        own = [row["epsilons"][group] for row in rows[group:]]
        assert own == sorted(own)
    assert made.phases[0].noise_multiplier < 4.0


def test_the_guarantee_of_earlier_phases_is_part_of_the_last_ones():
    made = plan_step_amplification(
        (60, 40, 30), epsilon=6.0, delta=1e-3, batch_size=20, epochs=5, strategy="entropy", selection_epsilon=1.0
    )
    found = [made.guarantee(through=i).profile().epsilon(1e-3).upper for i in range(3)]
    assert found == sorted(found)
    assert made.guarantee(through=0).mechanisms == (made.mechanism(0, through=0),)
    for i, phase in enumerate(made.phases):
        assert phase.expected_batch == pytest.approx(20, rel=1e-3) or i == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strategy": "entropy"}, "give selection an epsilon, choose random"),
        ({"strategy": "bald", "selection_epsilon": 0.0}, "give selection an epsilon"),
        ({"strategy": "core-set", "selection_epsilon": 1.0}, "cannot be made private"),
        ({"strategy": "random", "selection_epsilon": 1.0}, "reads no data"),
        ({"strategy": "entropy", "selection_epsilon": 1.0, "public_pool": True}, "cost nothing"),
        ({"strategy": "badge"}, "not known"),
        ({"selection_epsilon": 8.0, "strategy": "entropy"}, "must leave some"),
        ({"selection_epsilon": 7.9, "strategy": "entropy"}, "lower the epsilon of selection"),
        ({"query_sizes": (4000, 100)}, "cannot be drawn from the 4000"),
        ({"query_sizes": (5000, 0)}, "at least 1"),
        ({"query_sizes": (5000,), "strategy": "entropy", "selection_epsilon": 1.0}, "nothing to select"),
        ({"epsilon": math.inf}, "epsilon above 0"),
        ({"delta": 1.0}, "delta between"),
        ({"epochs": 0}, "at least 1"),
        ({"schedule": "fast"}, "step-amplification or naive"),
        ({"accountant": "moments"}, "certified or renyi"),
    ],
)
def test_plans_that_cannot_be_kept_are_refused_with_the_remedy(options, said):
    with pytest.raises(InputError, match=said):
        plan(**options)


def test_a_public_pool_may_be_scored_for_nothing():
    made = plan(strategy="core-set", public_pool=True, accountant="renyi")
    assert made == plan(accountant="renyi")
    with pytest.raises(InputError, match="is no mechanism"):
        made.selection()
    with pytest.raises(InputError, match="no group 3 at the end of phase 2"):
        made.mechanism(3, through=2)


def accuracy(made, seed):
    """Of private softmax regression on scanned digits, labelled at random: clipped, noised, phase by phase."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    x, y = load_digits(return_X_y=True)
    x = np.hstack([x / np.linalg.norm(x, axis=1, keepdims=True), np.full((len(x), 1), 0.3)])
    order = rng.permutation(len(x))
    test, order = order[:600], order[600:]
    group = np.repeat(np.arange(len(made.phases)), [phase.selected for phase in made.phases])
    x_train, y_train, weights = x[order[: len(group)]], y[order[: len(group)]], np.zeros((65, 10))
    for i, phase in enumerate(made.phases):
        rates = np.append(phase.rates, np.zeros(len(made.phases) - i - 1))[group]
        for _ in range(phase.steps):
            drawn = rng.random(len(group)) < rates
            logits = x_train[drawn] @ weights
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p = p / p.sum(axis=1, keepdims=True) - np.eye(10)[y_train[drawn]]
            norms = np.linalg.norm(p, axis=1) * np.linalg.norm(x_train[drawn], axis=1)
            p *= np.minimum(1, 1 / np.maximum(norms, 1e-12))[:, None]
            noise = rng.normal(0, phase.noise_multiplier, weights.shape)
            weights -= 2.0 * (x_train[drawn].T @ p + noise) / made.batch_size
    return float(((x[test] @ weights).argmax(1) == y[test]).mean())


def test_step_amplification_is_no_worse_than_the_naive_schedule_at_equal_epsilon():
    """Mean accuracy over 8 seeds, the same for both; the margin is 6 standard errors of the paired difference."""
    options = {"query_sizes": (300, 300, 200, 150, 100), "epsilon": 8.0, "delta": 1e-3, "batch_size": 100, "epochs": 10}
    plans = [plan(**options, schedule=schedule) for schedule in ("naive", "step-amplification")]
    gains = np.array([accuracy(plans[1], seed) - accuracy(plans[0], seed) for seed in range(8)])
    assert gains.mean() > -6 * gains.std(ddof=1) / math.sqrt(8)
    assert np.mean([accuracy(plans[1], seed) for seed in range(2)]) > 0.6
