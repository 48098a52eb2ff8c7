"""A run with banded noise from its cohort to its release: one plan for sampler, noise, mechanism and statement."""

import json

import numpy as np
import pytest
import torch
from dp_accounting import dp_event
from dp_accounting.pld import pld_privacy_accountant

from reticent.accounting import BandedGaussian, Composition, Gaussian, SubsampledGaussian, mechanism_from_dict
from reticent.data import open_cohort
from reticent.errors import InputError
from reticent.governance import Ledger
from reticent.records import RunFolder, make_study
from reticent.report import cite, render_report
from reticent.training import ClippedGrad, PrivateRun, estimate, make_plan, resume_training, train


def silent(stage, done, total):
    pass


def study_of(manifest, *, training=None, **privacy):
    private = {"steps": 7, "sampling_rate": 0.4, "noise": "banded", "bands": 3, **privacy}
    if "epsilon" not in private:
        private.setdefault("noise_multiplier", 1.5)
    values = {"cohort": {"uri": str(manifest)}, "model": {"arguments": {"width": 8}}, "training": training or {}}
    return make_study({**values, "privacy": private})


def run(study, out, progress=silent):
    return train(study, open_cohort(study.cohort.uri), out, ledger=None, plan=make_plan(study), progress=progress)


def interrupted(study, out, after):
    def stop(stage, done, total):
        if (stage, done) == ("Training", after):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, out, stop)
    return RunFolder.open(out, finished=False)


def test_the_statement_and_the_ledger_say_what_ran_and_dp_accounting_recomputes_its_epsilon(
    write_cohort, tmp_path, site_ledger
):
    folder = run(study_of(write_cohort(), epsilon=4.0, delta=1e-3), tmp_path / "run")
    stated = json.loads((folder.release / "privacy.json").read_text())
    mechanism = BandedGaussian(stated["noise_multiplier"], bands=3, sampling_rate=0.4, steps=7)
    assert stated["mechanism"] == mechanism.to_dict()
    assert (stated["sampling"], stated["sampling_rate"], stated["steps"]) == ("cyclic-poisson", 0.4, 7)
    assert stated["neighbouring_relation"] == "add-or-remove-one"
    assert stated["releasable"] is True
    accountant = pld_privacy_accountant.PLDAccountant()
    turn = dp_event.PoissonSampledDpEvent(0.4, dp_event.GaussianDpEvent(stated["noise_multiplier"]))
    accountant.compose(dp_event.SelfComposedDpEvent(turn, 3))  # at most 3 of 7 steps are one group's turn
    recomputed = accountant.get_epsilon(1e-3)
    assert recomputed * (1 - 1e-3) <= stated["epsilon"]["upper"] <= min(4.0, 1.01 * recomputed)
    assert json.loads((folder.release / "study.json").read_text())["privacy"]["bands"] == 3
    with Ledger.open(site_ledger) as site:
        assert [entry.mechanism for entry in site.entries()] == [mechanism.to_dict()] * 2
        assert site.spent("patient 1") == Composition((mechanism,))


def test_banded_noise_needs_less_of_it_for_the_same_target_than_the_same_rate_at_every_step():
    banded, ordinary = (
        make_plan(study_of("x", epsilon=2.0, delta=1e-5, steps=100, **options))
        for options in ({}, {"noise": "independent", "bands": None})
    )
    assert isinstance(ordinary.mechanism, SubsampledGaussian)
    assert banded.noise_multiplier < ordinary.noise_multiplier


def test_counted_classes_compose_with_banded_training(write_cohort, tmp_path):
    folder = run(study_of(write_cohort(), training={"class_weights": "counted"}), tmp_path / "run")
    stated = folder.statement()
    assert mechanism_from_dict(stated.mechanism) == Composition((Gaussian(10.0), BandedGaussian(1.5, 3, 0.4, 7)))
    assert stated.sampling == "cyclic-poisson"


def test_one_band_is_dp_sgd_in_every_bit_of_the_weights_and_in_its_mechanism(write_cohort, tmp_path):
    manifest = write_cohort()
    one = run(study_of(manifest, bands=1, seed=3), tmp_path / "one")
    other = run(study_of(manifest, noise="independent", bands=None, seed=3), tmp_path / "other")
    assert one.weights.read_bytes() == other.weights.read_bytes()
    assert mechanism_from_dict(one.statement().mechanism) == SubsampledGaussian(1.5, 0.4, 7)
    assert one.statement().sampling == "poisson"


def test_a_seeded_run_repeats_its_groups_and_weights_and_others_have_groups_of_their_own(write_cohort, tmp_path):
    manifest = write_cohort()
    seeded = [run(study_of(manifest, seed=3), tmp_path / name).weights.read_bytes() for name in ("a", "b")]
    assert seeded[0] == seeded[1]
    cohort, samplers = open_cohort(str(manifest)), []
    for name in ("c", "d"):
        with PrivateRun.start(study_of(manifest), cohort, tmp_path / name) as job:
            samplers.append(job.sampler)
    assert samplers[0] != samplers[1]  # 24 patients in the same of 3 groups: a chance of 3e-12


