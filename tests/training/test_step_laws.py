"""The batches and the noise of a private run's steps follow the laws that are accounted for.

Everything is seen from outside, in what `PrivateRun.steps` yields and in the gradients that `Step.privatise` sets.
False alarms of the whole file: fewer than 200 checks of at most 5e-9 each, so less than 1e-6.
"""

import itertools
import os

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import toeplitz

from reticent.data import open_cohort
from reticent.records import make_study
from reticent.training import ClippedGrad, PrivateRun
from reticent.training.banded_strategy import strategy_coefficients
from reticent.training.cyclic_sampling import group_of

FALSE_ALARM = 5e-9  # of each check
SIGMA, MAX_NORM, BATCH_SIZE = 1.7, 0.5, 7.0
WIDE = {"gain": (), "bias": (3, 5), "weight": (200, 210), "kernel": (5, 2, 3, 3, 3), "twin": (200, 210)}
NARROW = {"gain": (), "bias": (3, 5), "weight": (4, 6), "kernel": (2, 1, 3, 3)}
INDEPENDENT, BANDED = {}, {"noise": "banded", "bands": 3}
both_noises = pytest.mark.parametrize("noise", [INDEPENDENT, BANDED], ids=["independent", "banded"])
both_sources = pytest.mark.parametrize("seed", [11, None], ids=["seeded", "system"])


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def start(write_cohort, tmp_path):
    """Starts a run with a declared batch size, unless told otherwise."""

    def begin(**privacy):
        study = make_study(
            {
                "cohort": {"uri": str(write_cohort(patients=60))},
                "privacy": {
                    "noise_multiplier": SIGMA, "max_norm": MAX_NORM, "batch_size": BATCH_SIZE, "sampling_rate": 0.3,
                    **privacy,
                },
            }
        )  # fmt: skip
        return PrivateRun.start(study, open_cohort(study.cohort.uri), tmp_path / "run")

    return begin


def resume(job):
    return PrivateRun.resume(job.folder, open_cohort(job.plan.study.cohort.uri))


def z_bound(checks=1):
    """Two-sided standard normal quantile, Bonferroni-corrected."""
    return stats.norm.isf(FALSE_ALARM / 2 / checks)


def assert_binomial(counts, trials, rate):
    """Every count is a plausible Binomial(trials, rate), all counts together being one check."""
    trials = np.broadcast_to(trials, np.shape(counts))
    smallest = min(stats.binomtest(int(k), int(n), rate).pvalue for k, n in zip(counts, trials, strict=True))
    assert smallest > FALSE_ALARM / len(counts)


def assert_binomial_law(counts, trials, rate):
    """The counts' frequencies are those of Binomial(trials, rate); tails are joined to cells of 25 or more expected."""
    expected = len(counts) * stats.binom.pmf(np.arange(trials + 1), trials, rate)
    usual = np.flatnonzero(expected > 25)
    low, high = usual[0], usual[-1]
    cells = expected[low : high + 1]
    cells[0], cells[-1] = expected[: low + 1].sum(), expected[high:].sum()
    observed = np.bincount(np.clip(counts, low, high).astype(int) - low, minlength=len(cells))
    assert stats.chisquare(observed, cells).pvalue > FALSE_ALARM


def assert_uncorrelated(first, second, skip=None):
    """No row of `first` is correlated with a row of `second`, but for the pairs to `skip`; all pairs are one check."""
    a, b = ((rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True) for rows in (first, second))
    correlation = a @ b.T / a.shape[1]
    kept = correlation if skip is None else correlation[~skip]
    assert np.abs(kept).max(initial=0) < 1.1 * z_bound(max(kept.size, 1)) / np.sqrt(a.shape[1])


def upper_or_same(rows):
    """Pairs of rows to leave out so that every pair of different rows counts once."""
    return np.triu(np.ones((len(rows), len(rows)), bool))


def drawn_in(job, steps):
    """Whether each training subject is in the batch of each of the next steps, (steps, subjects)."""
    subjects = job.data.subjects("train")
    subject_of = {record: k for k, own in enumerate(subjects.values()) for record in own}
    found = np.zeros((steps, len(subjects)), bool)
    for row, step in zip(found, job.steps(), strict=False):
        row[sorted({subject_of[record] for record in step.records})] = True
        assert len(step.units.unique()) == row.sum()
    return found


