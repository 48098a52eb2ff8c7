"""The numerical error that the FFT composition states covers what it makes."""

import numpy as np
import pytest

from reticent.accounting.composition_fft import Repeated, compose, tilt_for
from reticent.accounting.discretise import discretise
from reticent.accounting.gaussian_loss import GaussianLoss

GRID = 0.02


def direct_convolution(pmf, steps):
    masses = np.ones(1, dtype=np.longdouble)
    for _ in range(steps):
        masses = np.convolve(masses, pmf.probabilities.astype(np.longdouble))
    return masses, np.arange(len(masses)) + steps * pmf.first


@pytest.mark.parametrize("direction", ["removal", "addition"])
@pytest.mark.parametrize("decades", [0, 8, 16])
def test_stated_error_covers_the_difference_to_direct_convolution(direction, decades):
    parts = [Repeated(getattr(discretise(GaussianLoss(0.9, 0.2), GRID), direction), 12)]
    tilt = tilt_for(parts, -2.302585 * decades) if decades else 0.0
    composed = compose(parts, tilt, 10**6)
    masses, sums = direct_convolution(parts[0].pmf, 12)
    divergence, tail = composed.divergence(GRID), composed.tail()
    for index in range(0, len(tail.value), 25):
        above = sums - (tail.first + index)
        for found, weights in (
            (divergence, np.maximum(0, -np.expm1(-np.longdouble(GRID) * above))),
            (tail, above >= 0),
        ):
            truth = float(np.sum(masses * weights))
            assert np.exp(found.log_lower[index]) <= truth <= np.exp(found.log_upper[index])


@pytest.mark.parametrize(("sigma", "q"), [(1.0, 0.01), (0.3, 0.5), (20.0, 0.1), (2.0, 1.0)])
def test_discretised_step_is_a_pair_of_distributions(sigma, q):
    grid = min(1e-3, q / sigma / 5)
    step = discretise(GaussianLoss(sigma, q), grid)
    for pmf in (step.removal, step.addition, step.present, step.absent):
        assert pmf.probabilities.min() >= 0
        assert pmf.probabilities.sum() + pmf.infinite == pytest.approx(1.0, abs=1e-12)
    losses = (step.removal.first + np.arange(len(step.removal.probabilities))) * grid
    absent = float(step.removal.probabilities @ np.exp(-losses))
    assert absent <= 1.0 + 1e-13
    assert absent == pytest.approx(1.0, abs=1e-9)
