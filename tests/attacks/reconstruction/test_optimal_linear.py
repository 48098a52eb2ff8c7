"""The optimal linear attack through the product's private step follows the laws that `accounting` states for it.

Each Kolmogorov-Smirnov test rejects a true law with probability `LEVEL`.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from reticent.attacks.reconstruction.observed import Defence
from reticent.attacks.reconstruction.optimal_linear import optimal_linear_attack
from reticent.attacks.reconstruction.scores import mse
from reticent.data import open_cohort
from reticent.errors import InputError
from reticent.records import make_study
from reticent.training import PrivateRun, clipped_grad
from reticent.training.noise import SeededSource

LEVEL = 1e-6


def images(count, pixels, norm, seed=0):
    values = torch.randn(count, 1, pixels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (norm * values / values.norm(dim=2, keepdim=True)).float()


@pytest.mark.parametrize(
    ("pixels", "rows", "norm", "max_norm", "sigma", "steps", "expected"),
    [
        (64, 4, 1.0, 1.0, 0.1, 1, 0.01),
        (64, 1, 5.0, 1.0, 0.05, 1, 0.0625),
        (784, 1, 10.0, 1.0, 0.02, 4, 0.01),
        (16, 1, 2.0, 1.0, 0.5, 1, 1.0),
        (64, 1, 0.5, 1.0, 0.1, 1, 0.01),  # one row is too few for clipping to bite: not sigma^2 r^2 = 0.0025
    ],
)
def test_errors_follow_the_gamma_law_and_shrunk_ones_theirs(pixels, rows, norm, max_norm, sigma, steps, expected):
    count = 1000 if pixels < 100 else 250
    attack = optimal_linear_attack(
        images(count, pixels, norm), Defence(max_norm, sigma), SeededSource(1), rows=rows, observations=steps
    )
    errors = mse(attack.images, attack.unbiased)
    standard_error = expected * (2 / pixels / count) ** 0.5
    assert float(errors.mean()) == pytest.approx(expected, abs=5 * standard_error)
    assert attack.laws[0].expected_mse() == pytest.approx(expected, rel=1e-6)
    assert attack.p_value > LEVEL
    assert attack.shrinkage_p_value > LEVEL
    assert mse(attack.images, attack.shrunk).mean() < errors.mean()


def test_a_wrong_law_is_noticed():
    """The laws of records of another norm, of one percent more noise and of one row more are all rejected."""
    attack = optimal_linear_attack(images(400, 784, 2.0), Defence(1.0, 0.1), SeededSource(2))
    assert attack.p_value > LEVEL
    wrong = [
        [replace(law, record_norm=law.record_norm * 1.02) for law in attack.laws],
        [replace(law, noise_multiplier=0.102) for law in attack.laws],
        [replace(law, observations=2) for law in attack.laws],
    ]
    for laws in wrong:
        assert replace(attack, laws=tuple(laws)).p_value < LEVEL


def test_rows_are_as_many_as_make_clipping_bite_on_the_smallest_image():
    attack = optimal_linear_attack(images(3, 16, 0.3), Defence(1.0, 0.1), SeededSource(3))
    assert attack.laws[0].rows == 12
    assert attack.laws[0].noise_variance == pytest.approx((0.1 * 0.3) ** 2, rel=1e-6)


@pytest.mark.filterwarnings("ignore:no training record has the class")
def test_errors_through_a_whole_private_run_follow_the_law(tmp_path):
    """One patient with one image, in every step: sampling, `clipped_grad`, noise and division are the run's."""
    cohort = open_cohort("phantom:chest?subjects=3", strict=False)
    cohort = replace(cohort, entries=[replace(cohort.entries[0], split="train")])
    privacy = {"noise_multiplier": 0.05, "sampling_rate": 1.0, "steps": 250, "max_norm": 1.0, "seed": 5}
    study = make_study({"cohort": {"uri": "phantom:chest"}, "privacy": privacy})
    layer = nn.Linear(32 * 32, 1, bias=False)
    with PrivateRun.start(study, cohort, tmp_path / "run", ledger=tmp_path / "ledger.sqlite") as run:
        steps = run.steps()
        image = run.data.batch([0])["inputs"]["image"]

        def observe(network, _):
            step = next(steps)
            gradients = clipped_grad(
                network, lambda m, b: m(b["inputs"]["image"].flatten(1)).sum(1), step.batch,
                max_norm=run.max_norm, units=step.units,
            )  # fmt: skip
            step.privatise(network, gradients)
            return network.weight.grad * run.batch_size

        observe(layer, image)  # one step to warm up: 249 are left
        attack = optimal_linear_attack(
            image.expand(249, -1, -1, -1), Defence(1.0, 0.05), run.source, rows=1, observe=observe
        )
    assert attack.p_value > LEVEL
    assert attack.shrinkage_p_value > LEVEL
    mean, expected = float(mse(attack.images, attack.unbiased).mean()), attack.laws[0].expected_mse()
    assert mean == pytest.approx(expected, rel=5 * (2 / 1024 / 249) ** 0.5)


def test_without_noise_there_is_no_law_to_test():
    with pytest.raises(InputError, match="noise_multiplier"):
        optimal_linear_attack(images(1, 4, 1.0), Defence(1.0), SeededSource(0))
