"""Attack games against the certified bounds: no attacker does better than they allow, and the best one comes close.

In a membership game the likelihood-ratio attacker scores outputs with and without the unit; in a reconstruction game
the attacker picks one of n orthogonal candidates. Every rate enters by its Clopper-Pearson limits. Seeds are fixed;
were they not, all intervals of the file would be right at once but for a probability of `FALSE_ALARM`.
"""

import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from reticent.accounting import (
    BandedGaussian,
    ComplexGaussian,
    Composition,
    DiscreteGaussian,
    DiscreteLoss,
    FixedSizeGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    RandomisedResponse,
    SubsampledGaussian,
)

FALSE_ALARM = 1e-6
ALPHAS = (0.3, 0.1, 0.01, 0.001)
TRIALS = 200_000
FOR_THRESHOLDS = 20_000

Play = Callable[[np.random.Generator, int, bool], np.ndarray]


class Game(NamedTuple):
    """`play` draws outputs, the unit present or not, and gives the log likelihood ratio of each.

    `close`: the least ratio of the true-positive rate found to the upper bound at the false-positive rate found, in the
    orders where the bound is tight: fixed-size batches have one bound for both, which is that of the worse.
    """

    mechanism: Mechanism
    play: Play
    close: float = 0.95
    tight: tuple[str, ...] = ("remove", "add")


def log_ratio(q: float, loss: np.ndarray) -> np.ndarray:
    """Loss of a step in which the unit takes part with probability q."""
    return loss if q == 1 else np.logaddexp(math.log1p(-q), math.log(q) + loss)


def gaussian(sigma: float, q: float = 1.0, steps: int = 1) -> Play:
    def play(rng, n, present):
        score = np.zeros(n)
        for _ in range(steps):
            output = sigma * rng.standard_normal(n) + present * (rng.random(n) < q)
            score += log_ratio(q, (output - 0.5) / sigma**2)
        return score

    return play


def laplace(scale: float, q: float = 1.0, steps: int = 1) -> Play:
    def play(rng, n, present):
        output = rng.laplace(0, scale, (steps, n)) + present * (rng.random((steps, n)) < q)
        return log_ratio(q, (np.abs(output) - np.abs(output - 1)) / scale).sum(axis=0)

    return play


def randomised_response(epsilon: float, categories: int, q: float = 1.0, steps: int = 1) -> Play:
    """The unit answers 1 and its neighbour 0; a unit that is not drawn answers like the neighbour."""

    def play(rng, n, present):
        answer = (present & (rng.random((steps, n)) < q)).astype(int)
        lies = rng.random((steps, n)) * (math.exp(epsilon) + categories - 1) >= math.exp(epsilon)
        answer = np.where(lies, (answer + rng.integers(1, categories, (steps, n))) % categories, answer)
        return log_ratio(q, epsilon * ((answer == 1) * 1.0 - (answer == 0))).sum(axis=0)

    return play


def discrete_gaussian(sigma: float, shift: int, q: float = 1.0, steps: int = 1) -> Play:
    integers = np.arange(-math.ceil(12 * sigma), math.ceil(12 * sigma) + 1)
    shares = np.exp(-(integers**2) / (2 * sigma**2))

    def play(rng, n, present):
        noise = rng.choice(integers, (steps, n), p=shares / shares.sum())
        output = noise + shift * (present & (rng.random((steps, n)) < q))
        return log_ratio(q, shift * (2 * output - shift) / (2 * sigma**2)).sum(axis=0)

    return play


def complex_gaussian(part: float, correlation: float = 0.0, angle: float = 0.0, q: float = 1.0, steps: int = 1) -> Play:
    """One complex entry to which the unit adds e^(i angle); the attacker whitens the noise."""
    covariance = part**2 * np.array([[1, correlation], [correlation, 1]])
    root = np.linalg.cholesky(covariance)
    shift = np.array([math.cos(angle), math.sin(angle)])
    filtered = np.linalg.solve(covariance, shift)

    def play(rng, n, present):
        score = np.zeros(n)
        for _ in range(steps):
            noise = rng.standard_normal(n) + 1j * rng.standard_normal(n)
            parts = np.stack([noise.real, noise.imag], axis=1) @ root.T
            output = parts + np.outer(present & (rng.random(n) < q), shift)
            score += log_ratio(q, output @ filtered - shift @ filtered / 2)
        return score

    return play


