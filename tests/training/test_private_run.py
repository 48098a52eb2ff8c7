"""A private run from its cohort to its release: what is stated, what is charged, and what is refused."""

import hashlib
import json
import math
import shutil
import stat
import warnings
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from dp_accounting import dp_event
from dp_accounting.pld import pld_privacy_accountant

from reticent.accounting import Composition, Gaussian, SubsampledGaussian, Unbounded, mechanism_from_dict
from reticent.data import open_cohort
from reticent.errors import InputError
from reticent.governance import Ledger
from reticent.models import build_model
from reticent.records import Metrics, RunFolder, make_study, read_json, read_study
from reticent.training import PrivateRun, clipped_grad, make_plan, resume_training, train


def silent(stage, done, total):
    pass


def study_of(manifest, *, cohort=None, model=None, training=None, **privacy):
    private = {"steps": 6, "sampling_rate": 0.25, **privacy}
    if not {"epsilon", "mu", "advantage", "non_private"} & set(private):
        private.setdefault("noise_multiplier", 1.5)
    return make_study(
        {
            "cohort": {"uri": str(manifest), **(cohort or {})},
            "privacy": private,
            "model": {"arguments": {"width": 8}, **(model or {})},
            "training": training or {},
        }
    )


def run(study, out):
    return train(study, open_cohort(study.cohort.uri), out, ledger=None, plan=make_plan(study), progress=silent)


def start(study, out):
    return PrivateRun.start(study, open_cohort(study.cohort.uri), out)


def ledger_entries(path):
    with Ledger.open(path) as site:
        return site.entries()


def charged(path):
    return [entry.event for entry in ledger_entries(path) if entry.event != "resume"]


def same_guarantee(one, other):
    own = {"run", "created", "weights_sha256"}
    return one.statement().model_dump(exclude=own) == other.statement().model_dump(exclude=own)


def no_metrics(study):
    return Metrics(task="binary", splits=())


def test_a_run_leaves_a_complete_statement_and_the_epsilon_that_dp_accounting_recomputes(
    write_cohort, tmp_path, site_ledger
):
    study = study_of(write_cohort(), epsilon=4.0, delta=1e-3)
    folder = run(study, tmp_path / "run")
    stated = json.loads((folder.release / "privacy.json").read_text())
    assert stated["schema"] == "reticent.privacy/1"
    assert stated["releasable"] is True
    assert (stated["unit"], stated["neighbouring_relation"], stated["sampling"]) == (
        "subject", "add-or-remove-one", "poisson",
    )  # fmt: skip
    assert (stated["sampling_rate"], stated["steps"], stated["max_norm"], stated["delta"]) == (0.25, 6, 1.0, 1e-3)
    assert {"epsilon", "mu", "advantage"} <= stated.keys()
    assert all(stated[name]["kind"] for name in ("epsilon", "mu", "advantage"))
    assert any("held-out" in gap for gap in stated["not_covered"])
    for gap in ("hyper-parameter search", "floating-point"):
        assert any(gap in words for words in stated["not_covered"])
    assert "os.urandom" in stated["random_source"]
    assert {"reticent", "torch", "python"} <= stated["software"].keys()
    accountant = pld_privacy_accountant.PLDAccountant()
    step = dp_event.PoissonSampledDpEvent(stated["sampling_rate"], dp_event.GaussianDpEvent(stated["noise_multiplier"]))
    accountant.compose(dp_event.SelfComposedDpEvent(step, stated["steps"]))
    recomputed = accountant.get_epsilon(stated["delta"])
    # Both are upper bounds; dp_accounting's own discretisation adds up to about 1e-4 relative.
    assert recomputed * (1 - 1e-3) <= stated["epsilon"]["upper"] <= 1.01 * recomputed
    assert stated["epsilon"]["upper"] <= 4.0
    reserve, settle = ledger_entries(site_ledger)
    assert (reserve.event, settle.event) == ("reserve", "settle")
    assert reserve.mechanism == settle.mechanism == stated["mechanism"]
    assert reserve.scope == "24 subjects"
    with Ledger.open(site_ledger) as site:
        site.verify(folder.state().anchors)
        assert site.spent("patient 1") == Composition((mechanism_from_dict(stated["mechanism"]),))
        assert site.spent("patient 5") is None  # in the test split


