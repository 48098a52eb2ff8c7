"""`reticent audit` as its user sees it: findings, report, going on, failing loudly, wrong input."""

import json
import stat
from pathlib import Path

import pytest

from reticent.attacks import UnfinishedAudit
from reticent.attacks.auditing import canary_game
from reticent.attacks.reconstruction.priors import diffusion_training
from reticent.governance import Ledger
from reticent.records import RunFolder, read_findings
from reticent.training import PrivateRun, private_step
from reticent.training.banded_noise import BandedNoise

PHANTOM = ["phantom:chest?subjects=60", "--noise-multiplier", "1", "--delta", "1e-3"]
ENOUGH = ["--set", "step.canaries=100", "--set", "one-run.canaries=100"]


@pytest.fixture
def trained(reticent, small):
    """A run on generated patients, by the command."""

    def train(*options, out="run"):
        ended = reticent("train", *(options or PHANTOM), *small, "--out", out)
        assert ended.code == 0, ended.err
        return Path(out).resolve()

    return train


def ledger_events(site_ledger):
    with Ledger.open(site_ledger) as site:
        return [(entry.event, entry.run.partition("-audit")[0]) for entry in site.entries()]


def test_the_default_audit_leaves_findings_a_report_and_an_entry_in_the_ledger_and_charges_nobody(
    reticent, trained, site_ledger
):
    run = trained()
    ended = reticent("audit", run, "--seed", "5", *ENOUGH)
    assert ended.code == 0, ended.err
    findings = read_findings(RunFolder(run))
    assert [path.name for path in sorted((run / "findings").iterdir())] == [
        f"{k:03d}-{f.attack}.json" for k, f in enumerate(findings, 1)
    ]
    assert {f.attack for f in findings} == {"step", "one-run", "loss", "identification", "visual"}
    assert stat.S_IMODE((run / "findings" / "001-step.json").stat().st_mode) == 0o600
    assert not any(f.exceeds for f in findings)
    assert "Not part of this audit: planted-images, lira" in ended.out
    for finding in findings:
        assert " ".join(finding.reading.split()) in ended.out
    page = (run / "report.html").read_text()
    assert "What attacks recovered" in page
    assert "Membership of a patient, by “one-run”" in page
    assert "canaries in the released model: no" in page
    assert [event for event, _ in ledger_events(site_ledger)] == ["reserve", "settle", "audit"]
    # Nothing of the audit lies in the release, and what it worked with is gone.
    assert sorted(path.name for path in (run / "release").iterdir()) == [
        "model.safetensors", "privacy.json", "study.json",
    ]  # fmt: skip
    assert not list((run / "private" / "audits").rglob("*.npz"))
    assert not (run / "private" / "audits" / "cache").exists()


def test_a_second_audit_adds_to_the_first_and_repeats_from_its_seed(reticent, trained):
    run = trained()
    for _ in range(2):
        assert reticent("audit", run, "--seed", "5", "--attack", "one-run", *ENOUGH[2:]).code == 0
    findings = read_findings(RunFolder(run))
    half = len(findings) // 2
    assert [f.value for f in findings[:half]] == [f.value for f in findings[half:]]
    assert all(f.seed == 5 for f in findings)


def test_an_attack_that_achieves_more_than_is_guaranteed_ends_with_1_and_says_so(reticent, trained, monkeypatch):
    run = trained()
    draw = BandedNoise.draw
    monkeypatch.setattr(BandedNoise, "draw", lambda self, step, name, like: draw(self, step, name, like) / 20)
    ended = reticent("audit", run, "--seed", "5", *ENOUGH)
    assert ended.code == 1
    assert "step: mu contradicts what is guaranteed" in ended.err
    assert "do not release the model" in ended.err
    assert any(f.exceeds for f in read_findings(RunFolder(run)))
    assert "More than is guaranteed." in (run / "report.html").read_text()


def test_planted_images_are_charged_to_the_patients_by_the_run_s_mechanism_and_leave_no_model(
    reticent, trained, site_ledger
):
    run = trained()
    ended = reticent("audit", run, "--attack", "planted-images", "--set", "planted-images.canaries=20", "--seed", "4")
    assert ended.code == 0, ended.err
    epsilon, mu = read_findings(RunFolder(run))
    assert (epsilon.metric, mu.metric) == ("epsilon", "mu")
    assert epsilon.guarantee == RunFolder(run).statement().epsilon
    assert epsilon.settings["canaries in the released model"] is False
    assert not list((run / "private" / "audits").rglob("model.safetensors"))
    with Ledger.open(site_ledger) as site:
        first, _, second, settled, audit = site.entries()
    assert second.mechanism == settled.mechanism == first.mechanism == RunFolder(run).statement().mechanism
    assert (second.scope, audit.event) == (first.scope, "audit")


