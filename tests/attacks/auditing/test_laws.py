"""Tests of batches and of noise: what is right passes, and each way to be wrong is seen."""

import numpy as np
import pytest

from reticent.attacks.auditing.noise_law import noise_law
from reticent.attacks.auditing.sampling_law import sampling_law
from reticent.errors import InputError


def poisson(steps, patients, rate, seed):
    return np.random.default_rng(seed).random((steps, patients)) < rate


def shuffled(steps, patients, rate, seed):
    """Batches of one size, cut from the cohort in an order drawn anew for each pass."""
    rng, size = np.random.default_rng(seed), round(rate * patients)
    taken, left = np.zeros((steps, patients), bool), []
    for step in range(steps):
        if len(left) < size:
            left = rng.permutation(patients).tolist()
        taken[step, left[:size]] = True
        left = left[size:]
    return taken


def test_p_values_of_poisson_batches_are_not_too_small():
    """Of 400, more than 52 below 0.05 would have a chance of 1e-9 under an exact test; the moments are close to it."""
    p_values = [sampling_law(poisson(60, 120, 0.2, seed), 0.2).p_value for seed in range(400)]
    assert sum(p < 0.05 for p in p_values) <= 52
    assert min(p_values) > 1e-5


def test_shuffled_batches_are_no_poisson_batches():
    law = sampling_law(shuffled(60, 120, 0.2, 1), 0.2)
    assert law.sizes.value == 0
    assert law.participations.value < 0.1
    assert law.p_value < 1e-30


def test_batches_of_random_sizes_without_repetition_within_a_pass_are_seen_by_how_often_patients_take_part():
    rng, taken, left = np.random.default_rng(2), np.zeros((100, 200), bool), []
    for step in range(100):
        size = rng.binomial(200, 0.1)
        if len(left) < size:
            left = rng.permutation(200).tolist()
        taken[step, left[:size]] = True
        left = left[size:]
    law = sampling_law(taken, 0.1)
    assert law.oddest is law.participations
    assert law.p_value < 1e-9


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_another_rate_than_is_claimed_is_seen(rate):
    assert sampling_law(poisson(60, 200, rate, 5), 0.2).p_value < 1e-9


def test_patients_who_come_together_are_seen():
    blocks = np.repeat(poisson(60, 20, 0.2, 7), 10, axis=1)
    law = sampling_law(blocks, 0.2)
    assert law.sizes.value > 3
    assert law.p_value < 1e-9


def test_cyclic_batches_pass_as_such_and_nobody_may_come_out_of_turn():
    rng = np.random.default_rng(11)
    groups = rng.integers(0, 3, 150)
    turn = np.arange(90)[:, None] % 3 == groups
    taken = (rng.random((90, 150)) < 0.3) & turn
    assert sampling_law(taken, 0.3, groups).p_value > 1e-3
    assert sampling_law(taken[1:], 0.3, groups, np.arange(1, 90)).p_value > 1e-3  # a step was lost
    taken[0, np.flatnonzero(groups == 1)[0]] = True
    assert sampling_law(taken, 0.3, groups).p_value == 0


def test_at_a_rate_of_one_everybody_must_come():
    assert sampling_law(np.ones((3, 5), bool), 1.0).p_value == 1
    missing = np.ones((3, 5), bool)
    missing[1, 2] = False
    assert sampling_law(missing, 1.0).p_value == 0
    with pytest.raises(InputError, match="no batches"):
        sampling_law(np.zeros((0, 5), bool), 0.5)


def sums(noise):
    """By tensor (steps, values): count, sum of squares and of products with the step before."""
    return np.array([[z.size, (z**2).sum(), (z[1:] * z[:-1]).sum()] for z in noise])


def drawn(seed, sizes=(2, 30, 4000), steps=50):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(steps, size)) for size in sizes]


def test_p_values_of_right_noise_are_not_too_small():
    """Of 400, more than 52 below 0.05 would have a chance of 1e-9."""
    laws = [noise_law(sums(drawn(seed, (2, 30, 200)))) for seed in range(400)]
    assert sum(law.p_value < 0.05 for law in laws) <= 52
    assert sum(not law.interval[0] <= 1 <= law.interval[1] for law in laws) <= 52


def test_noise_that_is_missing_in_the_smallest_tensor_is_seen():
    noise = drawn(1)
    noise[0] = noise[0] * 0.3
    law = noise_law(sums(noise))
    assert law.tensor == 0
    assert law.p_value < 1e-9
    assert law.ratio == pytest.approx(0.3, rel=0.3)
    noise[0] = noise[0] * 0
    assert noise_law(sums(noise)).p_value == 0


def test_noise_that_is_a_little_too_small_everywhere_or_too_large_is_seen():
    for factor in (0.98, 1.02):
        assert noise_law(sums([factor * z for z in drawn(2)])).p_value < 1e-9


def test_noise_that_repeats_itself_is_seen():
    noise = [np.repeat(z[::2], 2, axis=0) for z in drawn(3)]
    law = noise_law(sums(noise))
    assert law.correlation == pytest.approx(0.5, abs=0.05)
    assert law.p_value < 1e-9
