"""The banded matrix, the noise that it correlates, and the groups that take turns: what Theorem 4 asks of them."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import toeplitz
from scipy.optimize import minimize

from reticent.records import make_study
from reticent.training import banded_noise
from reticent.training.banded_noise import BandedNoise
from reticent.training.banded_strategy import strategy_coefficients
from reticent.training.cyclic_sampling import cyclic_sampler, group_of
from reticent.training.noise import SeededSource, gaussian_noise

SIZES = [(1, 1), (2, 2), (6, 1), (7, 3), (12, 12), (40, 5)]


def strategy(steps, bands):
    """C = T D, from its definition: Toeplitz columns cut by the run's end, each divided by its norm."""
    column = np.zeros(steps)
    column[:bands] = strategy_coefficients(steps, bands)
    matrix = np.tril(toeplitz(column))
    return matrix / np.linalg.norm(matrix, axis=0)


def in_blocks(matrix, starts):
    """The matrix without the entries that lie between blocks beginning at these steps."""
    block = np.searchsorted(starts, np.arange(len(matrix)), side="right")
    return np.where(np.equal.outer(block, block), matrix, 0.0)


def linear_map(noise, steps, monkeypatch):
    """What `noise` makes of independent z_0, z_1, …: row t holds the factors of each in the noise of the t-th step."""
    impulses = iter(torch.eye(len(steps), dtype=torch.float64))
    monkeypatch.setattr(banded_noise, "gaussian_noise", lambda like, std, source: std * next(impulses))
    like = torch.zeros(len(steps), dtype=torch.float64)
    return torch.stack([noise.draw(step, "weight", like) for step in steps]).numpy()


def prefix_error(matrix):
    """Mean over the steps of the variance of the prefix sums' noise, at a largest column norm of 1."""
    prefix = np.tril(np.ones_like(matrix)) @ np.linalg.inv(matrix)
    return np.square(prefix).sum() / len(matrix) * np.square(matrix).sum(0).max()


@pytest.mark.parametrize(("steps", "bands"), SIZES)
def test_noise_is_that_of_the_inverse_of_a_banded_matrix_whose_columns_have_norm_one(steps, bands, monkeypatch):
    found = linear_map(BandedNoise(1.5, steps, bands, None), range(steps), monkeypatch)
    matrix = np.linalg.inv(found / 1.5)
    lags = np.subtract.outer(np.arange(steps), np.arange(steps))
    assert np.abs(matrix[(lags < 0) | (lags >= bands)]).max(initial=0) < 1e-12
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(matrix, strategy(steps, bands), rtol=0, atol=1e-12)


@pytest.mark.parametrize("starts", [(1,), (4,), (8,), (1, 3, 4), (3, 4, 8)])
def test_after_interruptions_the_matrix_is_block_diagonal_with_columns_of_norm_at_most_one(starts, monkeypatch):
    steps, bands = 9, 4
    found = np.zeros((steps, steps))
    for start, end in itertools.pairwise((0, *starts, steps)):
        resumed = BandedNoise(1.0, steps, bands, None)
        found[start:end, start:end] = linear_map(resumed, range(start, end), monkeypatch)
    matrix = np.linalg.inv(found)
    np.testing.assert_allclose(matrix, in_blocks(strategy(steps, bands), starts), rtol=0, atol=1e-12)
    assert np.linalg.norm(matrix, axis=0).max() <= 1 + 1e-12


def test_a_step_that_released_nothing_begins_a_new_block(monkeypatch):
    released = [0, 1, 3, 4, 5, 8]
    found = linear_map(BandedNoise(1.0, 9, 3, None), released, monkeypatch)
    expected = in_blocks(strategy(9, 3), [3, 8])[np.ix_(released, released)]
    np.testing.assert_allclose(np.linalg.inv(found), expected, rtol=0, atol=1e-12)


def test_steps_out_of_order_and_parameters_of_another_shape_begin_new_blocks():
    noise, fresh = BandedNoise(1.0, 9, 3, SeededSource(1)), SeededSource(1)

    def found_and_independent(step, name, *shape):
        like = torch.zeros(shape, dtype=torch.float64)
        return noise.draw(step, name, like), gaussian_noise(like, 1.0, fresh) / strategy_coefficients(9, 3)[0]

    for place in ((4, "a", 4), (4, "b", 4), (3, "a", 4), (3, "b", 2, 2), (4, "b", 4), (6, "b", 4)):
        torch.testing.assert_close(*found_and_independent(*place), rtol=1e-12, atol=0)
    following, independent = found_and_independent(4, "a", 4)  # step 3 of "a" came directly before
    assert not torch.allclose(following, independent)