def test_what_may_leave_names_no_patient_and_the_rest_is_private(write_cohort, tmp_path):
    folder = run(study_of(write_cohort()), tmp_path / "run")
    assert stat.S_IMODE(folder.private.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.release.iterdir()) == [
        "model.safetensors", "privacy.json", "study.json",
    ]  # fmt: skip
    for path in folder.release.iterdir():
        assert b"patient 1" not in path.read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()
    lines = (folder.private / "subjects.csv").read_text().splitlines()
    assert len(lines) == 1 + 30
    assert not any("patient" in line for line in lines[1:])
    assert {line.split(",")[1] for line in lines[1:]} == {"train", "val", "test"}
    assert not folder.checkpoint.exists()
    assert not (folder.private / "cache").exists()
    assert folder.state().status == "finished"
    assert [split.split for split in folder.metrics().splits] == ["val", "test"]


def test_no_random_state_is_stored(write_cohort, tmp_path):
    with start(study_of(write_cohort()), tmp_path / "run") as job:
        model = torch.nn.Linear(1, 1)
        next(job.steps())
        job.save(model=model)
        assert set(torch.load(job.folder.checkpoint)) == {"model", "steps started"}
    assert (tmp_path / "run" / "private" / "journal.jsonl").read_text() == '{"step": 0}\n'


def test_a_seeded_run_repeats_its_weights_and_is_not_releasable(write_cohort, tmp_path):
    study = study_of(write_cohort(), seed=3)
    first, second = run(study, tmp_path / "first"), run(study, tmp_path / "second")
    assert first.weights.read_bytes() == second.weights.read_bytes()
    assert not first.statement().releasable
    assert "seed" in first.statement().random_source
    assert "NOT releasable" in " ".join(first.statement().words())


def test_two_ordinary_runs_differ(write_cohort, tmp_path):
    study = study_of(write_cohort())
    first, second = run(study, tmp_path / "first"), run(study, tmp_path / "second")
    assert first.weights.read_bytes() != second.weights.read_bytes()


def test_a_non_private_run_is_charged_as_unbounded_and_not_releasable(write_cohort, tmp_path, site_ledger):
    folder = run(study_of(write_cohort(), non_private=True), tmp_path / "run")
    statement = folder.statement()
    assert not statement.releasable
    assert statement.epsilon.kind == "unbounded"
    assert "WITHOUT" in statement.words()[0]
    settled = mechanism_from_dict(ledger_entries(site_ledger)[-1].mechanism)
    assert isinstance(settled, Unbounded)


def test_a_twin_is_charged_as_unbounded_and_its_metrics_stand_beside_the_model_s(write_cohort, tmp_path, site_ledger):
    folder = run(study_of(write_cohort(), training={"twin": True}), tmp_path / "run")
    assert [split.split for split in folder.metrics().twin] == ["val", "test"]
    assert folder.statement().releasable
    twin = [entry for entry in ledger_entries(site_ledger) if entry.run.endswith("-twin")]
    assert [entry.event for entry in twin] == ["reserve", "settle"]
    assert isinstance(mechanism_from_dict(twin[0].mechanism), Unbounded)


def test_counted_class_weights_are_charged(write_cohort, tmp_path, site_ledger):
    folder = run(study_of(write_cohort(), epsilon=4, delta=1e-3, training={"class_weights": "counted"}), tmp_path / "r")
    mechanism = mechanism_from_dict(folder.statement().mechanism)
    assert isinstance(mechanism, Composition)
    counts, steps = mechanism.mechanisms
    assert (counts, steps.steps) == (Gaussian(10.0), 6)
    assert mechanism.profile().epsilon(1e-3).upper <= 4
    assert ledger_entries(site_ledger)[-1].mechanism == mechanism.to_dict()
    weights = folder.state().class_weights
    assert sum(weights) == pytest.approx(2)


