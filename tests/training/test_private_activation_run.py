"""A run with private activations: charged before its one release, which no interruption repeats."""

import sys

import pytest
import safetensors.torch
import torch

from reticent.accounting import Composition, LocalGaussian, LocalRandomisedResponse, mechanism_from_dict
from reticent.data import open_cohort
from reticent.errors import InputError
from reticent.governance import Ledger
from reticent.models import build_model
from reticent.records import RunFolder, make_study
from reticent.training import (
    Predictor,
    PrivateFeatures,
    PrivateRun,
    Ranks,
    check_study,
    clipped_grad,
    make_plan,
    resume_training,
    train,
)
from reticent.training import feature_release as module

FILE = "features.safetensors"


def silent(stage, done, total):
    pass


@pytest.fixture
def public(tmp_path):
    """Public weights of the default network, for images of 16 x 16."""
    torch.manual_seed(7)
    network = build_model(
        "default", spatial_dims=2, in_channels=1, out_channels=2, image_size=(16, 16), arguments={"width": 8}
    )
    safetensors.torch.save_file(network.state_dict(), tmp_path / "public.safetensors")
    return network, {"init_from": str(tmp_path / "public.safetensors"), "init_origin": "CC0 radiographs"}


def study_of(manifest, weights, *, training=None, cohort=None, **privacy):
    private = {"steps": 6, "sampling_rate": 0.5, "private_activations": True, "feature_dimension": 8, **privacy}
    if not {"epsilon", "mu", "noise_multiplier"} & set(private):
        private["mu"] = 0.8
    return make_study(
        {
            "cohort": {"uri": str(manifest), **(cohort or {})},
            "privacy": private,
            "model": {"arguments": {"width": 8}, **weights},
            "training": training or {},
        }
    )


def run(study, out, progress=silent):
    cohort = open_cohort(study.cohort.uri, unit=study.cohort.unit)
    return train(study, cohort, out, ledger=None, plan=make_plan(study, len(cohort.classes)), progress=progress)


def entries(path):
    with Ledger.open(path) as site:
        return site.entries()


def interrupted(study, out, stage, after):
    def stop(now, done, total):
        if now == stage and done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, out, stop)
    return RunFolder.open(out, finished=False)


def resume(folder, study):
    return resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)


def test_the_run_states_charges_and_releases_what_it_did(write_cohort, public, tmp_path, site_ledger):
    network, weights = public
    folder = run(study_of(write_cohort(), weights), tmp_path / "run")
    statement = folder.statement()
    mechanism = mechanism_from_dict(statement.mechanism)
    assert isinstance(mechanism, LocalGaussian)
    assert mechanism.noise_multiplier == statement.noise_multiplier == pytest.approx(2 / 0.8, rel=2e-4)
    assert statement.mu.upper <= 0.8
    assert (statement.neighbouring_relation, statement.sampling, statement.unit) == ("replace-one", "none", "subject")
    assert (statement.sampling_rate, statement.steps, statement.releasable) == (None, 1, True)
    assert statement.not_covered[0] == "labels: not covered, they are used as public"
    assert any("public under replace-one" in gap for gap in statement.not_covered)
    assert not any("--batch-size" in gap for gap in statement.not_covered)
    words = " ".join(statement.words())
    assert "The image features of every patient in the training data are protected" in words
    assert "replaced by another with the same labels (replace-one)" in words
    assert "Labels: not covered, they are used as public." in words
    reserve, settle = entries(site_ledger)
    assert (reserve.event, settle.event) == ("reserve", "settle")
    assert reserve.mechanism == settle.mechanism == statement.mechanism
    released = safetensors.torch.load_file(folder.weights)
    assert released["head.weight"].shape == (2, 8)
    assert released["head.weight"].abs().sum() > 0
    for name, value in network.state_dict().items():
        if not name.startswith("head.2"):
            assert torch.equal(released[f"features.encoder.{name}"], value)


def test_its_model_is_an_ordinary_network_that_predicts_without_noise(write_cohort, public, tmp_path):
    study = study_of(write_cohort(), public[1])
    folder = run(study, tmp_path / "run")
    record = open_cohort(study.cohort.uri).load(0)
    first, second = (Predictor(folder).probabilities(record.inputs) for _ in range(2))
    assert first == second
    assert sum(first.values()) == pytest.approx(1)
    assert [split.split for split in folder.metrics().splits] == ["val", "test"]


