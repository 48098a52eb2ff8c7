"""Filters admit only what their budget allows."""

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.accounting import (
    Charge,
    Composition,
    Gaussian,
    GaussianFilter,
    RenyiFilter,
    SubsampledGaussian,
    Unbounded,
)

jobs = st.builds(SubsampledGaussian, st.floats(1.0, 4), st.floats(0.02, 0.3), st.integers(10, 200))


def admitted(rule, offered):
    """The jobs that a filter admits one after the other, and their total."""
    total, taken = Charge(0.0), []
    for job in offered:
        if rule.admits(total + rule.charge(job)):
            total += rule.charge(job)
            taken.append(job)
    return taken, total


@settings(max_examples=8, deadline=None)
@given(st.lists(jobs, min_size=3, max_size=6), st.floats(0.5, 10))
def test_renyi_filter_admits_nothing_beyond_what_dp_accounting_allows(offered, epsilon):
    taken, _ = admitted(RenyiFilter(epsilon, 1e-5), offered)
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for job in taken:
        event = dp_accounting.PoissonSampledDpEvent(
            job.sampling_rate, dp_accounting.GaussianDpEvent(job.noise_multiplier)
        )
        accountant.compose(event, job.steps)
    assert accountant.get_epsilon(1e-5) <= epsilon


@settings(max_examples=3, deadline=None)
@given(st.lists(jobs, min_size=3, max_size=4), st.floats(0.3, 2))
def test_gaussian_filter_keeps_the_composed_curve_above_its_budget(offered, mu):
    taken, total = admitted(GaussianFilter(mu), offered)
    if taken:
        alphas = [1e-3, 0.01, 0.1, 0.3, 0.5]
        composed = Composition(tuple(taken)).profile().tradeoff(alphas)
        budget = Gaussian(1 / mu).profile().tradeoff(alphas)
        for value, floor in zip(composed, budget, strict=True):
            assert value.upper >= floor.lower - total.failure
            assert value.lower >= floor.lower - total.failure - 1e-4


def test_gaussian_jobs_fill_the_gaussian_budget_exactly():
    taken, total = admitted(GaussianFilter(2.0), [Gaussian(1.0)] * 5)
    assert len(taken) == 4
    assert total.failure == 0.0


def test_renyi_filter_spends_most_of_its_budget_on_gaussians():
    rule = RenyiFilter(8.0, 1e-5)
    taken, _ = admitted(rule, [Gaussian(6.0)] * 200)
    assert 0.8 * 8.0 < Composition(tuple(taken)).profile().epsilon(1e-5).upper <= 8.0


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0, 100.0])
def test_renyi_order_depends_on_the_budget_alone_and_leaves_room(epsilon):
    rule = RenyiFilter(epsilon, 1e-5)
    assert rule.order >= 2
    assert 0 < rule.limit < epsilon + 1


@pytest.mark.parametrize("rule", [GaussianFilter(50.0), RenyiFilter(1e6, 1e-5)])
def test_a_job_without_privacy_exceeds_any_budget(rule):
    assert not rule.admits(rule.charge(Unbounded("twin")))


def test_failures_of_sampled_jobs_add_up_to_a_millionth_at_most():
    rule = GaussianFilter(100.0)
    charge = rule.charge(SubsampledGaussian(5.0, 0.1, 1))
    assert charge.failure == 1e-8
    assert rule.admits(Charge(1.0, 100 * charge.failure))
    assert not rule.admits(Charge(1.0, 101 * charge.failure))


@pytest.mark.parametrize("rule", [GaussianFilter(2.0), RenyiFilter(8.0, 1e-5)])
def test_filters_describe_themselves_in_one_sentence(rule):
    assert rule.describe().endswith(".")
    assert "filter" in rule.describe()
