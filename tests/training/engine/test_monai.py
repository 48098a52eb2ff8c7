"""MONAI's networks, converted by `to_private`, give the loop over units; none falls back to one record at a time."""

import copy
import warnings

import pytest
import torch
from unit_loop import EXACT, NOT_NATIVE, clipped_sum, norm_of, relative_error, unit_gradients

from monai_networks import NETWORKS
from reticent.training import clipped_grad

SLOW = {("SwinUNETR", 3), ("VNet", 3), ("SENet", 3)}
WITHOUT_A_RULE = {("SwinUNETR", 3): "relative_position_bias_table"}
"""Networks with a large parameter outside of layers, which are told so."""


@pytest.mark.parametrize(
    ("name", "d"),
    [
        pytest.param(name, d, id=f"{name} {d}-D", marks=[pytest.mark.slow] * ((name, d) in SLOW))
        for d in (2, 3)
        for name in NETWORKS
    ],
)
def test_it_is_the_loop_over_units(name, d):
    network, units = NETWORKS[name], torch.tensor([0, 1, 1])
    model, batch = network.model(d), network.batch(d, 3)
    gradients = unit_gradients(model, network.losses, batch, units)
    max_norm = 0.7 * min(norm_of(gradient.values()) for gradient in gradients)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", message="(?!" + NOT_NATIVE + ")")
        found = clipped_grad(model, network.losses, batch, max_norm=max_norm, units=units)
    assert relative_error(found.sum, clipped_sum(gradients, max_norm)) <= EXACT[network.dtype]
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == ((name, d) in WITHOUT_A_RULE)
    assert all(WITHOUT_A_RULE[name, d] in text for text in texts)
    copy.deepcopy(model)  # no tensor of a finished vectorisation is left on it