def total_noise(total: float) -> Play:
    """Noise of this total standard deviation, as a complex standard normal has 1, on a contribution of i."""

    def play(rng, n, present):
        noise = total * (rng.standard_normal(n) + 1j * rng.standard_normal(n)) / math.sqrt(2)
        output = noise + 1j * present
        return (2 * output.imag - 1) / total**2

    return play


def fixed_size(sigma: float, size: int, population: int, steps: int) -> Play:
    """The unit contributes +1 and its replacement -1, as do all others."""

    def play(rng, n, present):
        score = np.zeros(n)
        for _ in range(steps):
            drawn = rng.hypergeometric(1, population - 1, size, n) * present
            total = (-1) * (size - drawn) + drawn + sigma * rng.standard_normal(n)
            score += log_ratio(size / population, 2 * (total + size - 1) / sigma**2)
        return score

    return play


def banded(sigma: float, bands: int, q: float, steps: int, turn: int) -> Play:
    """Outputs C x + noise of a unit in group `turn`, which contributes +1 in each of its turns that draws it.

    Turns are `bands` steps apart, so their columns of C do not overlap: one statistic a turn is sufficient.
    """
    lags = np.subtract.outer(np.arange(steps), np.arange(steps))
    strategy = np.random.default_rng(5).uniform(0.2, 1.0, (steps, steps)) * ((lags >= 0) & (lags < bands))
    strategy /= np.linalg.norm(strategy, axis=0)
    mine = strategy[:, turn::bands]

    def play(rng, n, present):
        drawn = rng.random((n, mine.shape[1])) < q
        outputs = (present * drawn) @ mine.T + sigma * rng.standard_normal((n, steps))
        return log_ratio(q, (outputs @ mine - 0.5) / sigma**2).sum(axis=1)

    return play


def atoms(losses: tuple[float, ...], probabilities: tuple[float, ...], steps: int) -> Play:
    """Outputs that are losses; what Q lacks to 1 is a loss of minus infinity, what P lacks one of plus infinity."""
    values = np.array([-math.inf, *losses, math.inf])
    with_unit = np.array([0.0, *probabilities, 1 - sum(probabilities)])
    without = np.exp(-values[1:-1]) * probabilities
    without = np.array([1 - without.sum(), *without, 0.0])

    def play(rng, n, present):
        drawn = rng.choice(len(values), (steps, n), p=with_unit if present else without)
        return values[drawn].sum(axis=0)

    return play


def together(*plays: Play) -> Play:
    return lambda rng, n, present: sum(play(rng, n, present) for play in plays)


