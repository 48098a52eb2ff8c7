"""The certified epsilon agrees with dp-accounting's PLD, which is itself rounded up by its grid."""

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant

from reticent.accounting import SubsampledGaussian

RUNS = [
    (0.01, 0.6, 50, 1e-5),
    (0.01, 10.0, 10000, 1e-5),
    (0.03, 1.0, 3000, 1e-5),
    (0.1, 1.2, 150, 1e-4),
    (0.1, 3.0, 10000, 1e-4),
    (0.12, 7.5, 8700, 1e-4),
    (0.25, 8.1, 453, 1e-5),
    (0.3, 10.0, 50, 1e-5),
    (0.3, 2.0, 600, 1e-4),
]


@pytest.mark.parametrize(("q", "sigma", "steps", "delta"), RUNS)
def test_epsilon_brackets_dp_accounting_from_above(q, sigma, steps, delta):
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(sigma)), steps)
    recomputed = accountant.get_epsilon(delta)
    epsilon = SubsampledGaussian(sigma, q, steps).profile().epsilon(delta)
    assert epsilon.lower <= recomputed <= epsilon.upper * (1 + 1e-3)
    assert epsilon.upper <= 1.01 * recomputed
