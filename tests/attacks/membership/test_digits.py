"""Attacks on over-fitted networks for scikit-learn's digits: the order of strength that the literature reports."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from reticent.attacks import auc, found_at
from reticent.attacks.membership.likelihood_ratio import lira_offline, lira_online
from reticent.attacks.membership.relative import rmia_online
from reticent.attacks.membership.signals import signals
from reticent.training import Classification

RECORDS, MODELS, HIDDEN, STEPS, TARGETS = 700, 24, 48, 220, 8


def train_together(x, y, inside):
    """Logits (models, records, 10) of networks trained on their own halves, all in one batched product."""
    torch.manual_seed(0)
    first = torch.randn(MODELS, x.shape[1], HIDDEN).mul(0.15).requires_grad_()
    second = torch.randn(MODELS, HIDDEN, 10).mul(0.15).requires_grad_()
    biases = [torch.zeros(MODELS, 1, size, requires_grad=True) for size in (HIDDEN, 10)]
    optimiser = torch.optim.Adam([first, second, *biases], 0.01)
    forward = lambda: (x @ first + biases[0]).relu() @ second + biases[1]  # noqa: E731
    for _ in range(STEPS):
        losses = torch.nn.functional.cross_entropy(forward().flatten(0, 1), y.repeat(MODELS), reduction="none").reshape(
            MODELS, -1
        )
        optimiser.zero_grad()
        (losses * inside).sum().div(RECORDS / 2).backward()
        optimiser.step()
    with torch.no_grad():
        return forward()


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(x))[:RECORDS]
    x, y = torch.tensor(x[chosen] / 16, dtype=torch.float32), torch.tensor(y[chosen])
    noisy = rng.random(RECORDS) < 0.1
    y[torch.from_numpy(noisy)] = torch.tensor(rng.integers(0, 10, noisy.sum()))
    inside = np.zeros((MODELS, RECORDS), bool)
    for pair in range(MODELS // 2):
        inside[2 * pair, rng.permutation(RECORDS)[: RECORDS // 2]] = True
        inside[2 * pair + 1] = ~inside[2 * pair]
    logits = train_together(x, y, torch.from_numpy(inside).float())
    found = [signals(one, {"label": y}, Classification("multi-class", tuple("0123456789"))) for one in logits]
    return np.stack([f.phi for f in found]), np.stack([f.log_p for f in found]), inside


def strengths(digits, references):
    """Mean AUC and TPR at FPR 1 % over eight targets, by attack, with so many references."""
    phi, log_p, inside = digits
    found = {}
    for target in range(TARGETS):
        others = [k for k in range(MODELS) if k // 2 != target // 2][:references]
        member = inside[target]
        scores = {
            "loss": phi[target],
            "offline": lira_offline(phi[target], phi[others], inside[others]),
            "lira": lira_online(phi[target], phi[others], inside[others]),
            "rmia": rmia_online(log_p[target], log_p[others], inside[others]),
        }
        for name, values in scores.items():
            area = auc(values[member], values[~member])[0]
            found.setdefault(name, []).append((area, found_at(values[member], values[~member], 0.01).value))
    return {name: np.mean(values, 0) for name, values in found.items()}


def test_the_order_of_attacks_with_many_references(digits):
    found = strengths(digits, 22)
    assert found["loss"][0] + 0.02 < found["offline"][0] + 0.01 < found["lira"][0]
    assert found["loss"][0] + 0.03 < min(found["lira"][0], found["rmia"][0])
    assert abs(found["lira"][0] - found["rmia"][0]) < 0.06
    # At few false alarms confidence alone finds hardly anybody.
    assert found["loss"][1] < 0.03
    assert min(found["lira"][1], found["rmia"][1]) > 3 * found["loss"][1]


def test_few_references_are_enough_for_relative_probabilities(digits):
    many, few = strengths(digits, 22), strengths(digits, 2)
    assert few["rmia"][0] > few["loss"][0] + 0.03
    assert few["rmia"][0] > few["offline"][0]
    assert many["rmia"][0] - few["rmia"][0] < 0.1
