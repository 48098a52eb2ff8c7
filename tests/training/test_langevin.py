"""Langevin sampling: the posterior where it is known in closed form, its temperature, its cost, its predictions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from reticent.records import make_study
from reticent.training import clipped_grad, effective_temperature, make_plan, uncertainty
from reticent.training.evaluation.calibration import reliability
from reticent.training.langevin import PosteriorMean, PosteriorSamples, at_temperature, run_temperature
from reticent.training.learner import Learner
from reticent.training.noise import SeededSource, gaussian_noise
from reticent.training.tasks import Classification

CHAINS, PEOPLE, STEPS = 4000, 200, 300
DEVIATIONS = 5.3
"""A normal value is further away with a probability of 1e-7."""


def study_of(*, steps=STEPS, sampling_rate=1.0, noise_multiplier=1.0, max_norm=1.0, **training):
    return make_study(
        {
            "cohort": {"uri": "made up"},
            "privacy": {
                "noise_multiplier": noise_multiplier, "steps": steps, "sampling_rate": sampling_rate,
                "max_norm": max_norm,
            },
            "training": {"optimiser": "langevin", **training},
        }
    )  # fmt: skip


class Mean(nn.Module):
    """As many independent chains as there are parameters, each a mean of the same data."""

    def __init__(self, chains):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(chains))


def learn(study, model, losses, batch, draw, batch_size, people):
    """The loop of a private run, without its records."""
    learner, source = Learner(study, model, people), SeededSource(3)
    privacy = study.privacy
    for step in range(privacy.steps):
        total = clipped_grad(model, losses, draw(batch), max_norm=privacy.max_norm).sum
        for name, parameter in model.named_parameters():
            noise = gaussian_noise(total[name], privacy.noise_multiplier * privacy.max_norm, source)
            parameter.grad = ((total[name] + noise) / batch_size).to(parameter)
        learner.step(step)
    return learner


@pytest.mark.parametrize("temperature", [0.25, 1, 4])
def test_a_conjugate_gaussian_has_its_posterior_at_every_temperature(temperature):
    # x ~ N(theta, 1), prior N(0, 1): the chain of h = 0.2 / (N + 1) has T h / (1 - (1 - h (N + 1) / 2)^2) as variance
    torch.manual_seed(0)
    x = torch.randn(PEOPLE) + 0.7
    precision = PEOPLE + 1
    h = 0.2 / precision
    rate, max_norm = h * PEOPLE / 2, 50 * math.sqrt(CHAINS)
    noise_multiplier = math.sqrt(temperature * 2 / (rate * PEOPLE)) * PEOPLE / max_norm
    study = study_of(noise_multiplier=noise_multiplier, max_norm=max_norm, learning_rate=rate)
    assert run_temperature(make_plan(study), PEOPLE) == pytest.approx(temperature)
    model = Mean(CHAINS)

    def losses(model, batch):
        return 0.5 * (batch[:, None] - model.mean).square().sum(1)

    learn(study, model, losses, x, lambda batch: batch, PEOPLE, PEOPLE)
    variance = temperature * h / (1 - (1 - h * precision / 2) ** 2)
    found = model.mean.detach()
    assert abs(found.mean() - x.sum() / precision) < DEVIATIONS * math.sqrt(variance / CHAINS)
    assert abs(found.var() / variance - 1) < DEVIATIONS * math.sqrt(2 / CHAINS)


@given(st.floats(0.01, 10), st.floats(0.1, 10), st.floats(0.1, 10), st.floats(1, 1e3), st.floats(1e3, 1e5))
def test_the_temperature_is_proportional_to_the_rate_and_knows_only_the_product_of_noise_and_norm(
    rate, noise, norm, batch_size, subjects
):
    found = effective_temperature(rate, noise, norm, batch_size, subjects)
    unit_rate = 2 * batch_size**2 / (subjects * noise**2 * norm**2)
    assert effective_temperature(unit_rate, noise, norm, batch_size, subjects) == pytest.approx(1)
    assert found == pytest.approx(rate / unit_rate)
    assert found == pytest.approx(effective_temperature(rate, noise / 2, 2 * norm, batch_size, subjects))


def test_a_published_configuration_of_dp_sgd_is_far_colder_than_its_posterior():
    assert effective_temperature(0.15, 1.1, 1, 600, 60_000) == pytest.approx(0.015, rel=0.02)


@pytest.mark.parametrize("declared", [None, 30.0])
def test_a_temperature_sets_the_learning_rate(declared):
    study = study_of(sampling_rate=0.1, noise_multiplier=2.0, temperature=0.3)
    study = study.model_copy(update={"privacy": study.privacy.model_copy(update={"batch_size": declared})})
    plan = at_temperature(make_plan(study), 500)
    people = 500 if declared is None else 300
    assert run_temperature(plan, 500) == pytest.approx(0.3)
    rate = plan.study.training.learning_rate
    assert effective_temperature(rate, 2.0, 1.0, people / 10, people) == pytest.approx(0.3)


def test_sampling_costs_what_the_same_steps_cost():
    langevin = study_of(sampling_rate=0.1, posterior_samples=7, temperature=1.0)
    plain = langevin.model_copy(update={"training": langevin.training.model_copy(update={"optimiser": "nadam"})})
    assert make_plan(langevin).mechanism == make_plan(plain).mechanism


def test_the_prior_is_not_clipped():
    study = study_of(learning_rate=0.2, prior_precision=1e6)
    model = Mean(3)
    with torch.no_grad():
        model.mean.copy_(torch.tensor([1.0, -2.0, 3.0]))
    before = model.mean.detach().clone()
    learner = Learner(study, model, PEOPLE)
    model.mean.grad = torch.zeros(3)
    learner.step(0)
    torch.testing.assert_close(model.mean.detach(), before - 0.2 * 1e6 / PEOPLE * before)


@pytest.mark.parametrize(("steps", "samples", "kept"), [(10, 5, [5, 6, 7, 8, 9]), (100, 2, [74, 99]), (4, 9, [2, 3])])
def test_samples_are_spread_over_the_second_half(steps, samples, kept):
    posterior, model = PosteriorSamples(steps, samples), nn.Linear(1, 1, bias=False)
    for step in range(steps):
        nn.init.constant_(model.weight, step)
        posterior.update(step, model)
        again = PosteriorSamples(steps, samples)
        again.load_state_dict(posterior.state_dict())
        posterior = again  # as after an interruption
    assert posterior.values["weight"].flatten().tolist() == kept


def test_a_sample_that_a_kill_took_is_left_out_and_never_a_network_of_zeros():
    study, model = study_of(steps=4, posterior_samples=2), nn.Linear(1, 1, bias=False)
    learner = Learner(study, model, PEOPLE)
    nn.init.constant_(model.weight, 7.0)
    assert learner.released["weight"].tolist() == [[[7.0]]]  # both samples lost: the last weights there are
    nn.init.constant_(model.weight, 3.0)
    learner.kept.update(3, model)  # the process was killed in step 2
    assert learner.released["weight"].tolist() == [[[3.0]]]
    assert learner.predicting(Classification("binary", ("a",))).count == 1


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label", "segmentation"])
def test_the_mean_of_the_probabilities_is_predicted(kind):
    torch.manual_seed(0)
    task = Classification(kind, ("a", "b", "c"))
    network = nn.Conv2d(1, 3, 1) if task.segments else nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    values = {name: torch.randn(5, *value.shape) for name, value in network.state_dict().items()}
    posterior, x = PosteriorMean(network, values, task), torch.randn(6, 1, 2, 2)
    singly = []
    for k in range(5):
        network.load_state_dict({name: value[k] for name, value in values.items()})
        singly.append(task.probabilities(network(x)))
    torch.testing.assert_close(task.probabilities(posterior(x)), torch.stack(singly).mean(0))
    torch.testing.assert_close(posterior.probabilities(x), torch.stack(singly))


@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 2**31))
def test_information_is_not_negative_and_the_mean_is_no_worse_than_its_parts(samples, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.randn(samples, 8, classes, generator=generator, dtype=torch.float64)).softmax(2)
    entropy, information = uncertainty(probabilities)
    assert (information >= 0).all()
    assert (information <= entropy + 1e-12).all()
    if samples == 1:
        assert information.abs().max() < 1e-12
    own = -probabilities.log()
    assert (-probabilities.mean(0).log() <= own.mean(0) + 1e-12).all()


def test_a_warm_posterior_is_better_calibrated_than_its_last_sample():
    # 8 x 8 digits, one network of two layers; a cut-down row of the table in the method's notes
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32) + 0.3 * torch.randn(len(digits.data), 64)
    y = torch.tensor(digits.target)
    people, batch_size = 1200, 120
    study = study_of(steps=300, sampling_rate=0.1, noise_multiplier=2.0, learning_rate=2.0)
    assert run_temperature(make_plan(study), people) == pytest.approx(1 / 3)
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))

    def losses(model, rows):
        return nn.functional.cross_entropy(model(x[rows]), y[rows], reduction="none")

    def draw(rows):
        return rows[torch.rand(people) < 0.1]

    learner = learn(study, model, losses, torch.arange(people), draw, batch_size, people)
    with torch.no_grad():
        last = model(x[people:]).softmax(1)
        mean = learner.predicting(Classification("multi-class", tuple("0123456789")))(x[people:]).softmax(1)

    def scores(probabilities):
        right = probabilities.argmax(1) == y[people:]
        error = reliability(probabilities.max(1).values.numpy(), right.numpy()).error
        return error, float(-probabilities.gather(1, y[people:, None]).log().mean()), float(right.float().mean())

    last_error, last_loss, last_accuracy = scores(last)
    error, loss, accuracy = scores(mean)
    assert error < last_error / 2
    assert loss < last_loss
    assert accuracy >= last_accuracy