def test_interrupted_planted_images_go_on_and_are_charged_once(reticent, trained, monkeypatch, site_ledger):
    run = trained()
    command = ["audit", run, "--attack", "planted-images", "--set", "planted-images.canaries=20"]
    steps, taken = PrivateRun.steps, []

    def interrupted(self):
        for step in steps(self):
            taken.append(step.index)
            yield step
            if len(taken) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(PrivateRun, "steps", interrupted)
    assert reticent(*command).code == 130
    assert reticent(*command).code == 0
    assert taken == [0, 1, 2, 3]
    with Ledger.open(site_ledger) as site:
        assert sum(entry.event == "reserve" for entry in site.entries()) == 2  # the run, and the second training


def test_references_are_trained_side_by_side(reticent, trained):
    run = trained()
    ended = reticent("audit", run, "--attack", "lira", "--set", "lira.references=2", "--jobs", "2", "--seed", "1")
    assert ended.code == 0, ended.err
    (area,) = read_findings(RunFolder(run))
    assert (area.metric, area.settings["references"], area.seed) == ("AUC", 2, 1)
    assert area.guarantee.kind == "upper bound"  # the splits were drawn


def test_an_interrupted_game_goes_on_where_it_was(reticent, trained, monkeypatch):
    run = trained()
    command = ["audit", run, "--attack", "one-run", *ENOUGH[2:]]
    taken = []

    def counted(study, step, *arguments):
        if len(taken) == 2:
            taken.append("interrupted")
            raise KeyboardInterrupt
        taken.append(step.index)
        return private_step(study, step, *arguments)

    monkeypatch.setattr(canary_game, "private_step", counted)
    ended = reticent(*command)
    assert ended.code == 130
    assert "the same command goes on" in ended.out
    assert reticent(*command).code == 0
    assert taken == [0, 1, "interrupted", 3]  # the third step was spent when it was interrupted
    noise = next(f for f in read_findings(RunFolder(run)) if f.metric == "size of the noise")
    assert not noise.exceeds


def test_an_interrupted_audit_goes_on_with_its_seed_repeats_nothing_and_forgets_no_alarm(
    reticent, trained, monkeypatch
):
    run = trained()
    command = ["audit", run, "--attack", "step", "--attack", "visual", *ENOUGH[:2]]
    settings = "prior=diffusion", "iterations=3", "patients=4", "public=phantom:chest?subjects=50"
    command += [word for setting in settings for word in ("--set", f"visual.{setting}")]
    monkeypatch.setattr(diffusion_training, "_KEPT_EVERY", 2)
    draw = BandedNoise.draw
    monkeypatch.setattr(BandedNoise, "draw", lambda self, step, name, like: draw(self, step, name, like) / 20)
    steps, step = [], diffusion_training.DiffusionTraining._step

    def interrupted(self, *arguments):
        steps.append(self.done)
        if len(steps) == 3:
            raise KeyboardInterrupt
        step(self, *arguments)

    monkeypatch.setattr(diffusion_training.DiffusionTraining, "_step", interrupted)
    assert reticent(*command).code == 130
    before = read_findings(RunFolder(run))
    assert {f.attack for f in before} == {"step"}
    ended = reticent(*command, "--jobs", "2")
    assert ended.code == 1
    assert "step: mu contradicts what is guaranteed" in ended.err  # as was found before the interruption
    assert steps == [0, 1, 2, 2]
    assert "step: was done before the interruption" in ended.out
    findings = read_findings(RunFolder(run))
    assert findings[: len(before)] == before
    assert {f.attack for f in findings[len(before) :]} == {"visual"}
    assert len({f.seed for f in findings}) == 1
    assert not list((run / "private" / "audits").glob("unfinished*"))
    new = UnfinishedAudit.begin(RunFolder(run), {})
    assert new.done == {}
    assert new.seed != findings[0].seed


def test_a_run_without_privacy_is_attacked_as_far_as_that_makes_sense(reticent, small, trained):
    run = trained(PHANTOM[0], "--non-private")
    ended = reticent("audit", run)
    assert ended.code == 0, ended.err
    assert "one-run: left out, the run was trained without noise" in ended.out
    assert {f.attack for f in read_findings(RunFolder(run))} == {"loss", "identification", "visual"}
    ended = reticent("audit", run, "--attack", "one-run")
    assert ended.code == 2
    assert "makes no sense here: the run was trained without noise" in ended.err


