"""Ridge regression from second moments that are released once."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from reticent.accounting import Gaussian, mechanism_from_dict
from reticent.data import open_cohort
from reticent.errors import InputError
from reticent.governance import Ledger
from reticent.models import LinearModel
from reticent.records import RunFolder, make_study
from reticent.training import (
    Predictor,
    PrivateRun,
    Regression,
    clipped_grad,
    make_plan,
    open_study_cohort,
    resume_training,
    train,
)
from reticent.training.ridge import SecondMoments, fit_exactly, keep_moments, moments_loss, solve_ridge

TASK = Regression(classes=("a", "b"), ranges=((-4.0, 4.0), (-4.0, 4.0)))


def batch_of(n=80, d=6, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(0.5, [1, 2, 0.1, 1, 1, 3][:d], (n, d))
    y = np.clip(x @ random.normal(0, 0.3, (d, 2)) + random.normal(0, 0.3, (n, 2)), -4, 4)
    tensor = {"inputs": {"profile": torch.tensor(x[:, None], dtype=torch.float32)},
              "targets": {"label": torch.tensor(y, dtype=torch.float32)}, "share": torch.ones(n)}  # fmt: skip
    return x, y, tensor


def test_without_noise_it_is_the_ridge_of_standardised_inputs():
    x, y, batch = batch_of()
    model = LinearModel(1, 2, (6,), penalty=10.0)
    fit_exactly(model, TASK, batch, 80)
    expected = Ridge(10.0).fit(StandardScaler().fit_transform(x), y)
    found = TASK.physical(model(batch["inputs"]["profile"])).detach()
    torch.testing.assert_close(
        found.double(), torch.tensor(expected.predict(StandardScaler().fit_transform(x))), atol=2e-4, rtol=1e-4
    )


def test_units_of_the_inputs_do_not_matter():
    _, _, batch = batch_of()
    other = {**batch, "inputs": {"profile": batch["inputs"]["profile"] * torch.tensor([1, 10, 1, 0.1, 1, 1.0])}}
    predictions = []
    for each in (batch, other):
        model = LinearModel(1, 2, (6,))
        fit_exactly(model, TASK, each, 80)
        predictions.append(model(each["inputs"]["profile"]))
    torch.testing.assert_close(*predictions, atol=1e-3, rtol=1e-3)


def test_inputs_that_never_vary_and_more_inputs_than_patients_are_no_trouble():
    _, _, batch = batch_of(n=4)
    batch["inputs"]["profile"][:, :, 2] = 1.0
    model = LinearModel(1, 2, (6,))
    fit_exactly(model, TASK, batch, 4)
    assert model.linear.weight.isfinite().all()
    assert model.linear.weight[:, 2].abs().max() < 0.02


def test_the_clipped_sum_of_the_loss_s_gradients_is_the_bounded_sum_of_moments():
    """By the fast path of the engine, and by hand, subject by subject: several records of one are one contribution."""
    x, y, batch = batch_of(n=30)
    units = torch.arange(30) // 2
    batch["share"] = torch.full((30,), 0.5)
    moments = SecondMoments(6, 2)
    found = clipped_grad(moments, moments_loss(TASK), batch, max_norm=0.7, units=units)
    z = np.concatenate([np.full((30, 1), 0.2), x * 2 / np.sqrt(6)], 1)
    gram, cross, norms = np.zeros((7, 7)), np.zeros((7, 2)), []
    for unit in range(15):
        own = slice(2 * unit, 2 * unit + 2)
        parts = z[own].T @ z[own] / 2, z[own].T @ (y[own] / 4) / 2
        norms.append(np.sqrt(sum((part**2).sum() for part in parts)))
        factor = min(1, 0.7 / norms[-1])
        gram, cross = gram + factor * parts[0], cross + factor * parts[1]
    assert max(norms) > 0.7
    np.testing.assert_allclose(found.sum["gram.weight"].numpy(), gram, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(found.sum["cross.weight"].numpy().T, cross, rtol=2e-4, atol=1e-5)


def test_the_loss_is_linear_so_that_its_gradient_is_the_same_everywhere():
    _, _, batch = batch_of()
    gradients = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        moments = SecondMoments(6, 2)
        moments_loss(TASK)(moments, batch).sum().backward()
        gradients.append(moments.gram.weight.grad.clone())
        keep_moments(moments)
        torch.testing.assert_close(moments.gram.weight.detach(), gradients[-1])
    torch.testing.assert_close(*gradients)


def test_clipping_keeps_the_line_of_those_that_lie_on_it():
    """Moments of a subject are scaled alike: on exact data every weighting gives the same line."""
    random = np.random.default_rng(2)
    x = random.normal(0, 1, (200, 3))
    y = x @ [[0.5], [-0.2], [0.1]] + 0.3
    batch = {"inputs": {"profile": torch.tensor(x, dtype=torch.float32)[:, None]},
             "targets": {"label": torch.tensor(y, dtype=torch.float32)}, "share": torch.ones(200)}  # fmt: skip
    task, moments = Regression(classes=("y",), ranges=((-4.0, 4.0),)), SecondMoments(3, 1)
    found = clipped_grad(moments, moments_loss(task), batch, max_norm=0.05, clipping="automatic")
    solved = solve_ridge(found.sum["gram.weight"].double(), found.sum["cross.weight"].double().T, 1e-9, 0.0)
    np.testing.assert_allclose(4 * solved.weight.numpy(), [[0.5, -0.2, 0.1]], atol=2e-3)
    assert 4 * float(solved.bias) == pytest.approx(0.3, abs=2e-3)


def test_noise_larger_than_the_data_gives_weights_near_nothing_and_never_large_ones():
    generator = torch.Generator().manual_seed(0)
    _, _, batch = batch_of()
    moments = SecondMoments(6, 2)
    moments_loss(TASK)(moments, batch).mean().backward()
    gram, cross = moments.gram.weight.grad.double(), moments.cross.weight.grad.double().T
    for noise in (1e-3, 1e-1, 10.0, 1e3):
        for _ in range(50):
            noisy = gram + noise * torch.randn(7, 7, generator=generator, dtype=torch.float64)
            found = solve_ridge(noisy, cross + noise * torch.randn(7, 2, generator=generator), 0.1, noise)
            assert found.weight.abs().max() < 5
            assert found.bias.abs().max() < 5


@pytest.fixture
def pictures(make_grey, tmp_path):
    """A manifest of 80 grey images with their brightness."""
    return make_grey(tmp_path / "grey", 80)


@pytest.fixture
def make_grey():
    from PIL import Image

    def make(folder, count):
        (folder / "images").mkdir(parents=True)
        random, rows = np.random.default_rng(0), ["file,patient,brightness,split"]
        for i in range(count):
            value = random.uniform(40, 210)
            pixels = np.clip(value + random.normal(0, 10, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
            rows.append(f"{i}.png,p{i},{value:.3f},{'test' if i % 4 == 0 else 'train'}")
        (folder / "grey.csv").write_text("\n".join(rows) + "\n")
        return folder / "grey.csv"

    return make


def study_of(manifest, **privacy):
    return make_study(
        {
            "cohort": {"uri": str(manifest), "targets": {"brightness": (0.0, 255.0)}, "image_size": [4]},
            "privacy": privacy or {"mu": 1.0},
            "model": {"name": "ridge"},
        }
    )


def silent(stage, done, total):
    pass


def test_a_private_ridge_is_one_gaussian_release_in_statement_and_ledger(pictures, tmp_path):
    study = study_of(pictures)
    cohort = open_study_cohort(study.cohort)
    folder = train(
        study, cohort, tmp_path / "run", ledger=tmp_path / "l.sqlite", plan=make_plan(study), progress=silent
    )
    statement = folder.statement()
    mechanism = mechanism_from_dict(statement.mechanism)
    assert (statement.steps, statement.sampling_rate, statement.releasable) == (1, 1.0, True)
    assert mechanism.profile().epsilon(1e-5).upper == pytest.approx(
        Gaussian(1.0).profile().epsilon(1e-5).upper, rel=1e-3
    )
    assert statement.noise_multiplier == pytest.approx(1.0, rel=1e-3)
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        assert [entry.event for entry in ledger.entries()] == ["reserve", "settle"]
    metrics = folder.metrics().splits[0].metrics
    assert metrics["brightness r2"].value > 0.5
    assert Predictor(folder).numbers(cohort.load(0).inputs)["brightness"] == pytest.approx(
        cohort.entries[0].label[0], abs=100
    )


def test_the_noise_of_the_release_has_its_size(pictures, tmp_path, monkeypatch):
    """Standard deviation of the 17 x 17 and 17 entries over 2 releases (612 values): within 15 % but for 1e-7."""
    study, seen = study_of(pictures, noise_multiplier=2.0), []
    monkeypatch.setattr(
        "reticent.training.ridge.keep_moments",
        lambda moments: (seen.append([p.grad.clone() for p in moments.parameters()]), keep_moments(moments)),
    )
    cohort = open_study_cohort(study.cohort)
    for k in range(2):
        train(study, cohort, tmp_path / f"{k}", ledger=tmp_path / "l.sqlite", plan=make_plan(study), progress=silent)
    difference = torch.cat([(a - b).flatten() for a, b in zip(*seen, strict=True)]) * 60  # expected subjects
    assert float(difference.std()) == pytest.approx(2.0 * 2**0.5, rel=0.15)


def test_an_interruption_behind_the_step_goes_on_with_what_was_released(pictures, tmp_path, monkeypatch):
    study = study_of(pictures)
    cohort = open_study_cohort(study.cohort)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("reticent.training.ridge.fill_in", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(study, cohort, tmp_path / "run", ledger=tmp_path / "l.sqlite", plan=make_plan(study), progress=silent)
    folder = resume_training(RunFolder(tmp_path / "run"), cohort, ledger=None, progress=silent)
    assert folder.statement().steps == 1


def test_a_step_that_was_spent_without_its_moments_is_not_made_again(pictures, tmp_path, monkeypatch):
    study = study_of(pictures)
    cohort = open_study_cohort(study.cohort)
    with monkeypatch.context() as patch:
        patch.setattr(PrivateRun, "save", lambda self, **parts: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(study, cohort, tmp_path / "run", ledger=tmp_path / "l.sqlite", plan=make_plan(study), progress=silent)
    with pytest.raises(InputError, match="the one step was spent, and what it gave was lost; start a new run"):
        resume_training(RunFolder(tmp_path / "run"), cohort, ledger=None, progress=silent)


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("privacy", {"steps": 3, "mu": 1.0}, "--steps or --sampling-rate"),
        ("training", {"learning_rate": 0.1}, "--optimiser or --learning-rate"),
        ("training", {"augment": "light"}, "--augment light"),
        ("training", {"loss": "shrinkage"}, "--loss shrinkage"),
        ("training", {"bias_aware": 0.1}, "--bias-aware"),
    ],
)
def test_options_of_gradient_descent_are_refused(section, values, said):
    options = {"cohort": {"uri": "x"}, "privacy": {"mu": 1.0}, "model": {"name": "ridge"}} | {section: values}
    with pytest.raises(InputError, match=f"solved in one step.*leave out {said}"):
        make_study(options)


def test_classes_are_no_numbers(pictures, tmp_path):
    text = pictures.read_text().replace("brightness", "label").splitlines()
    rows = [text[0], *(f"{a},{b},{i % 2},{d}" for i, (a, b, _, d) in enumerate(row.split(",") for row in text[1:]))]
    pictures.write_text("\n".join(rows))
    study = make_study({"cohort": {"uri": str(pictures)}, "privacy": {"mu": 1.0}, "model": {"name": "ridge"}})
    with pytest.raises(InputError, match="--model ridge predicts numbers"):
        train(
            study,
            open_cohort(str(pictures)),
            tmp_path / "run",
            ledger=tmp_path / "l.sqlite",
            plan=make_plan(study),
            progress=silent,
        )