def test_declared_class_weights_are_used_and_cost_nothing(write_cohort, tmp_path):
    study = study_of(write_cohort(), training={"class_weights": [1.0, 1.5]})
    folder = run(study, tmp_path / "run")
    assert folder.state().class_weights == (1.0, 1.5)
    assert isinstance(mechanism_from_dict(folder.statement().mechanism), SubsampledGaussian)
    with start(study_of(study.cohort.uri), tmp_path / "other") as job:
        model = build_model("default", spatial_dims=2, in_channels=1, out_channels=2, image_size=(16, 16))
        batch = job.data.batch([0, 3, 4])
        plain, weighted = (job.task.loss_fn(w)(model, batch) for w in (None, (1.0, 1.5)))
        expected = plain * torch.tensor([1.0, 1.5])[batch["targets"]["label"]]
        torch.testing.assert_close(weighted, expected)


def test_a_loop_of_one_s_own_with_two_optimisers_gives_the_same_statement_and_charge_as_the_command(
    write_cohort, tmp_path, site_ledger
):
    study = study_of(write_cohort(), epsilon=4, delta=1e-3)
    command = run(study, tmp_path / "command")
    with start(study, tmp_path / "loop") as job:
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        optimisers = [torch.optim.Adam(model[1].parameters(), 0.01), torch.optim.SGD(model[3].parameters(), 0.1)]
        loss_fn = job.task.loss_fn()
        for step in job.steps():
            gradients = clipped_grad(model, loss_fn, step.batch, max_norm=job.max_norm, units=step.units)
            step.privatise(model, gradients)
            for optimiser in optimisers:
                optimiser.step()
        job.finish(model.state_dict(), no_metrics(study))
    loop = RunFolder.open(tmp_path / "loop")
    assert same_guarantee(loop, command)
    assert loop.statement().weights_sha256 == hashlib.sha256(loop.weights.read_bytes()).hexdigest()
    assert loop.statement().run == loop.state().run
    entries = ledger_entries(site_ledger)
    assert [entry.event for entry in entries] == ["reserve", "settle"] * 2
    assert [entry.mechanism for entry in entries[:2]] == [entry.mechanism for entry in entries[2:]]
    assert entries[0].fingerprint == entries[2].fingerprint


def test_a_step_is_noised_by_the_noise_multiplier_and_divided_by_the_expected_batch_size(write_cohort, tmp_path):
    study = study_of(write_cohort(), noise_multiplier=2.0, max_norm=0.5, batch_size=7.0, seed=1, sampling_rate=0.5)
    with start(study, tmp_path / "run") as job:
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2000))
        step = next(job.steps())

        def loss_fn(model, batch):
            return model(batch["inputs"]["image"]).square().mean(1) * batch["share"]

        gradients = clipped_grad(model, loss_fn, step.batch, max_norm=job.max_norm, units=step.units)
        step.privatise(model, gradients)
        noise = torch.cat([(p.grad * 7.0 - gradients.sum[n]).flatten() for n, p in model.named_parameters()])
    # 514 000 values: a relative error of the deviation beyond 0.0054 has probability < 1e-7
    assert noise.std().item() == pytest.approx(2.0 * 0.5, rel=0.0054)


def test_an_empty_batch_is_a_step_of_pure_noise(write_cohort, tmp_path):
    folder = run(study_of(write_cohort(), sampling_rate=1e-9), tmp_path / "run")
    weights = safetensors.torch.load_file(folder.weights)
    assert all(value.isfinite().all() for value in weights.values())
    assert len(folder.journal.read_text().splitlines()) == 6


def small_step(job):
    step = next(job.steps())
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
    return step, model