def test_audits_of_masks_and_of_single_records(reticent, trained, write_volumes, write_npz):
    for arguments in ((write_volumes(), "--noise-multiplier", "1", "--image-size", "8"),
                      (write_npz(), "--noise-multiplier", "1", "--unit", "record")):  # fmt: skip
        run = trained(*arguments, out=Path(arguments[0]).stem)
        ended = reticent("audit", run, "--seed", "1", "--set", "step.canaries=20", "--set", "one-run.canaries=20")
        assert ended.code == 0, ended.err
        assert {f.attack for f in read_findings(RunFolder(run))} == {
            "step",
            "one-run",
            "loss",
            "identification",
            "visual",
        }


def test_the_list_names_every_attack_with_its_cost(reticent):
    ended = reticent("audit", "--list")
    assert ended.code == 0
    for words in ("step (default)", "lira", "as many trainings as references", "references=8", "charged"):
        assert words in ended.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name a run folder, or a file with --script"),
        (["RUN", "--script", "own.py"], "name a run folder, or a file with --script"),
        (["RUN", "--attack", "nosuch"], "no attack 'nosuch'; there are step, one-run"),
        (["RUN", "--set", "lira.references=4"], "the audit has no attack 'lira', but step, one-run, loss"),
        (["RUN", "--set", "canaries=4"], "write it as ATTACK.OPTION=VALUE"),
        (["RUN", "--set", "step.canaries"], "write it as ATTACK.OPTION=VALUE"),
        (
            ["RUN", "--attack", "lira", "--set", "lira.references=3"],
            "--set lira.references: Input should be a multiple",
        ),
        (["RUN", "--attack", "lira", "--set", "lira.nosuch=3"], "--set lira.nosuch"),
        (["RUN", "--confidence", "1.5"], "--confidence"),
        (["RUN", "--seed", "-1"], "--seed"),
        (
            ["RUN", "--set", "one-run.canaries=100000"],
            "one-run.canaries: Input should be less than or equal",
        ),
        (["nowhere"], "not a run folder"),
        (["--script", "nowhere.py"], "cannot be read"),
        (["--script", "nowhere.py", "--attack", "step"], "leave out --attack and --set"),
    ],
)
def test_wrong_input_ends_with_2_and_the_reason(reticent, trained, options, message):
    run = trained() if "RUN" in options else None
    ended = reticent("audit", *(run if option == "RUN" else option for option in options))
    assert ended.code == 2
    assert message in " ".join(ended.err.split())


def test_an_audit_whose_patients_are_gone_says_so_and_one_without_patients_works(reticent, write_cohort, trained):
    manifest = write_cohort()
    run = trained(manifest, "--noise-multiplier", "1")
    for image in (manifest.parent / "images").iterdir():
        image.unlink()
    for attack in (["--attack", "loss"], ["--attack", "step", "--attack", "visual"], []):
        ended = reticent("audit", run, *attack)
        assert ended.code == 2
        assert "cannot be opened, which this attack needs" in ended.err
        assert not list((run / "private").rglob("unfinished*"))
        assert read_findings(RunFolder(run)) == []
    assert reticent("audit", run, "--attack", "one-run", *ENOUGH[2:]).code == 0


def test_a_ledger_that_was_moved_is_asked_for_and_not_made_anew(reticent, trained, site_ledger, tmp_path):
    run = trained()
    moved = tmp_path / "elsewhere" / "ledger.sqlite"
    moved.parent.mkdir()
    for suffix in ("", ".key"):
        site_ledger.with_name(site_ledger.name + suffix).rename(moved.with_name(moved.name + suffix))
    ended = reticent("audit", run, "--attack", "loss")
    assert ended.code == 2
    assert "name it with --ledger" in ended.err
    assert not site_ledger.exists()
    assert reticent("audit", run, "--attack", "loss", "--ledger", moved).code == 0


def test_a_script_that_claims_too_much_ends_with_1(reticent):
    Path("own.py").write_text(
        "import numpy as np\nMU, INDEPENDENT = 0.5, True\n"
        "def train(included, seed):\n    return included + np.random.default_rng(seed).normal(size=len(included)) / 2\n"
    )
    ended = reticent("audit", "--script", "own.py", "--seed", "1")
    assert ended.code == 1
    assert "script: mu contradicts what is guaranteed" in ended.err
    assert "own.py claims at most 0.5" in ended.out


def test_a_finding_is_a_record_of_its_schema(reticent, trained):
    run = trained()
    assert reticent("audit", run, "--attack", "loss").code == 0
    stored = json.loads(next((run / "findings").iterdir()).read_text())
    assert stored["schema"] == "reticent.finding/1"
    assert stored["kind"] == "estimate"
