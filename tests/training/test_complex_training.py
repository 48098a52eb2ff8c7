"""Complex parameters in private training: what is clipped, noised and stored is (Re, Im), nothing less.

False alarms: seven statistical checks of at most 1e-7 each, with fixed seeds or the system's source.
"""

import json
import math
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from dp_accounting import dp_event
from dp_accounting.pld import pld_privacy_accountant
from scipy import stats
from torch import nn

from reticent.accounting import ComplexGaussian
from reticent.data import open_cohort
from reticent.errors import InputError
from reticent.models import ComplexClassifier, ComplexGroupNorm, ConjMish, Magnitude
from reticent.records import Metrics, RunFolder, make_study
from reticent.report import cite
from reticent.training import PrivateRun, clipped_grad, clipping_bias, estimate, make_plan, resume_training, train
from reticent.training.averaging import MovingAverage
from reticent.training.banded_noise import BandedNoise
from reticent.training.learner import Learner
from reticent.training.noise import SeededSource, SystemSource, gaussian_noise
from reticent.training.ranks import ALONE
from reticent.training.real_coordinates import wide_dtype
from reticent.training.sharding import load_whole_state, set_gradients, whole_state
from reticent.training.weights import load_weights, write_checkpoint

FALSE_ALARM = 1e-7


def z_bound():
    return stats.norm.isf(FALSE_ALARM / 2)


def silent(stage, done, total):
    pass


def to_double(model):
    for parameter in model.parameters():
        parameter.data = parameter.data.to(wide_dtype(parameter))
    return model


