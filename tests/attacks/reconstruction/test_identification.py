"""The identification game: attackers with a list of candidates stay below the certified bound, and come close to it.

Counts enter by their Clopper-Pearson limits at 1 - 1e-6 in all.
"""

import pytest
import torch
from scipy import stats

from reticent.accounting import Gaussian, SubsampledGaussian
from reticent.attacks.reconstruction.identification import candidate_gradients, fingerprints, play_identification
from reticent.attacks.reconstruction.observed import Defence, observed_gradient
from reticent.errors import InputError
from reticent.training import Classification
from reticent.training.noise import SeededSource

LOSS = Classification("binary", ("clear", "nodule")).loss_fn()
FALSE_ALARM = 1e-6


def batch(image, label):
    return {"inputs": {"image": image[None]}, "targets": {"label": label[None]}, "share": torch.ones(1)}


def gradients_of(candidates, labels, max_norm):
    layer = fingerprints(candidates, max_norm)
    return candidate_gradients(layer, LOSS, [batch(*pair) for pair in zip(candidates, labels, strict=True)], max_norm)


def limits(hits):
    count, trials = int(hits.sum()), len(hits)
    low = stats.beta.ppf(FALSE_ALARM / 2, count, trials - count + 1)
    return low, stats.beta.ppf(1 - FALSE_ALARM / 2, count + 1, trials - count)


@pytest.mark.parametrize("max_norm", [0.3, 1.0])
def test_candidates_have_orthogonal_gradients_of_the_clipping_norm(max_norm, patients):
    found = gradients_of(patients[0][:40], patients[1][:40], max_norm)
    assert torch.allclose(found @ found.T, max_norm**2 * torch.eye(40, dtype=torch.float64), atol=2e-4 * max_norm**2)


@pytest.mark.parametrize(
    ("sigma", "q", "steps", "count", "published"),
    [(1.0, 0.1, 100, 10, 0.411), (0.7, 0.05, 100, 10, 0.370), (0.5, 0.01, 200, 10, 0.271), (2.0, 0.5, 50, 10, 0.609)],
)
def test_identification_through_private_steps_approaches_its_bound(sigma, q, steps, count, published, patients):
    gradients = gradients_of(patients[0][:count], patients[1][:count], 1.0)
    hits = play_identification(gradients, sigma, q, steps, 12_000, SeededSource(3))
    bound = SubsampledGaussian(sigma, q, steps).profile().reconstruction(1 / count)
    low, high = limits(hits)
    assert low < published < high
    assert low <= bound.upper
    assert high >= 0.85 * bound.lower


def test_one_look_at_ten_orthogonal_candidates_has_its_closed_form(patients):
    """Integral of phi(z - mu) Phi(z)^(n - 1), 0.340936 at n = 10 and mu = 1."""
    gradients = gradients_of(patients[0][:10], patients[1][:10], 1.0)
    low, high = limits(play_identification(gradients, 1.0, 1.0, 1, 40_000, SeededSource(4)))
    assert low < 0.340936 < high
    assert high < Gaussian(1.0).profile().reconstruction(0.1).upper


def test_two_opposite_candidates_meet_the_bound():
    """Gradients g and -g: success Phi(mu), which is the bound at a prior of one half."""
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    low, high = limits(play_identification(gradients, 1.0, 1.0, 1, 40_000, SeededSource(5)))
    assert low < 0.841345 < high
    assert Gaussian(1.0).profile().reconstruction(0.5).upper == pytest.approx(0.841345, abs=1e-6)


def test_without_noise_every_target_that_took_part_is_named(patients):
    gradients = gradients_of(patients[0][:20], patients[1][:20], 1.0)
    assert play_identification(gradients, 0.0, 1.0, 1, 20, SeededSource(6)).all()


def test_the_noise_played_with_is_that_of_the_steps(patients, source):
    """The score of the target after one step: the product's noisy sum, and the game's, have one mean and deviation."""
    layer = fingerprints(patients[0][:5], 1.0)
    own = candidate_gradients(layer, LOSS, [batch(patients[0][0], patients[1][0])], 1.0)[0]
    scores = []
    for _ in range(400):
        seen = observed_gradient(layer, LOSS, batch(patients[0][0], patients[1][0]), Defence(1.0, 0.5), source)
        scores.append(float(own @ torch.cat([g.flatten() for g in seen.values()])))
    assert stats.kstest(scores, "norm", (1.0, 0.5)).pvalue > 1e-6


def test_equal_candidates_are_refused(patients):
    with pytest.raises(InputError, match="equal"):
        fingerprints(torch.cat([patients[0][:3], patients[0][:1]]), 1.0)