def test_an_interrupted_run_resumes_with_every_patient_once_in_three_steps(write_cohort, tmp_path, site_ledger):
    study = study_of(write_cohort(), sampling_rate=1.0)
    folder = interrupted(study, tmp_path / "run", after=4)
    cohort, batches = open_cohort(study.cohort.uri), {}
    with PrivateRun.resume(folder, cohort) as job:
        groups = [{r for own in group.records_of for r in own} for group in job.sampler.groups]
        batches |= {step.index: set(step.records) for _, step in zip(range(1), job.steps(), strict=False)}
    with PrivateRun.resume(folder, cohort) as job:
        batches |= {step.index: set(step.records) for step in job.steps()}
    assert batches == {step: groups[step % 3] for step in (4, 5, 6)}
    finished = resume_training(folder, cohort, ledger=None, progress=silent)
    assert finished.statement().mechanism == BandedGaussian(1.5, 3, 1.0, 7).to_dict()
    with Ledger.open(site_ledger) as site:
        assert [e.event for e in site.entries()] == ["reserve", "resume", "resume", "resume", "settle"]


def test_earlier_noise_is_never_on_the_disk(write_cohort, tmp_path):
    study = study_of(write_cohort())
    with PrivateRun.start(study, open_cohort(study.cohort.uri), tmp_path / "run") as job:
        model, steps, noises = torch.nn.Linear(4, 4), job.steps(), []
        total = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in model.named_parameters()}
        for _ in range(3):
            nobody = torch.zeros(0)
            next(steps).privatise(model, ClippedGrad(total, norms=nobody, losses=nobody, n_units=0, bound=1.0))
            noises.append((model.weight.grad * job.batch_size).flatten().double().numpy())
            job.save(model=model, optimiser=torch.optim.SGD(model.parameters(), 0.1))
        assert set(torch.load(job.folder.checkpoint)) == {"model", "optimiser", "steps started"}
        kept = [block.earlier for block in job.noise._blocks.values()]
        assert [len(earlier) for earlier in kept] == [2, 2]  # bands - 1, in memory
        secrets = [noise.numpy().tobytes()[:64] for earlier in kept for noise in earlier]
        secrets += [noise.astype(np.float32).tobytes()[:32] for noise in noises]
        files = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not any(secret in content for secret in secrets for content in files)


@pytest.mark.parametrize(("old", "new"), [("bands = 3", "bands = 2"), ('noise = "banded"\nbands = 3\n', "")])
def test_a_study_whose_noise_was_changed_is_not_resumed(write_cohort, tmp_path, old, new):
    study = study_of(write_cohort())
    folder = interrupted(study, tmp_path / "run", after=2)
    text = (folder.path / "study.toml").read_text()
    assert old in text
    (folder.path / "study.toml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match="was changed since the job was charged"):
        resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent)


def test_a_run_begun_before_there_was_a_choice_of_noise_is_resumed(write_cohort, tmp_path):
    study = study_of(write_cohort(), noise="independent", bands=None)
    folder = interrupted(study, tmp_path / "run", after=2)
    path = folder.path / "study.toml"
    old = path.read_text().replace('noise = "independent"\n', "")
    assert "noise =" not in old
    path.write_text(old)
    assert resume_training(folder, open_cohort(study.cohort.uri), ledger=None, progress=silent).statement().releasable


def test_the_twin_trains_on_batches_of_the_same_turns(write_cohort, tmp_path, monkeypatch):
    drawn, original = [], PrivateRun.__init__

    def watched(self, *args):
        original(self, *args)
        draw = self.sampler.draw
        object.__setattr__(self.sampler, "draw", lambda step, source: drawn.append(step) or draw(step, source))

    monkeypatch.setattr(PrivateRun, "__init__", watched)
    run(study_of(write_cohort(), training={"twin": True}), tmp_path / "run")
    assert drawn == [*range(7), *range(7)]


def test_the_expected_cost_is_that_of_one_group_a_step_with_the_earlier_noises(write_cohort):
    manifest = write_cohort()
    cohort = open_cohort(str(manifest))
    banded = estimate(study_of(manifest), cohort, b"key")
    ordinary = estimate(study_of(manifest, noise="independent", bands=None), cohort, b"key")
    assert banded.records_per_step == pytest.approx(ordinary.records_per_step / 3)
    one_group = estimate(study_of(manifest, noise="independent", bands=None, sampling_rate=0.4 / 3), cohort, b"key")
    assert banded.memory - one_group.memory == 2 * 8 * banded.parameters


def test_the_report_and_the_citations_name_the_method(write_cohort, tmp_path):
    manifest = write_cohort()
    banded = run(study_of(manifest), tmp_path / "banded")
    page = render_report(banded)
    assert "patients take turns in groups" in page
    assert "Correlated over 3 steps" in page
    for key in ("choquette2023amplified", "mckenna2024scaling", "koskela2020computing"):
        assert f"{{{key}," in cite(banded)
    ordinary = run(study_of(manifest, noise="independent", bands=None), tmp_path / "ordinary")
    assert "choquette2023amplified" not in cite(ordinary)
    assert "Correlated over" not in render_report(ordinary)
