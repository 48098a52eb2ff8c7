"""Steps and sampling rate chosen from a target and epochs, against the rule evaluated on the whole grid."""

import math

import pytest

from reticent.errors import InputError
from reticent.records import make_study
from reticent.training import make_plan


def study(**privacy):
    return make_study({"cohort": {"uri": "clinic"}, "privacy": privacy})


def noise(target, epochs, rate):
    """Noise of all steps beside their signal, up to a factor that all rates share."""
    steps = max(1, round(epochs / rate))
    plan = make_plan(study(**target, sampling_rate=rate, steps=steps))
    return plan.noise_multiplier / math.sqrt(steps) / rate


@pytest.mark.parametrize(
    ("target", "epochs"), [({"mu": 0.5}, 20), ({"epsilon": 8.0, "delta": 1e-5}, 20), ({"advantage": 0.2}, 3)], ids=str
)
def test_the_smallest_batch_with_nearly_the_noise_of_full_batches_is_taken(target, epochs):
    chosen = make_plan(study(**target, epochs=epochs)).study.privacy
    assert chosen.epochs is None
    assert chosen.steps == round(epochs / chosen.sampling_rate)
    full = noise(target, epochs, 1.0)
    assert noise(target, epochs, chosen.sampling_rate) <= 1.2 * full
    assert chosen.sampling_rate == 1 / 16 or noise(target, epochs, chosen.sampling_rate / math.sqrt(2)) > 1.2 * full


def test_under_a_strict_target_amplification_makes_up_for_smaller_batches():
    strict, loose = (make_plan(study(mu=mu, epochs=20)).study.privacy.sampling_rate for mu in (0.2, 4.0))
    assert strict == 1 / 16
    assert loose > strict


@pytest.mark.parametrize(
    "options",
    [
        {"mu": 1.0, "steps": 50},
        {"mu": 1.0, "sampling_rate": 0.1},
        {"mu": 1.0, "batch_size": 20.0},
        {"noise_multiplier": 1.0},
        {"non_private": True},
        {"mu": 1.0, "noise": "banded", "bands": 4},
    ],
    ids=str,
)
def test_it_is_refused_beside_what_it_chooses_or_without_a_target(options):
    with pytest.raises(InputError, match="--epochs"):
        study(**options, epochs=20)