def test_randomised_labels_are_composed_charged_and_called_covered(write_cohort, public, tmp_path, site_ledger):
    study = study_of(write_cohort(), public[1], epsilon=4.0, delta=1e-3, label_epsilon=1.0)
    statement = run(study, tmp_path / "run").statement()
    mechanism = mechanism_from_dict(statement.mechanism)
    assert isinstance(mechanism, Composition)
    features, labels = mechanism.mechanisms
    assert labels == LocalRandomisedResponse(1.0, 2)
    assert 3.99 < statement.epsilon.upper <= 4.0
    assert features.noise_multiplier > make_plan(study_of("x", public[1], epsilon=4.0, delta=1e-3)).noise_multiplier
    assert not any("labels" in gap for gap in statement.not_covered)
    words = " ".join(statement.words())
    assert "The image features and the label of every patient in the training data are protected" in words
    assert "not covered" not in words
    assert entries(site_ledger)[0].mechanism == statement.mechanism


def test_epsilon_does_not_change_with_the_steps_that_are_trained_on_the_features(public):
    few, many = (make_plan(study_of("x", public[1], steps=steps, noise_multiplier=3.0)) for steps in (10, 10_000))
    assert few.mechanism == many.mechanism == LocalGaussian(3.0)


def test_an_interrupted_run_goes_on_with_the_features_that_it_released(
    write_cohort, public, tmp_path, site_ledger, monkeypatch
):
    study = study_of(write_cohort(), public[1])
    folder = interrupted(study, tmp_path / "run", "Training", 3)
    stored = (folder.private / FILE).read_bytes()
    monkeypatch.setattr(module, "privatise_features", lambda *_, **__: pytest.fail("released twice"))
    finished = resume(folder, study)
    assert (finished.private / FILE).read_bytes() == stored
    assert [entry.event for entry in entries(site_ledger)] == ["reserve", "resume", "settle"]
    assert finished.statement().mechanism == LocalGaussian(make_plan(study).noise_multiplier).to_dict()


def test_what_a_killed_process_had_drawn_before_it_was_kept_is_never_used(
    write_cohort, public, tmp_path, site_ledger, monkeypatch
):
    study = study_of(write_cohort(), public[1])
    folder = interrupted(study, tmp_path / "run", "Releasing features", 1)
    assert not (folder.private / FILE).exists()
    (folder.private / f".{FILE}.partial").write_bytes(b"half of another release")
    releases = []
    privatise = module.privatise_features
    monkeypatch.setattr(
        module, "privatise_features", lambda *a, **k: releases.append(privatise(*a, **k)) or releases[-1]
    )
    finished = resume(folder, study)
    (release,) = releases
    assert torch.equal(PrivateFeatures.load(finished.private / FILE).values, release.values)
    assert not (finished.private / f".{FILE}.partial").exists()
    assert sum(entry.event == "reserve" for entry in entries(site_ledger)) == 1


def test_features_that_steps_were_made_with_are_not_released_again_if_they_are_lost(write_cohort, public, tmp_path):
    study = study_of(write_cohort(), public[1])
    folder = interrupted(study, tmp_path / "run", "Training", 3)
    (folder.private / FILE).unlink()
    with pytest.raises(InputError, match="to release them once more was not charged"):
        resume(folder, study)