@pytest.mark.parametrize("step", [-1, 5])
def test_a_run_has_no_noise_for_steps_beyond_its_plan(step):
    with pytest.raises(ValueError, match="of a run of 5 steps"):
        BandedNoise(1.0, 5, 2, SeededSource(1)).draw(step, "weight", torch.zeros(1))


def test_one_band_draws_the_very_noise_of_dp_sgd():
    noise, source = BandedNoise(2.5, 3, 1, SeededSource(4)), SeededSource(4)
    for step in range(3):
        like = torch.zeros(2, 3, dtype=torch.float64)
        assert torch.equal(noise.draw(step, "weight", like), gaussian_noise(like, 2.5, source))


@pytest.mark.parametrize(("steps", "bands"), [(2, 2), (9, 3), (12, 5)])
def test_coefficients_are_the_best_that_a_search_over_whole_matrices_finds(steps, bands):
    def error(tail):
        column = np.zeros(steps)
        column[:bands] = [1.0, *tail]
        return prefix_error(np.tril(toeplitz(column)))

    found = strategy_coefficients(steps, bands)
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 10_000, "maxfev": 10_000}
    best = minimize(error, np.full(bands - 1, 0.2), method="Nelder-Mead", options=options)
    assert error(np.divide(found[1:], found[0])) == pytest.approx(best.fun, rel=1e-9)


@pytest.mark.parametrize(("steps", "bands"), [(10, 4), (100, 8), (100, 100)])
def test_errors_of_prefix_sums_are_below_those_of_the_square_root_and_of_independent_noise(steps, bands):
    lags = np.arange(steps)
    root = np.array([math.comb(2 * k, k) / 4**k for k in lags.tolist()]) * (lags < bands)
    ours, cut_root = prefix_error(strategy(steps, bands)), prefix_error(np.tril(toeplitz(root)))
    assert ours < cut_root < prefix_error(np.eye(steps)) == (steps + 1) / 2


def test_long_runs_have_stable_strategies_of_falling_positive_coefficients():
    coefficients = np.array(strategy_coefficients(3000, 64))
    assert np.linalg.norm(coefficients) == pytest.approx(1, abs=1e-15)
    assert (np.diff(coefficients) < 0).all()
    assert coefficients[-1] > 0
    assert np.abs(np.roots(coefficients)).max() < 1  # noise of a step dies away in those that follow


def privacy(**options):
    values = {"noise_multiplier": 1.0, "noise": "banded", "bands": 3, "steps": 9, **options}
    return make_study({"cohort": {"uri": "x"}, "privacy": values}).privacy


def test_a_subject_more_changes_its_own_group_and_moves_nobody():
    subjects = {f"patient {k}": [2 * k, 2 * k + 1] for k in range(200)}
    for left_out in ("patient 0", "patient 77", "patient 199"):
        others = {name: own for name, own in subjects.items() if name != left_out}
        groups, fewer = (cyclic_sampler(s, privacy(), b"key").groups for s in (subjects, others))
        changed = [k for k in range(3) if groups[k] != fewer[k]]
        assert changed == [group_of(left_out, 3, b"key")]
        own = list(groups[changed[0]].records_of)
        own.remove(subjects[left_out])
        assert own == list(fewer[changed[0]].records_of)


def test_every_subject_is_in_one_group_that_depends_on_the_key_and_on_nothing_else():
    subjects = {f"patient {k}": [k] for k in range(200)}
    groups = cyclic_sampler(subjects, privacy(), b"key").groups
    assert sorted(own[0] for group in groups for own in group.records_of) == list(range(200))
    assert cyclic_sampler(dict(reversed(subjects.items())), privacy(), b"key").groups[1].records_of[::-1] == (
        groups[1].records_of
    )
    assert cyclic_sampler(subjects, privacy(), b"another").groups != groups


def test_steps_draw_from_the_groups_in_turn():
    sampler = cyclic_sampler({f"patient {k}": [k] for k in range(50)}, privacy(sampling_rate=1.0), b"key")
    for step in range(7):
        records, units = sampler.draw(step, SeededSource(1))
        assert {group_of(f"patient {k}", 3, b"key") for k in records} == {step % 3}
        assert units == list(range(len(records)))


def test_more_groups_than_subjects_leave_empty_turns():
    sampler = cyclic_sampler({"patient": [5]}, privacy(sampling_rate=1.0), b"key")
    assert sorted(sampler.draw(step, SeededSource(1))[0] for step in range(3)) == [[], [], [5]]