@pytest.mark.parametrize("source", [SeededSource(3), SystemSource()], ids=["seeded", "system"])
def test_noise_is_circular_with_the_asked_for_deviation_of_each_part(source):
    n = 300_000
    noise = gaussian_noise(torch.zeros(3, n // 3, dtype=torch.complex128), 2.5, source)
    assert noise.shape == (3, n // 3)
    assert noise.dtype == torch.complex128
    for part in (noise.real, noise.imag):
        assert stats.kstest(part.flatten().numpy(), "norm", args=(0, 2.5)).pvalue > FALSE_ALARM
        assert abs(part.std().item() / 2.5 - 1) < z_bound() / math.sqrt(2 * n)
    relation = (noise**2).mean() / 2.5**2  # E[z^2]: its parts have variance 4 / n each
    assert max(abs(relation.real), abs(relation.imag)) < z_bound() * math.sqrt(4 / n)


@pytest.mark.parametrize("angle", [0.0, 1.0], ids=["along the real axis", "askew"])
def test_the_likelihood_ratio_adversary_has_the_power_of_the_complex_gaussian_mechanism(angle):
    """AUC = Phi(mu / sqrt(2)), mu = sensitivity / std of each part; with parts of total variance it would be 0.841."""
    n, std = 1_000_000, 1.25
    contribution = np.exp(1j * angle)
    without, present = (
        gaussian_noise(torch.zeros(n, dtype=torch.complex128), std, SeededSource(9, k)).numpy() for k in range(2)
    )
    auc = np.mean(((present + contribution) * contribution.conj()).real > (without * contribution.conj()).real)
    mu = float(ComplexGaussian(std).profile().mu().upper)
    assert mu == pytest.approx(1 / std, rel=1e-6)
    assert auc == pytest.approx(stats.norm.cdf(mu / math.sqrt(2)), abs=z_bound() * 0.5 / math.sqrt(n))


class Stacked(nn.Module):
    """The network of `complex_network` in real arithmetic: each complex parameter is a real one (*shape, 2)."""

    def __init__(self, source):
        super().__init__()
        self.names = {name: name.replace(".", "_") for name, _ in source.named_parameters()}
        for name, p in source.named_parameters():
            value = torch.view_as_real(p.detach()) if p.is_complex() else p.detach()
            self.register_parameter(self.names[name], nn.Parameter(value.clone()))

    def forward(self, x):
        p = {name: getattr(self, own) for name, own in self.names.items()}
        v = torch.view_as_real(x)
        w = p["0.weight"]
        block = torch.cat([torch.cat([w[..., 0], -w[..., 1]], 1), torch.cat([w[..., 1], w[..., 0]], 1)])
        y = F.conv2d(torch.cat([v[..., 0], v[..., 1]], 1), block, p["0.bias"].T.flatten())
        y = y.unflatten(1, (2, 4)).flatten(3)  # (n, part, channel, position)
        grouped = y.unflatten(2, (2, 2)).flatten(3)
        grouped = (grouped - grouped.mean(3, keepdim=True)).movedim(1, 3)  # (n, group, entry, part)
        covariance = grouped.mT @ grouped / grouped.shape[2] + 1e-5 * torch.eye(2, dtype=y.dtype)
        values, vectors = torch.linalg.eigh(covariance)
        white = grouped @ vectors @ torch.diag_embed(values**-0.5) @ vectors.mT
        white = white.unflatten(2, (2, -1)).flatten(1, 2)  # (n, channel, position, part)
        y = torch.einsum("cij,ncsj->ncsi", p["1.weight"], white) + p["1.bias"][:, None]
        u, v = (part * torch.tanh(F.softplus(part)) for part in y.unbind(-1))
        u, v = (u - v).flatten(1), (u + v).flatten(1)
        w, b = p["4.weight"], p["4.bias"]
        real = u @ w[..., 0].T - v @ w[..., 1].T + b[:, 0]
        imaginary = u @ w[..., 1].T + v @ w[..., 0].T + b[:, 1]
        return (real**2 + imaginary**2).sqrt()


def complex_network():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 4, 3, dtype=torch.complex64)
    model = nn.Sequential(
        conv, ComplexGroupNorm(2, 4), ConjMish(), nn.Flatten(), nn.Linear(64, 3, dtype=torch.complex64), Magnitude()
    )
    return to_double(model)


def losses(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")


def real_clipped_sum(model, batch, max_norm):
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for k in range(len(batch["y"])):
        loss = losses(model, {name: value[k : k + 1] for name, value in batch.items()}).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.stack([g.norm() for g in gradients]).norm()
        for name, g in zip(total, gradients, strict=True):
            total[name] += g * (max_norm / norm).clamp(max=1)
    return total


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "nadam"])
@pytest.mark.parametrize("bands", [1, 3])
def test_private_steps_are_those_of_real_dp_sgd_on_real_and_imaginary_parts(optimiser, bands):
    """With the same noise: conv, norm and linear map, three steps, any optimiser, independent or correlated noise."""
    model = complex_network()
    twin, max_norm, batch_size = Stacked(model), 0.3, 5.0
    batch = {"x": torch.randn(6, 2, 6, 6, dtype=torch.complex128), "y": torch.tensor([0, 1, 2, 0, 1, 2])}
    torch.testing.assert_close(model(batch["x"]), twin(batch["x"]), rtol=1e-9, atol=1e-9)
    study = make_study(
        {
            "cohort": {"uri": "none"},
            "privacy": {"noise_multiplier": 1.0},
            "training": {"optimiser": optimiser, "learning_rate": 0.05},
        }
    )
    own, other = Learner(study, model, 1.0).optimiser, Learner(study, twin, 1.0).optimiser
    noises = [BandedNoise(0.7 * max_norm, 3, bands, SeededSource(4)) for _ in range(2)]
    first = [p.detach().clone() for p in model.parameters()]
    for step in range(3):
        found = clipped_grad(model, losses, batch, max_norm=max_norm)
        expected = real_clipped_sum(twin, batch, max_norm)
        assert (found.norms > max_norm).any()
        for net, sums, noise in ((model, found.sum, noises[0]), (twin, expected, noises[1])):

            def privatised(name, total, noise=noise, step=step):
                return (total + noise.draw(step, name, total)) / batch_size

            set_gradients(net, sums, privatised, ALONE)
        own.step()
        other.step()
    for before, p, q in zip(first, model.parameters(), twin.parameters(), strict=True):
        value = torch.view_as_real(p.detach()) if p.is_complex() else p.detach()
        torch.testing.assert_close(value, q.detach(), rtol=1e-6, atol=1e-7)
        assert (torch.view_as_real(p - before) if p.is_complex() else p - before).abs().min() > 0


class Point(nn.Module):
    """One complex number; its loss for every record is |z|^2."""

    def __init__(self):
        super().__init__()
        self.z = nn.Parameter(torch.tensor([1 + 2j], dtype=torch.complex128))

    def forward(self, x):
        return (self.z * torch.ones_like(x)).abs().square()


def test_the_gradient_is_twice_the_conjugate_derivative_and_leads_to_the_minimum():
    """dL/da + i dL/db = 2 z at z = a + ib; its conjugate, as in JAX, would lead away along the imaginary axis."""
    model, away = Point(), 1 + 2j
    batch = torch.ones(1, 1, dtype=torch.complex128)
    for _ in range(20):
        found = clipped_grad(model, lambda m, x: m(x)[:, 0], batch, max_norm=1e6).sum["z"]
        torch.testing.assert_close(found, 2 * model.z.detach())
        with torch.no_grad():
            model.z -= 0.1 * found
        away -= 0.1 * (2 * away).conjugate()
    assert model.z.abs().item() == pytest.approx(math.sqrt(5) * 0.8**20)
    assert abs(away) > math.sqrt(5)


def test_a_gradient_is_clipped_to_its_norm_over_both_parts():
    found = clipped_grad(Point(), lambda m, x: m(x)[:, 0], torch.ones(1, 1, dtype=torch.complex128), max_norm=1.0)
    assert found.norms.item() == pytest.approx(2 * math.sqrt(5))
    assert found.sum["z"].abs().item() == pytest.approx(1.0)


def start(write_cohort, out, **privacy):
    options = {"noise_multiplier": 2.0, "sampling_rate": 0.3, "steps": 1, **privacy}
    study = make_study({"cohort": {"uri": str(write_cohort())}, "privacy": options})
    return PrivateRun.start(study, open_cohort(study.cohort.uri), out)


class Flat(nn.Module):
    def __init__(self, dtype=torch.complex64):
        super().__init__()
        self.linear = nn.Linear(256, 400, dtype=dtype)

    def forward(self, image):
        return self.linear(image.flatten(1).to(self.linear.weight.dtype)).abs()


def test_a_run_adds_noise_multiplier_times_norm_to_each_part_of_a_step(write_cohort, tmp_path):
    """102 800 values a part; a step without subjects, so that the gradients are noise alone."""
    with start(write_cohort, tmp_path / "run", max_norm=0.5, sampling_rate=1e-12, batch_size=7.0) as job:
        model, step = Flat(), next(job.steps())
        step.privatise(
            model,
            clipped_grad(
                model, lambda m, b: m(b["inputs"]["image"]).mean(1), step.batch, max_norm=0.5, units=step.units
            ),
        )
    assert all(p.grad.dtype == torch.complex64 for p in model.parameters())
    noise = torch.cat([7 * p.grad.flatten() for p in model.parameters()])
    bound = z_bound() / math.sqrt(len(noise))
    for part in (noise.real, noise.imag):
        assert part.std().item() == pytest.approx(2.0 * 0.5, rel=bound / math.sqrt(2))
    assert abs(np.corrcoef(noise.real, noise.imag)[0, 1]) < bound


def test_weights_that_the_release_cannot_hold_are_refused_before_it_is_written(write_cohort, tmp_path):
    with start(write_cohort, tmp_path / "run") as job:
        list(job.steps())
        with pytest.raises(InputError, match=r"linear\.weight is complex128"):
            job.finish(Flat(torch.complex128).state_dict(), Metrics(task="binary", splits=()))
        job.finish(Flat().state_dict(), Metrics(task="binary", splits=()))


def test_the_moving_average_follows_both_parts():
    model, average = Flat(), MovingAverage(Flat(), 0.5)
    before = {name: value.clone() for name, value in average.values.items()}
    average.update(model)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(average.values[name], 0.1 * before[name] + 0.9 * value)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.NAdam])