def test_features_are_not_released_again_before_the_first_step_either(write_cohort, public, tmp_path, monkeypatch):
    study = study_of(write_cohort(), public[1])

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PrivateRun, "steps", stop)
        with pytest.raises(KeyboardInterrupt):
            run(study, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run", finished=False)
    kept = (folder.private / FILE).read_bytes()
    assert not folder.journal.read_text()
    (folder.private / FILE).unlink()
    with pytest.raises(InputError, match="to release them once more was not charged"):
        resume(folder, study)
    stored = PrivateFeatures.load(copy_of(kept, tmp_path))
    PrivateFeatures(stored.values + 1, stored.labels, stored.noise_multiplier).save(folder.private / FILE)
    with pytest.raises(InputError, match="not the features that the run was charged for"):
        resume(folder, study)
    (folder.private / FILE).write_bytes(kept)
    assert resume(folder, study).state().status == "finished"


def copy_of(kept, folder):
    (folder / "kept").write_bytes(kept)
    return folder / "kept"


def test_features_of_another_noise_than_was_charged_are_not_trained_on(write_cohort, public, tmp_path):
    study = study_of(write_cohort(), public[1])
    folder = interrupted(study, tmp_path / "run", "Training", 3)
    stored = PrivateFeatures.load(folder.private / FILE)
    PrivateFeatures(stored.values, stored.labels, 0.01).save(folder.private / FILE)
    with pytest.raises(InputError, match="not the features that the run was charged for"):
        resume(folder, study)


def test_the_order_of_a_manifest_does_not_give_features_to_other_patients(write_cohort, public, tmp_path):
    study = study_of(write_cohort(), public[1], seed=3)
    folder = interrupted(study, tmp_path / "run", "Training", 3)
    manifest = tmp_path / "clinic" / "manifest.csv"
    header, *rows = manifest.read_text().splitlines()
    stored = PrivateFeatures.load(folder.private / FILE).labels[:, 0]
    manifest.write_text("\n".join([header, *reversed(rows)]) + "\n")
    cohort = open_cohort(study.cohort.uri)
    with PrivateRun.resume(folder, cohort) as job:
        model = check_study(study, cohort)
        release = module.release_features(job, model, silent)
        by_subject = job.data.subjects("train")
        for name, own in by_subject.items():
            (label,) = release.batch(own)["targets"]["label"].tolist()
            assert label == cohort.entries[own[0]].label, name
    assert len(stored) == len(by_subject)


def test_single_records_are_one_vector_each(write_cohort, public, tmp_path):
    study = study_of(write_cohort(), public[1], cohort={"unit": "record"})
    folder = run(study, tmp_path / "run")
    assert PrivateFeatures.load(folder.private / FILE).values.shape == (48, 1, 8)
    assert folder.statement().unit == "record"


def test_a_loop_of_one_s_own_cannot_noise_gradients_under_the_charge_of_features(write_cohort, public, tmp_path):
    study = study_of(write_cohort(), public[1])
    with PrivateRun.start(study, open_cohort(study.cohort.uri), tmp_path / "run") as job:
        step = next(job.steps())
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
        gradients = clipped_grad(model, job.task.loss_fn(), step.batch, max_norm=0.1, units=step.units)
        with pytest.raises(InputError, match="releases features with noise, not gradients"):
            step.privatise(model, gradients)


def test_a_twin_trains_the_same_head_without_noise(write_cohort, public, tmp_path):
    folder = run(study_of(write_cohort(), public[1], training={"twin": True}), tmp_path / "run")
    assert [split.split for split in folder.metrics().twin] == ["val", "test"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"augment": "light"}}, "one more release"),
        ({"training": {"bias_aware": 0.1}}, "--bias-aware"),
        ({"training": {"class_weights": "counted"}}, "--class-weights counted"),
        ({"noise": "banded", "bands": 2}, "leave out --non-private and --noise banded"),
        ({"private_activations": False}, "go with --private-activations"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_reason(public, changes, words):
    with pytest.raises(InputError, match=words):
        study_of("x", public[1], **changes)


def test_an_encoder_without_public_weights_is_refused():
    with pytest.raises(InputError, match="needs --init-from"):
        study_of("x", {})


def test_labels_that_spend_the_whole_target_are_refused(public):
    study = study_of("x", public[1], epsilon=1.0, delta=1e-5, label_epsilon=1.1)
    with pytest.raises(InputError, match="--label-epsilon alone spends the whole target, epsilon 1 at delta 1e-05"):
        make_plan(study, 2)
    with pytest.raises(InputError, match="number of classes"):
        make_plan(study)


def test_several_labels_are_not_randomised(write_cohort, public, tmp_path, site_ledger):
    manifest = write_cohort()
    text = manifest.read_text().replace("label,sex", "pneumonia,effusion").replace(",f,", ",0,").replace(",m,", ",1,")
    manifest.write_text(text)
    study = study_of(manifest, public[1], label_epsilon=0.1, cohort={"labels": ["pneumonia", "effusion"]})
    cohort = open_cohort(study.cohort.uri, labels=study.cohort.labels)
    with pytest.raises(InputError, match="--label-epsilon randomises one class"):
        train(study, cohort, tmp_path / "run", ledger=None, plan=make_plan(study, 2), progress=silent)
    assert not site_ledger.exists()


def test_several_processes_are_refused_before_anything_is_charged(write_cohort, public, monkeypatch, site_ledger):
    study = study_of(write_cohort(), public[1])
    monkeypatch.setattr(sys.modules["reticent.training.train"], "join_ranks", lambda: Ranks(0, 2))
    with pytest.raises(InputError, match="leave out torchrun"):
        check_study(study, open_cohort(study.cohort.uri))
    assert not site_ledger.exists()


def test_a_study_without_the_option_has_the_digest_that_ledgers_hold():
    study = make_study({"cohort": {"uri": "x"}, "privacy": {"mu": 1.0}})
    assert study.digest() == "ed56721748bfb61428dc3b173bb84c3987d5657a3f5904584f0db957d2bb276c"
