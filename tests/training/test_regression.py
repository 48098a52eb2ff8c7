"""Numbers of each record: loss, ranges and metrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, r2_score

from reticent.errors import InputError
from reticent.training import Regression, shrinkage_loss
from reticent.training.evaluation import evaluate_regression

TASK = Regression(classes=("vat", "asat"), ranges=((0.0, 15.0), (0.0, 25.0)))


def test_the_shrinkage_loss_has_its_known_values():
    found = shrinkage_loss(torch.tensor([0.0, 0.2, -0.2, 1.0, 0.05, 0.5], dtype=torch.float64))
    squares = torch.tensor([0.0, 0.04, 0.04, 1.0, 0.0025, 0.25], dtype=torch.float64)
    assert found[:4].tolist() == pytest.approx([0, 0.02, 0.02, 0.99966], abs=1e-5)
    assert (found[4:] / squares[4:]).tolist() == pytest.approx([0.18, 0.95], abs=0.005)


def test_its_gradient_is_finite_at_zero_and_far_away():
    errors = torch.tensor([0.0, 100.0, -100.0, 1e4], requires_grad=True)
    shrinkage_loss(errors).sum().backward()
    assert errors.grad.tolist() == pytest.approx([0, 200, -200, 2e4])


def test_in_millilitres_it_is_the_square():
    errors = torch.linspace(-500, 500, 11, dtype=torch.float64)
    torch.testing.assert_close(shrinkage_loss(errors), errors**2)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=2))
def test_standardised_targets_come_back_where_they_lie_in_their_ranges(values):
    target = torch.tensor([values], dtype=torch.float64)
    back = TASK.physical(TASK.standardised(target))
    expected = torch.tensor([[min(max(values[0], 0), 15), min(max(values[1], 0), 25)]], dtype=torch.float64)
    torch.testing.assert_close(back, expected)
    assert TASK.standardised(target).abs().max() <= 1


def test_losses_are_summed_over_targets_in_half_ranges_and_weighted():
    outputs, label = torch.tensor([[0.5, 0.0]]), torch.tensor([[7.5, 25.0]])
    assert TASK.losses(outputs, {"label": label}, None).tolist() == pytest.approx([0.25 + 1])
    assert TASK.losses(outputs, {"label": label}, torch.tensor([2.0, 0.5])).tolist() == pytest.approx([0.5 + 0.5])
    shrinking = Regression(classes=TASK.classes, ranges=TASK.ranges, shrinkage=(10.0, 0.2))
    litres = torch.tensor([0.5 * 7.5, 12.5])
    expected = (shrinkage_loss(litres) / torch.tensor([7.5, 12.5]) ** 2).sum()
    torch.testing.assert_close(shrinking.losses(outputs, {"label": label}, None), expected[None])


def test_made_up_targets_lie_in_their_ranges():
    found = TASK.made_up_targets(500, (1,), torch.Generator().manual_seed(0))["label"]
    assert (found.amin(0) >= 0).all()
    assert (found.amax(0) <= torch.tensor([15.0, 25.0])).all()
    assert found.std(0) == pytest.approx([15 / 12**0.5, 25 / 12**0.5], rel=0.1)


def cases(n=60, seed=0):
    random = np.random.default_rng(seed)
    true = random.normal([4, 9], [2, 3], (n, 2))
    predicted = true + random.normal([0.3, -0.5], [1, 0.5], (n, 2))
    return predicted, true, [f"p{i}" for i in range(n)]


def test_metrics_are_those_of_scikit_learn_and_of_bland_and_altman():
    predicted, true, subjects = cases()
    found = evaluate_regression(predicted, true, subjects, [{}] * 60, TASK.classes, "test")
    for k, name in enumerate(TASK.classes):
        errors = predicted[:, k] - true[:, k]
        expected = {
            "r2": r2_score(true[:, k], predicted[:, k]),
            "mae": mean_absolute_error(true[:, k], predicted[:, k]),
            "bias": errors.mean(),
            "lower_limit": errors.mean() - 1.96 * errors.std(ddof=1),
            "upper_limit": errors.mean() + 1.96 * errors.std(ddof=1),
        }
        for metric, value in expected.items():
            measured = found.metrics[f"{name} {metric}"]
            assert measured.value == pytest.approx(value, rel=1e-12)
            assert measured.lower < measured.value < measured.upper
        by_target = next(group for group in found.groups if group.name == name)
        assert by_target.metrics["r2"] == found.metrics[f"{name} r2"]
        np.testing.assert_array_equal(found.curves[f"agreement {name}"], np.stack([true[:, k], predicted[:, k]], 1))


def test_the_interval_of_the_mean_difference_covers_the_true_one():
    """Of 100 samples at 95 %; fewer than 84 would happen with probability 4e-6 (binomial)."""
    covered = 0
    for seed in range(100):
        predicted, true, subjects = cases(40, seed)
        bias = evaluate_regression(predicted, true, subjects, [{}] * 40, TASK.classes, "test").metrics["vat bias"]
        covered += bias.lower <= 0.3 <= bias.upper
    assert covered >= 84


def test_pooled_r2_is_larger_than_that_of_sexes_that_differ_in_their_means():
    random = np.random.default_rng(1)
    sex = np.arange(200) % 2
    true = (5 * sex + random.normal(0, 1, 200))[:, None]
    predicted = true + random.normal(0, 0.8, (200, 1))
    attributes = [{"sex": "FM"[s]} for s in sex]
    found = evaluate_regression(predicted, true, [f"p{i}" for i in range(200)], attributes, ("fat",), "test")
    within = {group.name: group.metrics["fat r2"].value for group in found.groups if group.kind == "attribute"}
    assert set(within) == {"sex=F", "sex=M"}
    for name, value in within.items():
        own = sex == "FM".index(name[-1])
        assert value == pytest.approx(r2_score(true[own], predicted[own]))
        assert value + 0.3 < found.metrics["fat r2"].value


def test_groups_of_few_are_suppressed_and_equal_targets_have_no_r2():
    predicted, true, subjects = cases()
    attributes = [{"sex": "F" if i < 55 else "M"} for i in range(60)]
    true[:, 1] = 3.0
    found = evaluate_regression(predicted, true, subjects, attributes, TASK.classes, "test")
    assert next(group for group in found.groups if group.name == "sex=M").subjects is None
    assert found.metrics["asat r2"].value is None
    assert found.metrics["asat mae"].value is not None


def test_r2_of_large_numbers_loses_no_digits():
    predicted, true, subjects = cases()
    shifted = evaluate_regression(predicted + 1e7, true + 1e7, subjects, [{}] * 60, TASK.classes, "test")
    assert shifted.metrics["vat r2"].value == pytest.approx(r2_score(true[:, 0], predicted[:, 0]), rel=1e-6)


def test_predictions_that_are_not_finite_are_refused():
    predicted, true, subjects = cases()
    predicted[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite for 1 of 60 records; training diverged"):
        evaluate_regression(predicted, true, subjects, [{}] * 60, TASK.classes, "test")
