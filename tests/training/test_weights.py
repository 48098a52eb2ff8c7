"""First weights from files: what does not fit is named."""

import warnings

import pytest
import torch
from torch import nn

from reticent.errors import InputError
from reticent.models import ResNet9
from reticent.records import make_study
from reticent.training.learner import Learner
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


def test_what_starts_from_a_file_learns_at_a_share_of_the_rate(tmp_path):
    """With plain gradient steps of one, weights move by their rate."""
    public = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    path = saved(public, tmp_path / "public.pt")
    load_weights(model, path)
    study = make_study(
        {
            "cohort": {"uri": "x.csv"},
            "privacy": {"non_private": True, "steps": 10},
            "model": {"init_from": path, "init_origin": "elsewhere", "transfer_rate": 0.2},
            "training": {"optimiser": "sgd", "learning_rate": 0.1},
        }
    )
    before, learner = {name: p.detach().clone() for name, p in model.named_parameters()}, Learner(study, model, 1.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    learner.step(0)
    moved = {name: (before[name] - p).detach() for name, p in model.named_parameters()}
    for name, by in moved.items():
        torch.testing.assert_close(by, torch.full_like(by, 0.02 if name.startswith("0.") else 0.1))
    learner.step(5)  # half-way down the cosine, with momentum
    again = {name: (before[name] - moved[name] - p).detach() for name, p in model.named_parameters()}
    torch.testing.assert_close(again["0.bias"] * 5, again["1.bias"].mean().expand(4))


def test_a_share_of_the_rate_is_of_weights_from_a_file():
    with pytest.raises(InputError, match="--transfer-rate is of weights that start from a file"):
        make_study({"cohort": {"uri": "x"}, "privacy": {"non_private": True}, "model": {"transfer_rate": 0.1}})
