"""First weights from files: what does not fit is named."""

import warnings

import pytest
import torch
from torch import nn

from reticent.models import ResNet9
from reticent.training.weights import load_weights


def saved(model, path):
    torch.save(model.state_dict(), path)
    return path


def test_tensors_that_only_the_file_or_only_the_network_has_are_named(tmp_path):
    plain, scaled = (ResNet9(1, 2, width=8, scale_norm=norm) for norm in (False, True))
    with pytest.warns(UserWarning, match=r"the file has no 'scale_norm1.bias' and 3 more; is it the same network"):
        load_weights(scaled, saved(plain, tmp_path / "plain.pt"))
    with pytest.warns(UserWarning, match=r"the network has no 'scale_norm1.bias' and 3 more"):
        load_weights(plain, saved(scaled, tmp_path / "scaled.pt"))


def test_a_head_for_other_classes_is_left_as_it_is_without_a_word(tmp_path):
    public = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    head = model[1].weight.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_weights(model, saved(public, tmp_path / "public.pt"))
    assert torch.equal(model[0].weight, public[0].weight)
    assert torch.equal(model[1].weight, head)
