"""Membership scores: numerically sound signals, the laws that LiRA follows on Gaussian scores, RMIA's definition."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from reticent.attacks import auc, found_at
from reticent.attacks.membership.attack import by_patient
from reticent.attacks.membership.likelihood_ratio import calibrated, lira_offline, lira_online
from reticent.attacks.membership.relative import rmia_offline, rmia_online
from reticent.attacks.membership.signals import signals
from reticent.training import Classification, Segmentation

BINARY = Classification("binary", ("a", "b"))


def test_the_signal_is_the_logit_of_the_true_class_also_where_a_float32_probability_is_one():
    logits = torch.tensor([[0.0, 60.0], [60.0, 0.0], [1.0, 2.0]])
    found = signals(logits, {"label": torch.tensor([1, 1, 0])}, BINARY)
    np.testing.assert_allclose(found.phi, [60.0, -60.0, -1.0])
    np.testing.assert_allclose(found.log_p, [0.0, -60.0, -np.log1p(np.exp(1))], atol=1e-15)
    assert found.phi.dtype == np.float64


def test_the_signal_of_many_classes_is_the_logit_of_p():
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    label = torch.arange(50) % 7
    p = logits.softmax(1)[torch.arange(50), label].numpy()
    found = signals(logits, {"label": label}, Classification("multi-class", tuple("abcdefg")))
    np.testing.assert_allclose(found.phi, np.log(p / (1 - p)))


def test_signals_of_several_labels_and_of_masks_are_mean_losses():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3), torch.randint(2, (4, 3)).float()
    found = signals(logits, {"label": labels}, Classification("multi-label", ("a", "b", "c")))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits.double(), labels.double(), reduction="none")
    np.testing.assert_allclose(found.phi, -expected.mean(1))
    logits, mask = torch.randn(4, 2, 5, 6), torch.randint(2, (4, 5, 6))
    found = signals(logits, {"mask": mask}, Segmentation("segmentation", ("background", "organ")))
    p = logits.double().softmax(1).gather(1, mask[:, None])[:, 0]
    np.testing.assert_allclose(found.log_p, p.log().mean((1, 2)))


def game(records, models, distance, seed, spread=1.0):
    """Signals around each record's own level, `distance` higher where it was trained on; one more is the target."""
    rng = np.random.default_rng(seed)
    level = spread * 5 * rng.normal(size=records)
    inside = np.zeros((models, records), bool)
    for pair in range(models // 2):
        inside[2 * pair] = rng.random(records) < 0.5
        inside[2 * pair + 1] = ~inside[2 * pair]
    member = rng.random(records) < 0.5
    references = level + distance * inside + rng.normal(size=inside.shape)
    return level + distance * member + rng.normal(size=records), references, inside, member


@pytest.mark.parametrize("distance", [1.0, 2.5])
def test_lira_with_many_references_reaches_the_best_rates_there_are(distance):
    """TPR(FPR a) = Phi(Phi^-1(a) + d), to 5 standard errors and a few hundredths for 200 references."""
    target, references, inside, member = game(10_000, 200, distance, 1)
    scores = lira_online(target, references, inside)
    for rate in (0.01, 0.1):
        best = norm.cdf(norm.ppf(rate) + distance)
        found = found_at(scores[member], scores[~member], rate)
        assert found.value == pytest.approx(best, abs=5 * np.sqrt(best * (1 - best) / 5000) + 0.02 + 0.02 * best)


def test_more_knowledge_finds_more():
    target, references, inside, member = game(6000, 64, 2.0, 2)
    found = {
        "loss": target,
        "offline": lira_offline(target, references, inside),
        "calibrated": calibrated(target, references, inside),
        "online": lira_online(target, references, inside),
    }
    areas = {name: auc(scores[member], scores[~member])[0] for name, scores in found.items()}
    assert areas["loss"] < 0.65 < 0.85 < areas["offline"] <= areas["online"] + 0.01
    assert areas["calibrated"] == pytest.approx(areas["offline"], abs=0.01)  # equal spreads: the same order


def test_two_references_are_enough_for_numbers_and_one_spread_serves_all():
    target, references, inside, member = game(500, 2, 3.0, 3)
    for score in (lira_online, lira_offline, calibrated):
        scores = score(target, references, inside)
        assert np.isfinite(scores).all()
        assert auc(scores[member], scores[~member])[0] > 0.75


def test_lira_is_the_ratio_of_the_normal_densities_of_its_references():
    target = np.array([0.3])
    inside = np.repeat([True, False], 40)[:, None]
    rng = np.random.default_rng(0)
    references = np.where(inside, 1.0, -1.0) + rng.normal(size=(80, 1)) * np.where(inside, 0.5, 2.0)
    own, others = references[inside], references[~inside]
    expected = norm.logpdf(0.3, np.median(own), own.std(ddof=1)) - norm.logpdf(
        0.3, np.median(others), others.std(ddof=1)
    )
    assert lira_online(target, references, inside)[0] == pytest.approx(expected)
    assert norm.cdf(lira_offline(target, references, inside)[0]) == pytest.approx(
        norm.cdf(0.3, np.median(others), others.std(ddof=1))
    )


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_orders_records_as_its_published_score_does(gamma):
    """The share of population records z with r(x) / r(z) > gamma, r the probability over its mean over references."""
    rng = np.random.default_rng(4)
    log_p, target = -rng.exponential(size=(6, 300)), -rng.exponential(size=300)
    inside = np.zeros((6, 300), bool)
    inside[::2] = rng.random((3, 300)) < 0.5
    inside[1::2] = ~inside[::2]
    mean = lambda chosen: np.array([np.exp(log_p[chosen[:, k], k]).mean() for k in range(300)])  # noqa: E731
    for score, typical in (
        (rmia_online, (mean(inside) + mean(~inside)) / 2),
        (rmia_offline, (1.3 * mean(~inside) + 0.7) / 2),
    ):
        ratio = np.exp(target) / typical
        np.testing.assert_allclose(np.exp(score(target, log_p, inside)), ratio)
        published = (ratio[:, None] > gamma * ratio[None, 200:]).mean(1)
        order = np.argsort(score(target, log_p, inside))
        assert (np.diff(published[order]) >= 0).all()


def test_a_patient_s_score_is_the_sum_or_the_mean_of_the_images():
    scores, patients = np.array([1.0, 2.0, 4.0, -1.0]), np.array([0, 1, 1, 2])
    assert by_patient(scores, patients, "sum").tolist() == [1.0, 6.0, -1.0]
    assert by_patient(scores, patients, "mean").tolist() == [1.0, 3.0, -1.0]


def test_several_images_of_a_patient_find_more_than_one():
    target, references, inside, member = game(8000, 32, 1.0, 5)
    inside, member = inside[:, ::4].repeat(4, 1), member[::4].repeat(4)
    rng = np.random.default_rng(6)
    level = 5 * rng.normal(size=8000)
    references = level + inside + rng.normal(size=inside.shape)
    target = level + member + rng.normal(size=8000)
    scores, patients = lira_online(target, references, inside), np.arange(8000) // 4
    single = auc(scores[member], scores[~member])[0]
    together = by_patient(scores, patients, "sum")
    assert auc(together[member[::4]], together[~member[::4]])[0] > single + 0.1