@both_sources
@both_noises
def test_subjects_are_drawn_independently_at_the_sampling_rate_in_their_group_s_turns_and_never_else(
    start, noise, seed
):
    steps, groups, rate = 6000, noise.get("bands", 1), 0.3
    with start(steps=steps, seed=seed, batch_size=None, **noise) as job:
        drawn = drawn_in(job, steps)
        assert job.batch_size == pytest.approx(rate * drawn.shape[1] / groups, rel=1e-12)
    turns = [drawn[group::groups] for group in range(groups)]
    member = np.array([turn.any(0) for turn in turns])
    assert (member.sum(0) == 1).all()  # else somebody is drawn in the turns of two groups
    for own, turn in zip(member, turns, strict=True):
        if not own.any():
            continue  # nobody's turn
        mine = turn[:, own].astype(float).T
        assert_binomial(mine.sum(1), len(turn), rate)
        assert_binomial_law(mine.sum(0), len(mine), rate)
        assert_uncorrelated(mine, mine, skip=upper_or_same(mine))  # of one step
        assert_uncorrelated(mine[:, 1:], mine[:, :-1])  # of successive turns, each subject's own too
    everybody = np.concatenate([turn[: steps // groups, own] for own, turn in zip(member, turns, strict=True)], axis=1)
    rows = everybody.astype(float).T
    assert_uncorrelated(rows, rows, skip=upper_or_same(rows))  # of different groups in successive steps


@both_noises
def test_a_resumed_run_goes_on_with_the_group_whose_turn_it_is(start, noise):
    groups = noise.get("bands", 1)
    with start(steps=500, **noise) as job:
        drawn = [drawn_in(job, 250)]  # ends in the middle of a cycle
        sampler = job.sampler
    with resume(job) as job:
        assert job.sampler == sampler
        next(job.steps())  # lost: started and never seen
        drawn += [np.zeros_like(drawn[0][:1]), drawn_in(job, 249)]
    drawn = np.concatenate(drawn)
    assert len(drawn) == 500
    assert all(len({step % groups for step in np.flatnonzero(subject)}) == 1 for subject in drawn.T)


@both_sources
@both_noises
def test_batches_after_a_resume_are_independent_of_those_before(start, noise, seed):
    steps, groups = 3000, noise.get("bands", 1)
    with start(steps=2 * steps, seed=seed, **noise) as job:
        before = drawn_in(job, steps)
    with resume(job) as job:
        after = drawn_in(job, steps)
    for group in range(groups):
        first, second = (drawn[group::groups].astype(float).T for drawn in (before, after))
        own = first.any(1)
        if not own.any():
            continue  # nobody's turn
        assert_binomial(second[own].sum(1), second.shape[1], 0.3)
        assert_uncorrelated(first[own], second[own])


def test_groups_are_uniform_and_independent_over_subjects_and_runs():
    groups, subjects, keys = 5, 300, 400
    found = np.array([[group_of(f"patient {s}", groups, b"run %d" % k) for s in range(subjects)] for k in range(keys)])
    counts = np.bincount(found.ravel(), minlength=groups)
    assert stats.chisquare(counts).pvalue > FALSE_ALARM
    for pairs in (
        found[:, :-1] * groups + found[:, 1:],  # subjects whose names are alike
        found[:-1] * groups + found[1:],  # the same subject in two runs
    ):
        assert stats.chisquare(np.bincount(pairs.ravel(), minlength=groups**2)).pvalue > FALSE_ALARM
    assert_binomial((found == 0).sum(0), keys, 1 / groups)
    assert_binomial((found == 0).sum(1), subjects, 1 / groups)


class Network(torch.nn.Module):
    """Parameters of several shapes, and one that is frozen."""

    def __init__(self, shapes):
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)))
        self.frozen = torch.nn.Parameter(torch.zeros(3), requires_grad=False)


def noises_of(job, shapes, steps, lost=()):
    """Noise in the gradients that the next steps set, (steps but the lost ones, values), in units of sigma C."""
    model, rng, rows = Network(shapes), np.random.default_rng(1), []
    for _, step in zip(range(steps), job.steps(), strict=False):
        if step.index in lost:
            continue
        total = {name: torch.tensor(rng.normal(size=shape)) for name, shape in shapes.items()}
        nobody = torch.zeros(0)
        step.privatise(model, ClippedGrad(total, norms=nobody, losses=nobody, n_units=0, bound=MAX_NORM))
        assert model.frozen.grad is None
        rows.append(np.concatenate([(getattr(model, n).grad * BATCH_SIZE - total[n]).numpy().ravel() for n in shapes]))
    return np.array(rows) / (SIGMA * MAX_NORM)


