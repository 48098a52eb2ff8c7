"""AUROCs of few patients: against scikit-learn, permutations by hand, the bootstrap and published formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from reticent.errors import InputError
from reticent.training.evaluation import auc_report, auc_standard_error, compare_auc, hanley_mcneil


def sample(n=200, shift=0.8, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    return truth.astype(int), rng.normal(shift * truth, 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=3, max_size=40))
def test_the_value_is_that_of_scikit_learn_ties_included(pairs):
    truth, scores = (np.array(column) for column in zip(*pairs, strict=True))
    if truth.all() or not truth.any():
        with pytest.raises(InputError, match="both classes"):
            auc_report(truth, scores)
    else:
        assert auc_report(truth, scores).value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_the_variance_is_that_of_the_components_written_out():
    truth, scores = sample(60)
    cases, controls = scores[truth == 1], scores[truth == 0]
    wins = (cases[:, None] > controls).astype(float) + 0.5 * (cases[:, None] == controls)
    by_hand = wins.mean(1).var(ddof=1) / len(cases) + wins.mean(0).var(ddof=1) / len(controls)
    assert auc_standard_error(truth, scores) == pytest.approx(by_hand**0.5)


def test_the_standard_error_is_that_of_a_bootstrap_within_a_tenth():
    truth, scores = sample(200)
    rng = np.random.default_rng(1)
    drawn = [rng.integers(200, size=200) for _ in range(2000)]  # its own error: 1.6 %
    spread = np.std([roc_auc_score(truth[rows], scores[rows]) for rows in drawn])
    assert auc_standard_error(truth, scores) == pytest.approx(spread, rel=0.1)
    report, resampled = (auc_report(truth, scores, method=method) for method in ("delong", "bootstrap"))
    assert (report.lower, report.upper) == pytest.approx((resampled.lower, resampled.upper), abs=0.02)


def test_hanley_and_mcneil_give_what_was_published():
    assert hanley_mcneil(0.637, 239, 238) == pytest.approx(0.025, abs=5e-4)
    assert hanley_mcneil(0.5, 10, 10) == pytest.approx(((0.25 + 18 / 12) / 100) ** 0.5)  # Q1 - 1/4 = Q2 - 1/4 = 1/12


def test_a_model_does_not_differ_from_itself_and_the_sign_is_that_of_the_difference():
    truth, good = sample(shift=1.5)
    bad = np.random.default_rng(2).normal(size=len(good))
    same, apart = compare_auc(truth, good, good), compare_auc(truth, good, bad)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert apart.difference == pytest.approx(roc_auc_score(truth, good) - roc_auc_score(truth, bad))
    assert apart.lower > 0
    assert compare_auc(truth, bad, good).upper == pytest.approx(-apart.lower)


def test_p_values_are_uniform_where_two_models_are_equally_good():
    """300 pairs; the share below 0.1 lies within 0.1 +- 0.085 but for one chance in 1e6 (binomial)."""
    rng, found = np.random.default_rng(3), []
    for _ in range(300):
        truth = np.arange(80) % 2
        shared = rng.normal(0.7 * truth, 1)
        found.append(compare_auc(truth, shared + rng.normal(size=80), shared + rng.normal(size=80)).p_value)
    assert abs(np.mean(np.array(found) < 0.1) - 0.1) < 0.085


def test_repeats_are_averaged_and_their_common_error_stays():
    truth, scores = sample(100)
    noisy = [scores + np.random.default_rng(k).normal(size=100) for k in range(5)]
    together = auc_report(truth, noisy)
    assert together.value == pytest.approx(np.mean([roc_auc_score(truth, row) for row in noisy]))
    assert auc_standard_error(truth, [scores] * 5) == pytest.approx(auc_standard_error(truth, scores))
    assert auc_report(truth, noisy, method="bootstrap").value == pytest.approx(together.value)


def test_records_of_one_subject_are_drawn_together_and_not_taken_for_independent():
    truth, scores = sample(40)
    doubled = (np.repeat(truth, 4), np.repeat(scores, 4), [str(k) for k in np.repeat(np.arange(40), 4)])
    by_subject = auc_report(*doubled, method="bootstrap")
    by_record = auc_report(*doubled[:2], method="bootstrap")
    assert by_subject.upper - by_subject.lower > 1.6 * (by_record.upper - by_record.lower)
    with pytest.raises(InputError, match="takes records for independent"):
        auc_report(*doubled)


def test_perfect_separation_has_no_interval_and_nan_is_refused():
    report = auc_report([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4])
    assert (report.value, report.lower, report.upper) == (1.0, None, None)
    with pytest.raises(InputError, match="1 of 4 scores are NaN"):
        auc_report([0, 0, 1, 1], [0.1, np.nan, 0.3, 0.4])
