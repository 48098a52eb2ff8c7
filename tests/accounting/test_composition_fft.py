"""The numerical error that the FFT composition states covers what it makes."""

import numpy as np
import pytest

from reticent.accounting.composition_fft import Repeated, compose, tilt_for
from reticent.accounting.loss_cells import discretise

GRID = 0.02


def direct_convolution(pmf, steps):
    masses = np.ones(1, dtype=np.longdouble)
    for _ in range(steps):
        masses = np.convolve(masses, pmf.probabilities.astype(np.longdouble))
    return masses, (np.arange(len(masses)) + steps * pmf.first) * np.longdouble(GRID)


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("decades", [0, 8, 16])
def test_stated_error_covers_the_difference_to_direct_convolution(direction, decades):
    pmf = discretise(0.9, 0.2, GRID)[direction]
    parts = [Repeated(pmf, 12)]
    tilt = tilt_for(parts, GRID, -2.302585 * decades) if decades else 0.0
    found = compose(parts, GRID, tilt)
    masses, losses = direct_convolution(pmf, 12)
    for index in range(0, len(found.value), 25):
        truth = np.sum(masses * np.maximum(0, -np.expm1((found.first + index) * GRID - losses)))
        difference = abs(float(truth - np.longdouble(found.value[index])))
        assert difference <= found.error[index] + found.relative * found.value[index]


@pytest.mark.parametrize(("sigma", "q"), [(1.0, 0.01), (0.3, 0.5), (20.0, 0.1), (2.0, 1.0)])
def test_discretised_step_is_a_pair_of_distributions(sigma, q):
    grid = min(1e-3, q / sigma / 5)
    removal, addition = discretise(sigma, q, grid)
    for pmf in (removal, addition):
        assert pmf.probabilities.min() >= 0
        assert pmf.probabilities.sum() + pmf.infinite == pytest.approx(1.0, abs=1e-12)
    losses = (removal.first + np.arange(len(removal.probabilities))) * grid
    absent = float(removal.probabilities @ np.exp(-losses))
    assert absent <= 1.0 + 1e-13
    assert absent == pytest.approx(1.0, abs=1e-9)