def strategy(steps, bands=1):
    """The matrix C of a run: Toeplitz, cut by the run's end, with columns of norm 1."""
    column = np.zeros(steps)
    column[:bands] = strategy_coefficients(steps, bands)
    matrix = np.tril(toeplitz(column))
    return matrix / np.linalg.norm(matrix, axis=0)


def assert_standard_normal(values):
    """All values together: distribution, mean and variance, three checks."""
    flat = values.ravel()
    assert stats.kstest(flat, "norm").pvalue > FALSE_ALARM
    assert abs(flat.mean()) < z_bound() / np.sqrt(flat.size)
    assert_variance_one(flat[None])


def assert_variance_one(rows):
    """The mean square of every row is that of standard normals; all rows are one check."""
    count = rows.shape[1]
    sums = np.square(rows).sum(1)
    tails = np.minimum(stats.chi2.sf(sums, count), stats.chi2.cdf(sums, count))
    assert tails.min() > FALSE_ALARM / 2 / len(rows)


def assert_covariance(noise, expected):
    """The covariance between steps, over the values of a step, is `expected`; all entries are one check."""
    found = noise @ noise.T / noise.shape[1]
    spread = np.sqrt((np.square(expected) + np.outer(np.diag(expected), np.diag(expected))) / noise.shape[1])
    assert (np.abs(found - expected) < 1.05 * z_bound(found.size) * spread).all()


@both_sources
@both_noises
def test_the_noise_of_steps_has_the_covariance_of_the_inverse_matrix_in_every_parameter(start, noise, seed):
    steps = 12
    with start(steps=steps, seed=seed, **noise) as job:
        found = noises_of(job, WIDE, steps)
    matrix = strategy(steps, noise.get("bands", 1))
    inverse = np.linalg.inv(matrix)
    assert_covariance(found, inverse @ inverse.T)
    innovations = matrix @ found
    assert_standard_normal(innovations)
    assert_variance_one(innovations)
    assert_uncorrelated(innovations, innovations, skip=upper_or_same(innovations))
    ends = np.cumsum([int(np.prod(shape)) for shape in WIDE.values()])
    parts = dict(zip(WIDE, np.split(innovations, ends[:-1], axis=1), strict=True))
    for part in parts.values():
        assert_variance_one(part.reshape(1, -1))
    assert_uncorrelated(parts["weight"], parts["twin"])  # of one shape, and yet of different noise


@both_noises
def test_every_coordinate_has_its_own_noise_of_the_same_scale(start, noise):
    steps = 1500
    with start(steps=steps, seed=12, **noise) as job:
        found = noises_of(job, NARROW, steps)
    innovations = (strategy(steps, noise.get("bands", 1)) @ found).T
    assert_variance_one(innovations)
    assert_uncorrelated(innovations, innovations, skip=upper_or_same(innovations))
    assert_uncorrelated(innovations[:, 1:], innovations[:, :-1])
    sizes = stats.chi2.cdf(np.square(innovations), 1)
    assert_uncorrelated(sizes, sizes, skip=upper_or_same(sizes))


@both_sources
@both_noises
def test_after_a_resume_the_noise_has_its_full_scale_and_no_noise_comes_again(start, noise, seed):
    steps, kills, lost = 14, (5, 9), (4, 7)  # one lost by the kill after it, one by the training loop
    job, found = start(steps=steps, seed=seed, **noise), []
    for begin, end in itertools.pairwise((0, *kills, steps)):
        job = resume(job) if begin else job
        with job:
            found.append(noises_of(job, WIDE, end - begin, lost=lost))
    found = np.concatenate(found)
    block = np.cumsum(np.isin(np.arange(steps), (*kills, 8)))
    matrix = np.where(np.equal.outer(block, block), strategy(steps, noise.get("bands", 1)), 0.0)
    released = [step for step in range(steps) if step not in lost]
    matrix = matrix[np.ix_(released, released)]
    inverse = np.linalg.inv(matrix)
    assert_covariance(found, inverse @ inverse.T)
    innovations = matrix @ found
    assert_standard_normal(innovations)
    assert_variance_one(innovations)
    assert_uncorrelated(innovations, innovations, skip=upper_or_same(innovations))
    few = found[:, :100]
    assert len(np.unique(few)) == few.size  # among so few, equal ones have a probability below 1e-9