def test_a_step_is_released_once_and_at_no_larger_norm_than_accounted_for(write_cohort, tmp_path):
    with start(study_of(write_cohort()), tmp_path / "run") as job:
        step, model = small_step(job)
        loss_fn = job.task.loss_fn()
        loose = clipped_grad(model, loss_fn, step.batch, max_norm=1.1, units=step.units)
        with pytest.raises(InputError, match=r"clipped to 1\.1, but the study accounts for 1"):
            step.privatise(model, loose)
        gradients = clipped_grad(model, loss_fn, step.batch, max_norm=1.0, units=step.units)
        step.privatise(model, gradients)
        with pytest.raises(RuntimeError, match="privatised before"):
            step.privatise(model, gradients)


def test_units_of_single_records_are_refused_where_the_subject_is_protected(write_cohort, tmp_path):
    with start(study_of(write_cohort(), sampling_rate=1.0), tmp_path / "run") as job:
        step, model = small_step(job)
        by_record = clipped_grad(model, job.task.loss_fn(), step.batch, max_norm=1.0)
        with pytest.raises(InputError, match=r"units=step\.units"):
            step.privatise(model, by_record)


def test_a_run_with_steps_left_or_broken_weights_is_not_finished(write_cohort, tmp_path):
    study = study_of(write_cohort(), steps=2)
    with start(study, tmp_path / "run") as job:
        steps = job.steps()
        next(steps)
        with pytest.raises(InputError, match="1 planned steps are left"):
            job.finish({"weight": torch.zeros(1)}, no_metrics(study))
        next(steps)
        with pytest.raises(InputError, match="weight is not finite"):
            job.finish({"weight": torch.tensor([math.nan])}, no_metrics(study))
        assert not job.folder.release.exists()


def test_a_delta_that_one_patient_in_full_would_satisfy_warns_and_continues(write_cohort, tmp_path):
    with pytest.warns(UserWarning, match=r"delta = 0.05 is not below 1 / training subjects"):
        folder = run(study_of(write_cohort(), epsilon=4, delta=0.05), tmp_path / "run")
    assert folder.state().status == "finished"
    assert "delta that is too large" in folder.statement().not_covered[0]


def test_what_is_assumed_of_who_the_patients_are_is_warned_of_and_stated(write_cohort, tmp_path):
    study = study_of(write_cohort())
    cohort = replace(open_cohort(study.cohort.uri), subjects_assumed="each case is taken for another patient")
    with pytest.warns(UserWarning, match="each case is taken for another patient"):
        folder = train(study, cohort, tmp_path / "run", ledger=None, plan=make_plan(study), progress=silent)
    assert any("each case is taken for another patient" in gap for gap in folder.statement().not_covered)


def test_a_class_that_no_training_record_has_is_warned_of(write_cohort, tmp_path):
    manifest = write_cohort()
    manifest.write_text(manifest.read_text().replace("0-0.png,patient 0,0,f,val", "0-0.png,patient 0,7,f,val"))
    with pytest.warns(UserWarning, match="no training record has the class '7'"):
        run(study_of(manifest), tmp_path / "run")


