"""The published effect of bias-aware minimisation on 8 x 8 digits, with fixed seeds."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from reticent.training import clipped_grad
from reticent.training.noise import SeededSource, gaussian_noise

PEOPLE = 1400
SEEDS = (0, 1, 2)


@lru_cache
def digits():
    """Images (1797, 64) in a fixed random order, and their digits."""
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))
    return torch.tensor(loaded.data[order] / 8 - 1, dtype=torch.float32), torch.tensor(loaded.target[order])


def losses(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")


def train(seed, ascent):
    """Accuracy and mean gradient norm on held-out digits after DP-SGD with NAdam, sampling rate 0.1 and clip norm 1."""
    x, y = digits()
    torch.manual_seed(seed)
    model, source = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)), SeededSource(seed)
    optimiser = torch.optim.NAdam(model.parameters(), 1e-2)
    for _ in range(100):
        rows = torch.arange(PEOPLE)[torch.rand(PEOPLE) < 0.1]
        total = clipped_grad(model, losses, {"x": x[rows], "y": y[rows]}, max_norm=1.0, ascent=ascent).sum
        for name, parameter in model.named_parameters():
            parameter.grad = ((total[name] + gaussian_noise(total[name], 1.0, source)) / (0.1 * PEOPLE)).to(parameter)
        optimiser.step()
    held_out = {"x": x[PEOPLE:], "y": y[PEOPLE:]}
    with torch.no_grad():
        accuracy = (model(held_out["x"]).argmax(1) == held_out["y"]).double().mean()
    return float(accuracy), float(clipped_grad(model, losses, held_out, max_norm=1.0).norms.mean())


def test_bias_aware_minimisation_shortens_gradients_and_costs_no_accuracy():
    plain, small, larger = (np.mean([train(seed, ascent) for seed in SEEDS], axis=0) for ascent in (0.0, 0.02, 0.1))
    assert plain[1] > small[1] > larger[1]
    assert min(small[0], larger[0]) > plain[0] - 0.01