def test_saved_states_of_optimisers_go_on_as_if_nothing_had_happened(kind, tmp_path):
    def stepped(model, optimiser, count):
        for k in range(count):
            for p in model.parameters():
                p.grad = torch.full_like(p, 0.3 - (k + 1) * 0.2j) * p.detach()
            optimiser.step()

    def made():
        torch.manual_seed(0)
        model = Flat()
        return model, kind(model.parameters(), 0.01, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))

    model, optimiser = made()
    stepped(model, optimiser, 2)
    other, again = made()
    write_checkpoint({"model": whole_state(model), "optimiser": whole_state(optimiser)}, tmp_path / "checkpoint.pt")
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    load_whole_state(other, saved["model"])
    load_whole_state(again, saved["optimiser"])
    stepped(model, optimiser, 2)
    stepped(other, again, 2)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_the_clipping_bias_counts_real_coordinates():
    model, x = to_double(Flat()), torch.randn(6, 256, dtype=torch.float64)
    found = clipping_bias(
        model, lambda m, b: m(b).mean(1), x, max_norm=1e-3, noise_multiplier=2.0, batch_size=6.0
    )  # fmt: skip
    mean = [g / 6 for g in clipped_grad(model, lambda m, b: m(b).mean(1), x, max_norm=1e-3).sum.values()]
    norm = math.sqrt(sum(g.abs().square().sum().item() for g in mean))
    coordinates = 2 * (256 * 400 + 400)
    assert found.signal[""] == pytest.approx(norm / (math.sqrt(coordinates) * 2.0 * 1e-3 / 6))
    assert found.bias <= found.bound * (1 + 1e-9)
    assert 0 < found.cosine <= 1