def test_weights_of_a_run_that_is_not_releasable_are_not_public(write_cohort, tmp_path, site_ledger):
    manifest = write_cohort()
    open_run = run(study_of(manifest, non_private=True), tmp_path / "open")
    study = study_of(manifest, model={"init_from": str(open_run.weights), "init_origin": "somewhere"})
    with pytest.raises(InputError, match="these weights are not releasable"):
        run(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_copied_and_subset_cohorts_are_charged_to_the_same_patients(write_cohort, tmp_path, site_ledger):
    paths = [write_cohort("original"), write_cohort("copy"), write_cohort("subset", patients=10)]
    mechanisms = [make_plan(study_of(path)).mechanism for path in paths]
    for number, path in enumerate(paths):
        with start(study_of(path), tmp_path / f"run {number}"):
            pass
    with Ledger.open(site_ledger) as site:
        assert site.spent("patient 1") == Composition(tuple(mechanisms))
        assert site.spent("patient 29") == Composition(tuple(mechanisms[:2]))


def test_the_stored_study_repeats_the_run(write_cohort, tmp_path):
    study = study_of(write_cohort(), epsilon=4, delta=1e-3, seed=2, training={"class_weights": [1, 2.5]})
    folder = run(study, tmp_path / "run")
    again = make_study(read_study(folder.path / "study.toml"))
    assert again == study
    assert run(again, tmp_path / "again").weights.read_bytes() == folder.weights.read_bytes()


def interrupted(study, out, after=3):
    """A run stopped by Ctrl-C after some steps."""

    def stop(stage, done, total):
        if (stage, done) == ("Training", after):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(study, open_cohort(study.cohort.uri), out, ledger=None, plan=make_plan(study), progress=stop)
    return RunFolder.open(out, finished=False)


def test_an_interrupted_run_resumes_and_spends_what_was_planned(write_cohort, tmp_path, site_ledger):
    study = study_of(write_cohort())
    folder = interrupted(study, tmp_path / "run")
    assert [entry.event for entry in ledger_entries(site_ledger)] == ["reserve"]
    finished = resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)
    assert [json.loads(line)["step"] for line in finished.journal.read_text().splitlines()] == list(range(6))
    assert finished.statement().steps == 6
    assert [entry.event for entry in ledger_entries(site_ledger)] == ["reserve", "resume", "settle"]
    with pytest.raises(InputError, match="the run is finished"):
        resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)


def test_a_resumed_run_refuses_another_cohort_and_a_ledger_that_does_not_hold_it(write_cohort, tmp_path):
    study = study_of(write_cohort())
    folder = interrupted(study, tmp_path / "run")
    other = open_cohort(str(write_cohort("other", patients=20)))
    with pytest.raises(InputError, match="not the cohort that the run started with"):
        resume_training(folder, other, ledger=None, progress=silent)
    with pytest.raises(InputError):
        resume_training(folder, open_cohort(study.cohort.uri), ledger=tmp_path / "new.sqlite", progress=silent)
    assert len(folder.journal.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [("sampling_rate = 0.25", "sampling_rate = 0.01"), ("steps = 6", "steps = 60"), ("seed = 4", "")],
)
def test_a_study_that_was_changed_after_it_was_charged_is_not_resumed(write_cohort, tmp_path, old, new):
    study = study_of(write_cohort(), seed=4)
    folder = interrupted(study, tmp_path / "run")
    text = (folder.path / "study.toml").read_text()
    assert old in text
    (folder.path / "study.toml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match="was changed since the job was charged"):
        resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)


def test_a_run_whose_journal_was_lost_does_not_make_its_steps_again(write_cohort, tmp_path):
    study = study_of(write_cohort())
    folder = interrupted(study, tmp_path / "run")
    folder.journal.write_text("".join(folder.journal.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="holds 2 steps, but the checkpoint is of 3"):
        resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)
    assert not folder.release.exists()


def test_less_noise_than_was_charged_is_not_resumed(write_cohort, tmp_path):
    study = study_of(write_cohort(), epsilon=4, delta=1e-3)
    folder = interrupted(study, tmp_path / "run")
    folder.write_state(folder.state().model_copy(update={"noise_multiplier": 0.1}))
    with pytest.raises(InputError, match="was changed since the job was charged"):
        resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)


def test_first_weights_that_were_exchanged_are_not_resumed(write_cohort, tmp_path):
    model = build_model(
        "default", spatial_dims=2, in_channels=1, out_channels=2, image_size=(16, 16), arguments={"width": 8}
    )
    path = tmp_path / "public.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    study = study_of(write_cohort(), model={"init_from": str(path), "init_origin": "CC0 radiographs"})
    folder = interrupted(study, tmp_path / "run")
    safetensors.torch.save_file({n: 2 * v for n, v in model.state_dict().items()}, path)
    with pytest.raises(InputError, match="not the first weights"):
        resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)


def test_subjects_that_were_moved_into_training_are_not_trained_on(write_cohort, tmp_path):
    study = study_of(write_cohort())
    folder = interrupted(study, tmp_path / "run")
    manifest = tmp_path / "clinic" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",test\n", ",train\n"))
    with pytest.raises(InputError, match="not the cohort that the run started with"):
        resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)


