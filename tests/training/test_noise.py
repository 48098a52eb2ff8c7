"""Noise and Poisson sampling follow the distributions that are accounted for.

False alarms of the whole file: fewer than 100 checks of at most 1e-8 each, so less than 1e-6. How a run's steps use
them: `test_step_laws.py`.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from reticent.training.noise import SeededSource, SystemSource, bernoulli, gaussian_noise
from reticent.training.poisson_sampling import SubjectSampler

FALSE_ALARM = 1e-8  # of each check
N = 400_000


def z_bound(checks=1):
    """Two-sided standard normal quantile, Bonferroni-corrected."""
    return stats.norm.isf(FALSE_ALARM / 2 / checks)


@pytest.mark.parametrize("source", [SeededSource(5), SystemSource()], ids=["seeded", "system"])
def test_noise_is_gaussian_with_the_asked_for_deviation(source):
    values = gaussian_noise(torch.zeros(N, dtype=torch.float64), 2.5, source).numpy()
    assert stats.kstest(values, "norm", args=(0, 2.5)).pvalue > FALSE_ALARM
    cells = np.bincount((stats.norm.cdf(values / 2.5) * 200).astype(int), minlength=200)
    assert stats.chisquare(cells).pvalue > FALSE_ALARM
    assert abs(values.std() / 2.5 - 1) < z_bound() / np.sqrt(2 * N)


def test_tails_are_those_of_the_gaussian():
    values = gaussian_noise(torch.zeros(2_000_000, dtype=torch.float64), 1.0, SeededSource(6)).abs().numpy()
    for bound in (3.0, 4.0):
        expected = 2 * stats.norm.sf(bound)
        assert stats.binomtest(int((values > bound).sum()), len(values), expected).pvalue > FALSE_ALARM


def test_neighbouring_values_and_successive_calls_are_independent():
    source = SeededSource(7)
    like = torch.zeros(N, dtype=torch.float64)
    first, second = (gaussian_noise(like, 1.0, source).numpy() for _ in range(2))
    half = N // 2  # Box-Muller makes a pair from entries k and k + half
    for a, b in ((first, second), (first[:-1], first[1:]), (first[:half], first[half:])):
        for f in (lambda v: v, np.abs, np.square):
            assert abs(np.corrcoef(f(a), f(b))[0, 1]) < z_bound(9) / np.sqrt(len(a)) * 1.2


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_has_the_shape_and_type_of_what_it_is_added_to(shape, dtype):
    noise = gaussian_noise(torch.zeros(shape, dtype=dtype), 1.0, SeededSource(1))
    assert (noise.shape, noise.dtype) == (shape, dtype)
    assert noise.isfinite().all()


def test_the_seeded_source_repeats_and_the_system_source_does_not():
    like = torch.zeros(8)
    assert torch.equal(gaussian_noise(like, 1.0, SeededSource(3, 4)), gaussian_noise(like, 1.0, SeededSource(3, 4)))
    assert not torch.equal(gaussian_noise(like, 1.0, SeededSource(3, 4)), gaussian_noise(like, 1.0, SeededSource(3, 5)))
    assert not torch.equal(gaussian_noise(like, 1.0, SystemSource()), gaussian_noise(like, 1.0, SystemSource()))
    assert (SystemSource.cryptographic, SeededSource.cryptographic) == (True, False)


@pytest.mark.parametrize("rate", [1e-4, 0.1, 0.5, 0.999])
def test_bernoulli_draws_have_their_probability(rate):
    hits = int(bernoulli(rate, N, SeededSource(8)).sum())
    assert stats.binomtest(hits, N, rate).pvalue > FALSE_ALARM


def test_a_rate_of_one_draws_everyone():
    assert bernoulli(1.0, 10, SystemSource()).all()
    records, units = SubjectSampler([[0], [1, 2]], 1.0, 4).draw(SystemSource())
    assert (records, units) == ([0, 1, 2], [0, 1, 1])


def test_every_subject_is_drawn_independently_at_the_sampling_rate():
    subjects, draws, rate, source = 50, 20_000, 0.1, SeededSource(9)
    sampler = SubjectSampler([[k] for k in range(subjects)], rate, 1)
    drawn = np.zeros((draws, subjects), bool)
    for batch in drawn:
        batch[sampler.draw(source)[0]] = True
    counts = drawn.sum(0)
    spread = np.sqrt(draws * rate * (1 - rate))
    assert np.abs((counts - draws * rate) / spread).max() < z_bound(subjects)
    sizes, variance = drawn.sum(1), subjects * rate * (1 - rate)
    assert abs(sizes.mean() - subjects * rate) < z_bound() * np.sqrt(variance / draws)
    assert abs(sizes.var() / variance - 1) < 1.1 * z_bound() * np.sqrt(2 / draws)
    most = 12  # 64 of the batches are expected to be this large or larger
    shares = np.append(stats.binom.pmf(np.arange(most), subjects, rate), stats.binom.sf(most - 1, subjects, rate))
    assert stats.chisquare(np.bincount(np.minimum(sizes, most)), draws * shares).pvalue > FALSE_ALARM
    correlation = np.corrcoef(drawn.T)[np.triu_indices(subjects, 1)]
    assert np.abs(correlation).max() < 1.1 * z_bound(len(correlation)) / np.sqrt(draws)


def test_a_drawn_subject_brings_all_its_records_or_a_uniform_choice_of_the_most_allowed():
    sampler, source = SubjectSampler([[0, 1], [2, 3, 4, 5, 6]], 1.0, 3), SeededSource(10)
    chosen = np.zeros(7)
    for _ in range(5000):
        records, units = sampler.draw(source)
        assert records[:2] == [0, 1]
        assert units == [0, 0, 1, 1, 1]
        assert len(set(records)) == 5
        chosen[records] += 1
    assert stats.chisquare(chosen[2:] * 5 / 3).pvalue > FALSE_ALARM  # conservative: without replacement varies less


def test_a_batch_may_be_empty():
    assert SubjectSampler([[0], [1]], 1e-12, 1).draw(SeededSource(1)) == ([], [])