ODD = ((-0.7, -0.1, 0.3, 1.1), (0.1, 0.3, 0.25, 0.34))
WEAKEST = -math.pi / 4  # the direction in which parts with a positive correlation are least noisy
GAMES = {
    "Gaussian": Game(Gaussian(1.0), gaussian(1.0)),
    "Gaussian, mu 2.5": Game(Gaussian(4.0, 100), gaussian(0.4)),
    "sampled Gaussian, 1 step": Game(SubsampledGaussian(0.7, 0.2, 1), gaussian(0.7, 0.2)),
    "sampled Gaussian": Game(SubsampledGaussian(1.0, 0.1, 100), gaussian(1.0, 0.1, 100)),
    "sampled Gaussian, little noise": Game(SubsampledGaussian(0.5, 0.02, 60), gaussian(0.5, 0.02, 60)),
    "sampled Gaussian, large rate": Game(SubsampledGaussian(4.0, 0.5, 50), gaussian(4.0, 0.5, 50)),
    "Laplace": Game(Laplace(0.7), laplace(0.7)),
    "Laplace, sampled, 8 steps": Game(Laplace(1.0, 0.3, 8), laplace(1.0, 0.3, 8)),
    "randomised response": Game(RandomisedResponse(1.0, 4), randomised_response(1.0, 4)),
    "randomised response, sampled, 9 steps": Game(
        RandomisedResponse(1.0, 3, 0.4, 9), randomised_response(1.0, 3, 0.4, 9)
    ),
    "discrete Gaussian": Game(DiscreteGaussian(1.3, 1, steps=4), discrete_gaussian(1.3, 1, 1.0, 4)),
    "discrete Gaussian, sampled": Game(DiscreteGaussian(2.0, 3, 0.2, 12), discrete_gaussian(2.0, 3, 0.2, 12)),
    "complex Gaussian, correlation 0.6": Game(
        ComplexGaussian(1.2, correlation=0.6), complex_gaussian(1.2, 0.6, WEAKEST)
    ),
    "complex Gaussian, correlation -0.6, sampled": Game(
        ComplexGaussian(1.2, 0.2, 10, correlation=-0.6), complex_gaussian(1.2, -0.6, math.pi / 4, 0.2, 10)
    ),
    "complex Gaussian, total noise": Game(ComplexGaussian.from_total_std(1.5, 1.0), total_noise(1.5)),
    "fixed size": Game(FixedSizeGaussian(3.0, 20, 200, 1), fixed_size(3.0, 20, 200, 1), tight=("remove",)),
    "fixed size, 30 steps": Game(
        FixedSizeGaussian(3.0, 20, 200, 30), fixed_size(3.0, 20, 200, 30), close=0.88, tight=("remove",)
    ),
    "banded, 3 bands": Game(BandedGaussian(1.0, 3, 0.3, 40), banded(1.0, 3, 0.3, 40, turn=0)),
    "banded, 10 bands": Game(BandedGaussian(0.8, 10, 0.2, 60), banded(0.8, 10, 0.2, 60, turn=7)),
    "atoms": Game(DiscreteLoss(*ODD, 0.01, 6), atoms(*ODD, 6)),
    "Laplace, sampled Gaussian and randomised response": Game(
        Composition((Laplace(1.5, steps=2), SubsampledGaussian(1.0, 0.1, 20), RandomisedResponse(0.6))),
        together(laplace(1.5, 1.0, 2), gaussian(1.0, 0.1, 20), randomised_response(0.6, 2)),
    ),
}