@pytest.mark.parametrize("copied", ["before", "while"])
def test_of_two_copies_of_a_run_folder_one_goes_on(write_cohort, tmp_path, site_ledger, copied):
    study = study_of(write_cohort())
    folder, cohort = interrupted(study, tmp_path / "run"), open_cohort(study.cohort.uri)

    def copy(*_):
        if not (tmp_path / "copy").exists():
            shutil.copytree(folder.path, tmp_path / "copy")

    if copied == "before":
        copy()
    resume_training(folder, cohort, ledger=None, progress=copy)
    other = RunFolder.open(tmp_path / "copy", finished=False)
    with pytest.raises(InputError, match="another copy of this run folder went on"):
        resume_training(other, cohort, ledger=None, progress=silent)
    assert not other.release.exists()
    assert charged(site_ledger) == ["reserve", "settle"]


@pytest.mark.parametrize("new", [False, True])
def test_a_model_that_writes_patients_into_its_buffers_is_refused_while_it_trains(write_cohort, tmp_path, new):
    with start(study_of(write_cohort()), tmp_path / "run") as job:
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
        model.register_buffer("seen", torch.zeros(()))
        with pytest.raises(InputError, match=r"'seen( too)?' was written while training"):  # noqa: PT012
            for step in job.steps():
                gradients = clipped_grad(model, job.task.loss_fn(), step.batch, max_norm=1.0, units=step.units)
                step.privatise(model, gradients)
                model.seen += 1 - new
                if new:
                    model.register_buffer("seen too", torch.ones(()))


def test_a_twin_on_patients_under_a_budget_is_refused_before_anything_is_charged(write_cohort, tmp_path, site_ledger):
    manifest = write_cohort()
    run(study_of(manifest, sampling_rate=1.0, steps=1, noise_multiplier=1.0, budget="mu=5"), tmp_path / "first")
    with pytest.raises(InputError, match="budget mu=5"):
        run(study_of(manifest, training={"twin": True}), tmp_path / "second")
    assert not (tmp_path / "second").exists()
    with Ledger.open(site_ledger) as site:
        assert site.spent("patient 1") == Composition((SubsampledGaussian(1.0, 1.0, 1),))


def test_a_network_that_does_not_fit_the_task_is_refused_before_anything_is_charged(
    write_cohort, tmp_path, site_ledger
):
    manifest = write_cohort()
    for model, message in (
        ({"name": "torch.nn:Flatten", "arguments": {}}, "outputs of shape"),
        ({"name": "monai:DenseNet", "arguments": {"norm": "batch"}}, "BatchNorm"),
        ({"name": "torch.nn:Bilinear", "arguments": {"in1_features": 1, "in2_features": 1, "out_features": 1}}, "take"),
    ):
        with pytest.raises(InputError, match=message):
            run(study_of(manifest, model=model), tmp_path / "run")
    assert not site_ledger.exists()


def test_class_weights_that_do_not_fit_the_cohort_are_refused_before_anything_is_charged(
    write_cohort, tmp_path, site_ledger
):
    manifest = write_cohort()
    several = write_cohort("several")
    rows = several.read_text().splitlines()
    lines = [rows[0] + ",other", *(f"{row},{k % 2}" for k, row in enumerate(rows[1:]))]
    several.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="3 numbers for 2 classes"):
        start(study_of(manifest, training={"class_weights": [1.0, 1.0, 1.0]}), tmp_path / "run")
    study = study_of(several, cohort={"labels": ["label", "other"]}, training={"class_weights": "counted"})
    cohort = open_cohort(str(several), labels=["label", "other"])
    with pytest.raises(InputError, match="task is multi-label"):
        PrivateRun.start(study, cohort, tmp_path / "run")
    assert ledger_entries(site_ledger) == []
    assert not (tmp_path / "run").exists()


