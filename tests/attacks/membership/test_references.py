"""Reference models: what they cost, that they are kept by their signals alone, and that they go on."""

import importlib

import numpy as np
import pytest

from reticent.accounting import Unbounded, mechanism_from_dict
from reticent.attacks import ATTACKS, AttackOptions, LoadedRun
from reticent.attacks.membership.references import reference_models
from reticent.errors import InputError
from reticent.training import PrivateRun

references = importlib.import_module("reticent.attacks.membership.references")


def everybody(run):
    return [i for i, split in enumerate(run.data.splits) if split in ("train", "val", "test")]


def made(run):
    return sorted(path.stem for path in (run.folder.private / "audits" / "references").glob("seed-*/*.npz"))


def test_halves_complement_each_other_patient_by_patient_and_are_charged_once_as_unbounded(audited, entries):
    before = len(entries())
    found = reference_models(audited, everybody(audited), 4, AttackOptions(seed=3))
    subjects = np.array([str(entry.subject) for entry in audited.data.cohort.entries])
    assert found.signals.phi.shape == found.inside.shape == (4, len(subjects))
    assert np.isfinite(found.signals.phi).all()
    for k in (0, 2):
        assert (found.inside[k] == ~found.inside[k + 1]).all()
    for row in found.inside:
        in_it, not_in_it = set(subjects[row]), set(subjects[~row])
        assert not in_it & not_in_it
        assert len(in_it) == 15
    reserved, settled = entries()[before:]
    assert (reserved.event, settled.event, reserved.scope) == ("reserve", "settle", "30 subjects")
    assert isinstance(mechanism_from_dict(settled.mechanism), Unbounded)
    assert reserved.run == f"{audited.state.run}-references-3"
    again = reference_models(audited, everybody(audited), 4, AttackOptions(seed=3))
    np.testing.assert_array_equal(again.signals.phi, found.signals.phi)
    assert len(entries()) == before + 2


def test_models_are_not_kept_and_nothing_can_be_released(audited):
    reference_models(audited, everybody(audited), 2, AttackOptions(seed=3))
    work = audited.folder.private / "audits" / "references"
    assert not list(work.rglob("*.safetensors"))
    assert not list(work.rglob("privacy.json"))
    assert made(audited) == ["000", "001"]


def test_an_interrupted_audit_goes_on_and_repeats_from_its_seed(make_run, monkeypatch):
    folder = make_run(seed=1)
    with LoadedRun(folder) as run:
        whole = reference_models(run, everybody(run), 2, AttackOptions(seed=8))
    with LoadedRun(make_run("other", seed=1)) as run:
        save, saves = PrivateRun.save, []

        def interrupted(self, **objects):
            save(self, **objects)
            saves.append(self.folder.path.name)
            if len(saves) == 6:  # within the second model
                raise KeyboardInterrupt

        monkeypatch.setattr(PrivateRun, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reference_models(run, everybody(run), 4, AttackOptions(seed=8))
        assert made(run) == ["000"]
        assert saves[-1] == "001"
        monkeypatch.setattr(PrivateRun, "save", save)
        started = []
        monkeypatch.setattr(references, "train", lambda *a, **k: started.append(a[2].name) or train(*a, **k))
        found = reference_models(run, everybody(run), 4, AttackOptions())  # the seed is remembered
    assert started == ["002", "003"]
    assert found.seed == 8
    np.testing.assert_array_equal(found.inside[:2], whole.inside)
    np.testing.assert_array_equal(found.signals.phi[0], whole.signals.phi[0])


train = references.train


def test_patients_under_a_budget_are_not_trained_on_without_privacy(make_run):
    with LoadedRun(make_run(budget="mu=5")) as run:
        with pytest.raises(InputError, match="budget mu=5"):
            reference_models(run, everybody(run), 2, AttackOptions())
        assert made(run) == []


def test_a_changed_cohort_is_recognised_and_one_that_is_gone_is_named(make_run, tmp_path):
    folder = make_run()
    manifest = tmp_path / "run-cohort" / "manifest.csv"
    text = manifest.read_text()
    manifest.write_text("\n".join(line for line in text.splitlines() if "patient 7," not in line) + "\n")
    with LoadedRun(folder) as run, pytest.raises(InputError, match="not the cohort that the run was trained on"):
        everybody(run)
    manifest.unlink()
    with LoadedRun(folder) as run, pytest.raises(InputError, match="cannot be opened, which this attack needs"):
        everybody(run)


def test_over_fitted_patients_are_found_by_comparison_with_references(make_run, write_cohort):
    """The label shows in no image here: whatever is learnt of a patient is learnt by heart."""
    training = {"optimiser": "adam", "learning_rate": 0.003, "augment": "none", "ema_decay": 0.0}
    cohort = write_cohort(name="noise", patients=80, shade=False)
    folder = make_run(cohort=cohort, non_private=True, steps=100, sampling_rate=1.0, training=training)
    with LoadedRun(folder) as run:
        attack = ATTACKS["lira"]
        area, *_ = attack.findings(run, attack.options(seed=2, references=4))
    assert area.metric == "AUC"
    assert area.value > 0.8
    assert area.guarantee is None
    assert area.p_value is None
    assert not area.exceeds
    assert any("not told apart by chance" in gap for gap in area.left_out)  # the manifest gives the splits


@pytest.mark.parametrize("name", ["lira", "rmia", "calibrated-loss"])
def test_attacks_share_their_references(audited, name, entries):
    attack = ATTACKS[name]
    for mode in ("online", "offline"):
        options = attack.options(seed=4, references=2, mode=mode)
        (found,) = attack.findings(audited, options)
        assert (found.attack, found.seed, found.settings["references"]) == (name, 4, 2)
    assert made(audited) == ["000", "001"]
    assert sum("references" in entry.run for entry in entries()) == 2