ANGLES = np.linspace(-math.pi / 2, math.pi / 2, 9)[:-1]
RUNS = {  # (noise multiplier, rate, steps, candidates): success and bound, to three digits, of another implementation
    (1, 0.1, 100, 10): (0.411, 0.469),
    (0.7, 0.05, 100, 10): (0.370, 0.423),
    (0.5, 0.01, 200, 10): (0.271, 0.301),
    (2, 0.5, 50, 10): (0.609, 0.690),
}
INTERVALS = 4 * len(ALPHAS) * len(GAMES) + 2 * len(ANGLES) + 3 + len(RUNS) + 1 + 2  # two orders, two rates in a game


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Clopper-Pearson limits, wrong with probability at most FALSE_ALARM / INTERVALS."""
    found = stats.binomtest(successes, trials).proportion_ci(1 - FALSE_ALARM / INTERVALS, "exact")
    return float(found.low), float(found.high)


@pytest.mark.parametrize("name", GAMES)
def test_the_best_membership_attacker_stays_below_the_bound_and_close_to_it(name):
    game, rng = GAMES[name], np.random.default_rng(zlib.crc32(name.encode()))
    profile = game.mechanism.profile()
    trial = [game.play(rng, FOR_THRESHOLDS, present).round(9) for present in (False, True)]
    absent, present = (game.play(rng, TRIALS, present).round(9) for present in (False, True))
    for order, before, null, hit in (("remove", trial[0], absent, present), ("add", -trial[1], -present, -absent)):
        for threshold in np.quantile(before, 1 - np.array(ALPHAS), method="higher"):
            false, true = int((null >= threshold).sum()), int((hit >= threshold).sum())
            fpr, tpr = interval(false, TRIALS), interval(true, TRIALS)
            assert tpr[0] <= profile.power(fpr[1], order).upper
            assert tpr[0] <= profile.power(fpr[1]).upper
            assert tpr[1] >= profile.power(fpr[0], order).lower  # this attacker has the most powerful tests there are
            if false >= 1500 and order in game.tight:  # fewer say little
                assert true / TRIALS >= game.close * profile.power(false / TRIALS, order).upper


def test_correlated_complex_noise_is_weakest_where_the_parts_pull_apart():
    profile, rng = ComplexGaussian(1.2, correlation=0.6).profile(), np.random.default_rng(6)
    for angle in ANGLES:
        scores = [complex_gaussian(1.2, 0.6, angle)(rng, 100_000, present) for present in (False, True)]
        fpr, tpr = (interval(int((score >= 0.3).sum()), 100_000) for score in scores)
        assert tpr[0] <= profile.power(fpr[1]).upper
        if abs(angle - WEAKEST) > 0.7:
            assert tpr[1] < profile.power(fpr[0]).lower


@pytest.mark.parametrize(
    ("mechanism", "play", "mu"),
    [
        (ComplexGaussian(0.8), complex_gaussian(0.8, angle=1.0), 1 / 0.8),
        (ComplexGaussian(0.8, correlation=0.6), complex_gaussian(0.8, 0.6, WEAKEST), 1 / 0.8 / math.sqrt(0.4)),
        (ComplexGaussian.from_total_std(0.8, 1.0), total_noise(0.8), math.sqrt(2) / 0.8),
    ],
)
def test_the_area_under_the_attackers_curve_tells_noise_per_part_from_total_noise(mechanism, play, mu):
    assert mechanism.profile().mu().upper == pytest.approx(mu, rel=1e-12)
    rng, pairs = np.random.default_rng(19), 1_000_000
    wins = int((play(rng, pairs, True) > play(rng, pairs, False)).sum())
    low, high = interval(wins, pairs)
    assert low <= stats.norm.cdf(mu / math.sqrt(2)) <= high
    assert high - low < 0.006  # a factor of sqrt(2) in mu moves the area by more than ten times this


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_a_reconstruction_from_ten_candidates_succeeds_less_often_than_the_bound_allows(run):
    sigma, q, steps, candidates = run
    published, printed = RUNS[run]
    bound = SubsampledGaussian(sigma, q, steps).profile().reconstruction(1 / candidates)
    assert bound.upper == pytest.approx(printed, abs=6e-4)
    low, high = interval(reconstructions(20_000, *run, seed=11), 20_000)
    assert low <= bound.upper
    assert high >= 0.85 * bound.upper
    assert low - 0.012 <= published <= high + 0.012  # the other's own error, 3.5 standard errors


def test_an_attacker_with_a_hundred_candidates_beats_the_bound_of_the_reversed_order():
    profile, trials = SubsampledGaussian(1, 0.1, 100).profile(), 8000
    low, _ = interval(reconstructions(trials, 1, 0.1, 100, 100, seed=12), trials)
    assert profile.power(0.01, "add").upper < low <= profile.reconstruction(0.01).upper


@pytest.mark.parametrize(("candidates", "mu", "truth"), [(10, 1, 0.340936), (100, 2, 0.323219)])
def test_a_single_gaussian_release_is_reconstructed_as_often_as_its_integral_says(candidates, mu, truth):
    low, high = interval(reconstructions(50_000, 1 / mu, 1.0, 1, candidates, seed=13), 50_000)
    assert low <= truth <= high
    assert low <= Gaussian(1 / mu).profile().reconstruction(1 / candidates).upper


def reconstructions(trials: int, sigma: float, q: float, steps: int, candidates: int, seed: int) -> int:
    """How often the first of n orthogonal unit candidates, which took part, has the largest likelihood."""
    rng, successes = np.random.default_rng(seed), 0
    for start in range(0, trials, 2000):
        block = min(2000, trials - start)
        scores = np.zeros((block, candidates), np.float32)
        for _ in range(steps):
            outputs = np.float32(sigma) * rng.standard_normal((block, candidates), np.float32)
            outputs[:, 0] += rng.random(block) < q
            scores += np.log1p(np.float32(q) * np.expm1((outputs - np.float32(0.5)) / np.float32(sigma**2)))
        successes += int((scores.argmax(axis=1) == 0).sum())
    return successes