def test_real_first_weights_do_not_enter_a_complex_network_nor_the_other_way_round(tmp_path):
    model = ComplexClassifier(2, 1, 2, (16, 16), width=4)
    name = next(name for name, p in model.named_parameters() if p.is_complex())
    real = {name: model.state_dict()[name].real.clone()}
    safetensors.torch.save_file(real, tmp_path / "real.safetensors")
    with pytest.raises(InputError, match="no tensor fits ComplexClassifier"):
        load_weights(model, tmp_path / "real.safetensors")
    linear = nn.Linear(3, 2)
    safetensors.torch.save_file({"weight": torch.ones(2, 3) * 1j}, tmp_path / "complex.safetensors")
    with pytest.raises(InputError, match="no tensor fits Linear"):
        load_weights(linear, tmp_path / "complex.safetensors")


def complex_study(uri, *, model=None, training=None, cohort=None, **privacy):
    return make_study(
        {
            "cohort": {"uri": str(uri), **(cohort or {})},
            "privacy": {"steps": 6, "sampling_rate": 0.25, **privacy},
            "model": {"name": "complex", "arguments": {"width": 4, **(model or {})}},
            "training": training or {},
        }
    )


def run(study, out, progress=silent):
    return train(study, open_cohort(study.cohort.uri), out, ledger=None, plan=make_plan(study), progress=progress)


def test_a_run_of_the_complex_network_states_what_dp_accounting_computes_for_its_real_noise(write_cohort, tmp_path):
    study = complex_study(write_cohort(), epsilon=4.0, delta=1e-3)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(native rule|vectorised|discards the imaginary).*")
        folder = run(study, tmp_path / "run")
    stated = json.loads((folder.release / "privacy.json").read_text())
    accountant = pld_privacy_accountant.PLDAccountant()
    step = dp_event.PoissonSampledDpEvent(0.25, dp_event.GaussianDpEvent(stated["noise_multiplier"]))
    accountant.compose(dp_event.SelfComposedDpEvent(step, 6))
    recomputed = accountant.get_epsilon(1e-3)
    assert recomputed * (1 - 1e-3) <= stated["epsilon"]["upper"] <= min(4.0, 1.01 * recomputed)
    weights = safetensors.torch.load_file(folder.weights)
    complex_weights = [value for value in weights.values() if value.is_complex()]
    assert len(complex_weights) == 2 + 2  # of convolutions, and biases of norms
    assert all(value.imag.abs().max() > 0 for value in complex_weights)
    assert "riess2025complex" in cite(folder)


def test_an_interrupted_run_of_the_complex_network_resumes(write_cohort, tmp_path):
    class Stop:
        def __call__(self, stage, done, total):
            if stage == "Training" and done == 3:
                raise KeyboardInterrupt

    study = complex_study(write_cohort(), noise_multiplier=1.0, seed=2)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path / "run", Stop())
    folder = RunFolder.open(tmp_path / "run", finished=False)
    kept = torch.load(folder.checkpoint, weights_only=True)["model"]
    assert any(value.is_complex() and value.imag.any() for value in kept.values())
    folder = resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)
    assert folder.state().status == "finished"


def test_a_run_in_two_processes_gives_the_weights_of_one(ranks, write_cohort, tmp_path):
    """The sum over ranks keeps both parts. Float64 sums in another order, rounded to float32, through four steps."""
    arguments = [
        "train", write_cohort(), "--model", "complex", "--model-argument", "width=4", "--steps", "4",
        "--sampling-rate", "0.4", "--noise-multiplier", "1.5", "--augment", "none", "--seed", "3", "--out",
    ]  # fmt: skip
    folders = [RunFolder(tmp_path / f"run-{size}") for size in (1, 2)]
    for size, folder in enumerate(folders, start=1):
        ended = ranks(size, command=[*arguments, folder.path])
        assert ended.codes == [0] * size, ended.logs
    one, two = (safetensors.torch.load_file(folder.weights) for folder in folders)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_replicated_and_sharded_complex_networks_have_the_sum_of_one_process(ranks, kind):
    ended = ranks(2, call=("complex_step", kind))
    assert ended.codes == [0, 0], ended.logs


def test_the_estimate_counts_complex_parameters_twice(write_cohort):
    study = complex_study(write_cohort(), noise_multiplier=1.0)
    model = ComplexClassifier(2, 1, 2, (16, 16), width=4)
    expected = sum(p.numel() * (1 + p.is_complex()) for p in model.parameters())
    assert estimate(study, open_cohort(study.cohort.uri), b"key").parameters == expected