def test_tied_weights_are_published(write_cohort, tmp_path):
    with start(study_of(write_cohort(), steps=1), tmp_path / "run") as job:
        next(job.steps())
        shared = torch.nn.Parameter(torch.ones(3))
        job.finish({"a": shared, "b": shared}, no_metrics(job.plan.study))
    weights = safetensors.torch.load_file(RunFolder.open(tmp_path / "run").weights)
    assert torch.equal(weights["a"], weights["b"])


def test_a_run_is_trained_by_one_process_at_a_time(write_cohort, tmp_path):
    study = study_of(write_cohort())
    with start(study, tmp_path / "run") as job, pytest.raises(InputError, match="trained by another process"):
        PrivateRun.resume(job.folder, open_cohort(study.cohort.uri))


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


@pytest.mark.parametrize(
    ("where", "method"),
    [
        (RunFolder, "write_metrics"),
        (RunFolder, "publish"),
        (Ledger, "settle"),
        (RunFolder, "write_state"),
    ],
)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_killed_while_it_finishes_can_be_resumed(
    write_cohort, tmp_path, site_ledger, monkeypatch, where, method, moment
):
    study = study_of(write_cohort())
    folder = interrupted(study, tmp_path / "run", after=5)
    cohort, original = open_cohort(study.cohort.uri), getattr(where, method)

    def killed(*args, **kwargs):
        if moment == "after":
            original(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(where, method, killed)
        with pytest.raises(Killed):
            resume_training(folder, cohort, ledger=None, progress=silent)
    published = folder.weights.read_bytes() if folder.weights.exists() else None
    if folder.state().status == "running":
        resume_training(folder, cohort, ledger=None, progress=silent)
    assert folder.state().status == "finished"
    assert published in (None, folder.weights.read_bytes())
    assert charged(site_ledger) == ["reserve", "settle"]
    assert folder.statement().steps == len(folder.journal.read_text().splitlines()) == 6


def test_public_first_weights_are_loaded_with_hash_and_origin_on_record(write_cohort, tmp_path):
    model = build_model(
        "default", spatial_dims=2, in_channels=1, out_channels=5, image_size=(16, 16), arguments={"width": 8}
    )
    path = tmp_path / "public.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    study = study_of(
        write_cohort(), model={"init_from": str(path), "init_origin": "CC0 radiographs"}, noise_multiplier=0.5,
        sampling_rate=1e-9, training={"learning_rate": 1e-12},
    )  # fmt: skip
    folder = run(study, tmp_path / "run")
    expected = {
        "file": "public.safetensors",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "origin": "CC0 radiographs",
    }
    assert folder.statement().public_weights == expected
    assert any("first weights" in gap for gap in folder.statement().not_covered)
    found = safetensors.torch.load_file(folder.weights)
    torch.testing.assert_close(found["stem.0.0.weight"], model.state_dict()["stem.0.0.weight"], rtol=0, atol=1e-6)
    assert found["head.2.weight"].shape[0] == 2  # a head of another shape is not taken over
    assert str(tmp_path) not in json.dumps(read_json(folder.release / "study.json"))


def test_a_job_that_fails_before_its_first_step_leaves_no_folder_and_no_charge(write_cohort, tmp_path, site_ledger):
    manifest = write_cohort()
    (manifest.parent / "images" / "1-0.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"1-0\.png"):
        run(study_of(manifest), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with Ledger.open(site_ledger) as site:
        assert site.spent("patient 1") is None


def test_a_job_beyond_the_budget_is_refused_before_anything_is_written(write_cohort, tmp_path, site_ledger):
    study = study_of(write_cohort(), sampling_rate=1.0, steps=1, noise_multiplier=1.0, budget="mu=1.2")
    run(study, tmp_path / "first")
    before = len(ledger_entries(site_ledger))
    with pytest.raises(InputError, match="budget"):
        run(study, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    assert len(ledger_entries(site_ledger)) == before


def test_the_mechanism_does_not_depend_on_the_cohort(write_cohort):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plans = [make_plan(study_of(path, epsilon=2, delta=1e-4)) for path in ("a.csv", "b.csv")]
    assert plans[0].mechanism == plans[1].mechanism
