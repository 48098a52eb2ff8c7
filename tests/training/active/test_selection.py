"""Selection by noised scores, and sampling at rates of their own. Seeds are fixed; false-alarm rates are below 1e-6."""

import math

import numpy as np
import pytest

from reticent.errors import InputError
from reticent.training.active import phase_sampler, private_top_k, random_k, subject_scores
from reticent.training.noise import SeededSource, laplace_noise
from reticent.training.poisson_sampling import SubjectSampler

DEVIATIONS = 6.0
"""Of a normal law; beyond lie 2e-9, so that 100 comparisons raise a false alarm in fewer than 1e-6 of all seeds."""


def test_laplace_noise_has_its_law():
    """Kolmogorov-Smirnov at a level of 1e-6: the statistic exceeds sqrt(ln(2e6) / (2 n)) in fewer seeds than that."""
    n, scale = 100_000, 1.6
    noise = np.sort(laplace_noise(n, scale, SeededSource(1)))
    law = np.where(noise < 0, np.exp(noise / scale) / 2, 1 - np.exp(-noise / scale) / 2)
    assert np.abs(law - np.arange(1, n + 1) / n).max() < math.sqrt(math.log(2e6) / (2 * n)) + 1 / n


@pytest.mark.parametrize("largest", [True, False])
def test_a_subjects_own_score_moves_its_chance_by_at_most_e_to_the_epsilon(largest):
    epsilon, draws, value_range = 1.0, 20_000, 0.8
    source = SeededSource(3)

    def chance(score):
        scores = [score, 0.3, 0.5, 0.7]
        chosen = [private_top_k(scores, 2, epsilon, value_range, source, largest=largest) for _ in range(draws)]
        return sum(0 in top for top in chosen) / draws

    low, high = sorted((chance(0.0), chance(value_range)))
    assert high - low > 0.2  # the score matters
    for one, other in ((high, low), (1 - low, 1 - high)):
        error = DEVIATIONS * (math.sqrt(one * (1 - one)) + math.exp(epsilon) * math.sqrt(other * (1 - other)))
        assert one <= math.exp(epsilon) * other + error / math.sqrt(draws)


def test_recall_falls_to_that_of_chance_at_small_epsilons():
    """15,000 scores from Beta(2, 3), at most 0.8, and the best 1,000: the published method's own difficulty.

    Recall at a round of epsilon 0.25, 0.5, 1, 2, 5, 20; it is 0.067 by chance. A recall is a mean of 1,000 nearly
    independent draws: 6 deviations are at most 0.095, and taken from its own value here.
    """
    scores = np.minimum(np.random.default_rng(0).beta(2, 3, 15_000), 0.8)
    best = set(np.argsort(-scores)[:1000].tolist())
    recalls = []
    for epsilon, expected in ((0.25, 0.074), (0.5, 0.083), (1, 0.101), (2, 0.151), (5, 0.342), (20, 0.793)):
        chosen = private_top_k(scores, 1000, epsilon, 0.8, SeededSource(5))
        recalls.append(len(best.intersection(chosen)) / 1000)
        assert abs(recalls[-1] - expected) < DEVIATIONS * math.sqrt(expected * (1 - expected) / 1000)
    assert recalls == sorted(recalls)
    assert set(private_top_k(scores, 1000, 1e7, 0.8, SeededSource(5))) <= set(
        np.flatnonzero(scores >= min(scores[list(best)]))
    )


def test_the_choice_depends_on_noised_scores_alone():
    """Scores out of range, and those that are no numbers, are brought into it: the sensitivity holds whatever comes."""
    wild = private_top_k([math.nan, 99.0, -5.0, math.inf], 2, 1.0, 0.8, SeededSource(2))
    assert wild == private_top_k([0.0, 0.8, 0.0, 0.8], 2, 1.0, 0.8, SeededSource(2))


def test_a_subject_has_the_mean_score_of_its_records():
    assert subject_scores([0.2, 0.4, 0.9, 0.1], [0, 0, 1, 2]).tolist() == pytest.approx([0.3, 0.9, 0.1])


def test_random_selection_is_uniform_over_subjects():
    source, draws = SeededSource(4), 3000
    counts = np.bincount(np.concatenate([random_k(10, 3, source) for _ in range(draws)]), minlength=10)
    assert np.abs(counts / draws - 0.3).max() < DEVIATIONS * math.sqrt(0.3 * 0.7 / draws)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([0.1, 0.2], 3, 1.0, 0.8), "3 subjects to select out of 2"),
        (([0.1, 0.2], 1, 0.0, 0.8), "is not private"),
        (([0.1, 0.2], 1, math.inf, 0.8), "is not private"),
        (([0.1, 0.2], 1, 1.0, 0.0), "value_range"),
    ],
)
def test_selection_without_noise_or_choice_is_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        private_top_k(*arguments, SeededSource(0))


def test_every_subject_is_drawn_at_its_own_rate_and_independently_of_the_others():
    draws, rates = 2000, np.linspace(0.02, 0.98, 25)
    sampler, source = SubjectSampler([[i] for i in range(25)], rates.tolist(), 1), SeededSource(7)
    drawn = np.zeros((draws, 25))
    for row in drawn:
        row[sampler.draw(source)[0]] = 1
    deviation = np.sqrt(rates * (1 - rates))
    assert (np.abs(drawn.mean(0) - rates) < DEVIATIONS * deviation / math.sqrt(draws)).all()
    correlation = ((drawn - rates) / deviation).T @ ((drawn - rates) / deviation) / draws
    rarest = np.minimum(rates, 1 - rates).min()  # Bernstein: rare subjects have heavier tails than normal ones
    assert np.abs(correlation - np.diag(np.diag(correlation))).max() < DEVIATIONS / math.sqrt(draws) + 36 / (
        draws * rarest
    )


def test_rates_of_nothing_and_of_one_are_kept_exactly():
    sampler, source = SubjectSampler([[0, 1], [2], [3]], [1.0, 0.0, 1.0], 4), SeededSource(0)
    assert all(sampler.draw(source) == ([0, 1, 3], [0, 0, 1]) for _ in range(50))
    assert SubjectSampler([[0], [1]], [0.0, 0.0], 1).draw(source) == ([], [])
    for rates, said in (([0.5], "1 sampling rates for 2 subjects"), ([0.5, 1.5], "not between 0 and 1")):
        with pytest.raises(InputError, match=said):
            SubjectSampler([[0], [1]], rates, 1)


def test_a_phase_draws_each_subject_at_the_rate_of_its_group():
    sampler = phase_sampler({"a": [0, 3], "b": [1], "c": [2]}, {"c": 1, "a": 0, "b": 1}, (0.0, 1.0), 1)
    assert sampler.draw(SeededSource(0)) == ([1, 2], [0, 1])
    with pytest.raises(InputError, match="b was not labelled before this phase"):
        phase_sampler({"b": [1]}, {"b": 2}, (0.0, 1.0), 1)
