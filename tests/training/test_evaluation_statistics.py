"""Weighted statistics, bootstrap and calibration error against independent implementations and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from reticent.training.evaluation.bootstrap import measure
from reticent.training.evaluation.calibration import reliability
from reticent.training.evaluation.statistics import auroc, macro, mean, share


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3), st.integers(1, 3)), min_size=2, max_size=40)
)
def test_weighted_auroc_equals_scikit_learn_ties_included(rows):
    scores, positive, *weights = (np.array(column) for column in zip(*rows, strict=True))
    result = auroc(scores / 4, positive)(np.stack(weights, axis=1).astype(float))
    for value, weight in zip(result, weights, strict=True):
        drawn = weight > 0
        if len(set(positive[drawn])) < 2:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(roc_auc_score(positive[drawn], scores[drawn], sample_weight=weight[drawn]))


def test_a_mean_leaves_out_what_is_undefined():
    values = np.array([1.0, np.nan, 4.0])
    weights = np.array([[1.0, 3.0, 0.0], [1.0, 5.0, 2.0], [1.0, 1.0, 0.0]])
    np.testing.assert_allclose(mean(values)(weights), [2.5, 1.75, np.nan])


def test_a_macro_mean_leaves_out_classes_that_do_not_occur():
    yes, no = np.array([True, True]), np.array([False, False])
    one = np.ones((2, 1))
    assert macro([share(yes, yes), share(yes, no), share(no, yes)])(one) == 0.5
    assert np.isnan(macro([share(yes, no)])(one)).all()


def test_the_interval_of_a_mean_is_the_normal_one():
    """The two quantiles of 1000 resamples err by 0.085 standard errors each; five times that: false alarms < 1e-6."""
    values = np.random.default_rng(1).normal(size=2000)
    measured = measure({"mean": mean(values)}, [f"s{i}" for i in range(2000)])["mean"]
    error = values.std() / np.sqrt(2000)
    tail = norm.ppf(0.975)
    assert measured.value == pytest.approx(values.mean())
    assert measured.lower == pytest.approx(values.mean() - tail * error, abs=5 * 0.085 * error)
    assert measured.upper == pytest.approx(values.mean() + tail * error, abs=5 * 0.085 * error)


def test_the_interval_covers_the_true_sensitivity():
    """400 studies of 150 patients; at a coverage of 0.93, fewer than 345 hits have probability 7e-7."""
    generator = np.random.default_rng(2)
    patients = [f"s{i}" for i in range(150)]
    everyone = np.ones(150, dtype=bool)
    hits = 0
    for _ in range(400):
        measured = measure({"sensitivity": share(generator.random(150) < 0.8, everyone)}, patients)["sensitivity"]
        hits += measured.lower <= 0.8 <= measured.upper
    assert hits >= 345


def test_the_records_of_a_patient_are_drawn_together():
    values = np.random.default_rng(3).normal(size=60)
    patients = [f"s{i:02}" for i in range(60)]
    once = measure({"mean": mean(values)}, patients)["mean"]
    nine_times = measure({"mean": mean(np.repeat(values, 9))}, list(np.repeat(patients, 9)))["mean"]
    assert (nine_times.lower, nine_times.upper) == pytest.approx((once.lower, once.upper))


def test_one_patient_gives_a_value_without_interval():
    measured = measure({"mean": mean(np.array([1.0, 2.0]))}, ["a", "a"])["mean"]
    assert (measured.value, measured.lower, measured.upper) == (1.5, None, None)


def test_the_calibration_error_is_that_computed_by_hand():
    """Bins of 1/15: 0.02 and 0.04 share the first, 0.5 (edge 7/15 to 8/15) and 0.95 are alone."""
    bins = reliability(np.array([0.02, 0.04, 0.5, 0.95]), np.array([False, True, True, True]))
    np.testing.assert_allclose(bins.probability, [0.03, 0.5, 0.95])
    np.testing.assert_allclose(bins.frequency, [0.5, 1.0, 1.0])
    assert bins.error == pytest.approx((2 * 0.47 + 0.5 + 0.05) / 4)


def test_the_calibration_bins_are_closed_on_the_right():
    bins = reliability(np.array([0.0, 1 / 15, 1.0]), np.array([False, False, True]))
    np.testing.assert_allclose(bins.share, [2 / 3, 1 / 3])
