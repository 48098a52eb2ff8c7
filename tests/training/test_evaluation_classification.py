"""Classification metrics on held-out patients."""

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    matthews_corrcoef,
    recall_score,
    roc_auc_score,
)

from reticent.errors import InputError
from reticent.records import Measured
from reticent.training.evaluation import evaluate_classification


def binary(n=300, seed=0):
    generator = np.random.default_rng(seed)
    positive = generator.random(n).round(2)
    return np.stack([1 - positive, positive], axis=1), (generator.random(n) < positive).astype(int)


def patients(n, records=2):
    return [f"p{i // records}" for i in range(n)]


def evaluate(task, probabilities, targets, *, subjects=None, attributes=None, classes=None):
    n, k = probabilities.shape
    return evaluate_classification(
        task,
        probabilities,
        targets,
        subjects or patients(n),
        attributes or [{}] * n,
        classes or [f"class {i}" for i in range(k)],
        "test",
    )


def group(result, name):
    return next(group for group in result.groups if group.name == name)


def test_binary_metrics_equal_scikit_learn():
    probabilities, targets = binary()
    decided = probabilities[:, 1] >= 0.5
    expected = {
        "auroc": roc_auc_score(targets, probabilities[:, 1]),
        "sensitivity": recall_score(targets, decided),
        "specificity": recall_score(1 - targets, ~decided),
        "balanced_accuracy": balanced_accuracy_score(targets, decided),
        "matthews": matthews_corrcoef(targets, decided),
        "brier": brier_score_loss(targets, probabilities[:, 1]),
    }
    metrics = evaluate("binary", probabilities, targets).metrics
    assert {name: metrics[name].value for name in expected} == pytest.approx(expected)
    assert all(metrics[name].lower < metrics[name].value < metrics[name].upper for name in expected)


def test_multi_class_metrics_equal_scikit_learn():
    generator = np.random.default_rng(4)
    probabilities = generator.dirichlet(np.ones(4), 400)
    targets = np.array([generator.choice(4, p=row) for row in probabilities])
    result = evaluate("multi-class", probabilities, targets)
    decided = probabilities.argmax(axis=1)
    assert result.metrics["auroc"].value == pytest.approx(roc_auc_score(targets, probabilities, multi_class="ovr"))
    assert result.metrics["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(targets, decided))
    assert result.metrics["matthews"].value == pytest.approx(matthews_corrcoef(targets, decided))
    assert result.metrics["brier"].value == pytest.approx(
        brier_score_loss(targets, probabilities, scale_by_half=False, labels=range(4))
    )
    recalls = recall_score(targets, decided, average=None)
    assert [group.metrics["sensitivity"].value for group in result.groups] == pytest.approx(list(recalls))


def test_multi_label_metrics_equal_scikit_learn():
    generator = np.random.default_rng(5)
    probabilities = generator.random((300, 3))
    targets = (generator.random((300, 3)) < probabilities).astype(int)
    result = evaluate("multi-label", probabilities, targets)
    assert result.metrics["auroc"].value == pytest.approx(roc_auc_score(targets, probabilities, average="macro"))
    own = [matthews_corrcoef(targets[:, k], probabilities[:, k] >= 0.5) for k in range(3)]
    assert result.metrics["matthews"].value == pytest.approx(np.mean(own))
    halves = [balanced_accuracy_score(targets[:, k], probabilities[:, k] >= 0.5) for k in range(3)]
    assert result.metrics["balanced_accuracy"].value == pytest.approx(np.mean(halves))


def test_with_one_class_only_the_auroc_is_undefined_and_the_rest_is_not():
    probabilities, _ = binary(40)
    result = evaluate("binary", probabilities, np.ones(40, dtype=int))
    assert result.metrics["auroc"] == result.metrics["specificity"] == Measured(value=None)
    assert result.metrics["sensitivity"].value is not None
    assert "roc" not in result.curves


def test_groups_of_fewer_than_ten_patients_are_suppressed():
    probabilities, targets = binary(60)
    attributes = [{"site": "small" if i < 18 else "large"} for i in range(60)]
    result = evaluate("binary", probabilities, targets, attributes=attributes)
    small, large = group(result, "site=small"), group(result, "site=large")
    assert (small.subjects, small.metrics) == (None, {})
    assert large.subjects == 21
    expected = roc_auc_score(targets[18:], probabilities[18:, 1])
    assert large.metrics["auroc"].value == pytest.approx(expected)


def test_ten_patients_with_two_records_each_are_a_group():
    probabilities, targets = binary(40)
    attributes = [{"sex": "F"} if i < 20 else {} for i in range(40)]
    assert group(evaluate("binary", probabilities, targets, attributes=attributes), "sex=F").subjects == 10


def test_a_rare_class_is_suppressed():
    probabilities = np.full((60, 3), 1 / 3)
    targets = np.array([0, 1] * 28 + [2] * 4)
    result = evaluate("multi-class", probabilities, targets, classes=["a", "b", "rare"])
    assert [group.subjects for group in result.groups] == [28, 28, None]


def test_an_attribute_with_more_than_twenty_values_is_no_grouping():
    probabilities, targets = binary(420)
    attributes = [{"scanner": str(i % 21), "ward": str(i % 20)} for i in range(420)]
    names = {group.name for group in evaluate("binary", probabilities, targets, attributes=attributes).groups}
    assert "ward=0" in names
    assert "scanner=0" not in names


def test_the_roc_curve_runs_from_corner_to_corner_in_at_most_200_points():
    generator = np.random.default_rng(6)
    positive = generator.random(3000)
    targets = (generator.random(3000) < positive).astype(int)
    roc = evaluate("binary", np.stack([1 - positive, positive], axis=1), targets).curves["roc"]
    assert (roc[0], roc[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert len(roc) <= 200
    x, y = np.array(roc).T
    assert (np.diff(x) >= 0).all()
    assert np.trapezoid(y, x) == pytest.approx(roc_auc_score(targets, positive), abs=2e-3)


def test_the_same_predictions_give_the_same_intervals():
    probabilities, targets = binary(80)
    assert evaluate("binary", probabilities, targets) == evaluate("binary", probabilities, targets)


def test_probabilities_that_are_not_finite_are_the_users_to_mend():
    probabilities, targets = binary(20)
    probabilities[3] = np.nan
    with pytest.raises(InputError, match="not finite for 1 of 20 records; training diverged"):
        evaluate("binary", probabilities, targets)
