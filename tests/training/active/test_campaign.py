"""A campaign from its first batch to its last run: what is charged to whom, what is stored, and what interrupts it."""

import importlib
import shutil

import pytest
import safetensors.torch
import torch

from reticent.accounting import Laplace, SubsampledGaussian
from reticent.data import open_cohort
from reticent.errors import InputError
from reticent.governance import Ledger
from reticent.records import RunFolder
from reticent.training import resume_training
from reticent.training.active import campaign as campaign_module
from reticent.training.active.campaign import Campaign
from reticent.training.private_run import PrivateRun

train_module = importlib.import_module("reticent.training.train")
step_module = importlib.import_module("reticent.training.private_step")

pytestmark = pytest.mark.filterwarnings("ignore:a delta that is too large", "ignore:no training record has the class")


def silent(stage, done, total):
    pass


def spent(site_ledger, subject):
    with Ledger.open(site_ledger) as site:
        return site.spent(subject)


def subjects_of(campaign, split="unlabelled"):
    return {row["subject"] for row in campaign._rows() if row["split"] == split}


def test_every_patient_is_charged_with_its_own_groups_mechanism_and_the_statement_with_the_whole(
    begin, site_ledger, carry_on
):
    campaign, truth = begin()
    plan = campaign.plan
    run = carry_on(campaign, truth)
    state = campaign.state
    assert [len(group) for group in state.groups] == [10, 4, 4]
    assert len(set(sum(state.groups, ()))) == 18
    for g, group in enumerate(state.groups):
        for subject in group:
            found = spent(site_ledger, subject)
            assert set(found.mechanisms) == {
                *([Laplace(1 / plan.round_epsilon)] if g else []), *plan.mechanism(g).mechanisms[min(g, 1) :]
            }  # fmt: skip
            assert sum(isinstance(part, Laplace) for part in found.mechanisms) == g
            assert found.profile().epsilon(1e-3).upper == pytest.approx(plan.spent(g).upper, rel=1e-6)
    waiting = subjects_of(campaign) - set(sum(state.groups, ()))
    assert waiting
    for subject in waiting:
        assert spent(site_ledger, subject).mechanisms == (Laplace(1.0),) * 2
    assert all(spent(site_ledger, subject) is None for subject in subjects_of(campaign, "test"))
    statement = run.statement()
    assert statement.mechanism == plan.guarantee().to_dict()
    assert statement.releasable
    assert 7.9 < statement.epsilon.upper <= 8.0
    assert (statement.sampling_rate, statement.steps) == (None, plan.phases[2].steps)
    assert statement.noise_multiplier == plan.phases[2].noise_multiplier
    assert "place among those to label being kept" in " ".join(statement.words())
    assert any("keeps an empty place" in gap for gap in statement.not_covered)
    assert [split.split for split in run.metrics().splits] == ["val", "test"]
    first = RunFolder.open(campaign.path / "phase-0").statement()
    assert first.mechanism == plan.guarantee(through=0).to_dict()
    assert first.epsilon.upper < statement.epsilon.upper
    # nothing of the scores is stored, and the folder is its owner's
    assert (campaign.path.stat().st_mode & 0o777) == 0o700
    assert sorted(path.name for path in campaign.private.iterdir()) == [
        "campaign.json", "labels-0.csv", "labels-1.csv", "labels-2.csv", "lock", "phase-0.csv", "phase-1.csv",
        "phase-2.csv", "records.csv",
    ]  # fmt: skip


def test_steps_draw_each_group_at_its_rate_and_phases_begin_with_the_weights_before(begin, monkeypatch, carry_on):
    campaign, truth = begin(sizes=(10, 8), strategy="random", selection=0.0)
    samplers, loaded = [], []
    steps, load = PrivateRun.steps, train_module.load_released
    monkeypatch.setattr(PrivateRun, "steps", lambda run: (samplers.append((run.sampler, run._subjects)), steps(run))[1])
    monkeypatch.setattr(
        train_module,
        "load_released",
        lambda study, model, path, task: (loaded.append(path), load(study, model, path, task)),
    )
    run = carry_on(campaign, truth)
    (first, _), (second, subjects) = ((sampler.groups[0], of) for sampler, of in samplers)
    rates = campaign.plan.phases
    assert set(first.sampling_rate) == set(rates[0].rates)
    assert dict(zip(subjects, second.sampling_rate, strict=True)) == {
        subject: rates[1].rates[g] for g, group in enumerate(campaign.state.groups) for subject in group
    }
    released = campaign.path / "phase-0/release/model.safetensors"
    assert loaded == [released.resolve()]
    before, after = safetensors.torch.load_file(released), safetensors.torch.load_file(run.weights)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_selection_reads_the_scores(begin, monkeypatch, fill):
    """With almost no noise those with the best scores are selected; the noise is of the planned scale."""
    campaign, truth = begin(sizes=(10, 4), selection=2.0)
    asked = []
    top = campaign_module.private_top_k

    def watched(scores, k, epsilon, value_range, source, *, largest):
        asked.append((len(scores), k, epsilon, value_range, largest))
        return top(scores, k, epsilon, value_range, source, largest=largest)

    monkeypatch.setattr(campaign_module, "private_top_k", watched)
    fill(campaign.next_batch.sheet, truth)
    campaign.advance(silent)
    assert asked == [(len(subjects_of(campaign)) - 10, 4, 2.0, 0.8, True)]


def test_an_interrupted_phase_goes_on_with_its_labels_and_is_charged_once(begin, site_ledger, monkeypatch, fill):
    campaign, truth = begin(sizes=(10, 4))
    fill(campaign.next_batch.sheet, truth)
    clipped, calls = step_module.clipped_grad, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return clipped(*args, **kwargs)

    monkeypatch.setattr(step_module, "clipped_grad", interrupted)
    with pytest.raises(KeyboardInterrupt):
        campaign.advance(silent)
    campaign.next_batch.sheet.write_text("spoiled after training began")
    reached = Campaign(campaign.path).advance(silent)
    assert reached.phase == 1
    with Ledger.open(site_ledger) as site:
        assert [entry.event for entry in site.entries()] == ["reserve", "resume", "settle", "reserve", "settle"]


def stop_in_second_phase(campaign, truth, monkeypatch, fill):
    fill(campaign.next_batch.sheet, truth)
    campaign.advance(silent)
    fill(campaign.next_batch.sheet, truth)
    with monkeypatch.context() as patch:
        patch.setattr(step_module, "clipped_grad", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            campaign.advance(silent)


@pytest.mark.parametrize("schedule", ["step-amplification", "naive"])
def test_a_later_phase_is_no_run_by_itself(begin, monkeypatch, fill, schedule):
    """Its weights come from the phases before, which a run's own statement would leave out."""
    campaign, truth = begin(sizes=(10, 4), strategy="random", selection=0.0, schedule=schedule)
    stop_in_second_phase(campaign, truth, monkeypatch, fill)
    copy = shutil.copytree(campaign.path / "phase-1", campaign.path.with_name("copy"))
    folder = RunFolder.open(copy, finished=False)
    cohort = open_cohort(folder.study().cohort.uri)
    with pytest.raises(InputError, match="was changed since the job was charged"):
        resume_training(folder, cohort, ledger=None, progress=silent)
    assert isinstance(campaign.advance(silent), RunFolder)


def test_a_group_s_rate_that_was_changed_after_it_was_charged_is_not_drawn_at(begin, monkeypatch, fill):
    campaign, truth = begin(sizes=(10, 4), strategy="random", selection=0.0, schedule="naive")
    stop_in_second_phase(campaign, truth, monkeypatch, fill)
    first, second = Campaign(campaign.path).state.phases
    old, new = second.rates
    changed = second.model_copy(update={"rates": (old, new / 2)})  # the largest rate, and group 0's, are as they were
    campaign._write_state(phases=(first, changed))
    with pytest.raises(InputError, match="was changed since the job was charged"):
        campaign.advance(silent)


@pytest.mark.parametrize("changed", ["plan", "weights"])
def test_a_phase_does_not_build_on_what_the_plan_does_not_account_for(begin, fill, changed):
    """Else the next statement would be of less than was done."""
    campaign, truth = begin(sizes=(10, 4), strategy="random", selection=0.0)
    fill(campaign.next_batch.sheet, truth)
    campaign.advance(silent)
    fill(campaign.next_batch.sheet, truth)
    if changed == "plan":
        first, second = campaign.state.phases
        campaign._write_state(phases=(first.model_copy(update={"noise_multiplier": 50.0}), second))
    else:
        weights = campaign.path / "phase-0/release/model.safetensors"
        values = safetensors.torch.load_file(weights)
        safetensors.torch.save_file({name: value + 1 for name, value in values.items()}, weights)
    with pytest.raises(InputError, match="not what the campaign's plan says"):
        campaign.advance(silent)
    assert not (campaign.path / "phase-1").exists()


@pytest.mark.parametrize("strategy", [{}, {"strategy": "random", "selection": 0.0}], ids=["scores", "random"])
def test_a_campaign_does_not_go_on_with_a_ledger_that_holds_nothing_of_it(
    begin, site_ledger, monkeypatch, fill, strategy
):
    campaign, truth = begin(sizes=(10, 4), **strategy)
    fill(campaign.next_batch.sheet, truth)
    if strategy:
        campaign.advance(silent)
        fill(campaign.next_batch.sheet, truth)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(Campaign, "_select", lambda *_: None)
            campaign.advance(silent)
    shutil.rmtree(site_ledger.parent)
    with pytest.raises(InputError, match="the ledger does not contain the entry"):
        campaign.advance(silent)
    with Ledger.open(site_ledger) as site:
        assert site.entries() == []


def test_a_kill_between_charge_and_choice_draws_again_for_the_same_charge(begin, site_ledger, monkeypatch, fill):
    campaign, truth = begin(sizes=(10, 4))
    fill(campaign.next_batch.sheet, truth)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(campaign_module, "private_top_k", killed)
        with pytest.raises(KeyboardInterrupt):
            campaign.advance(silent)
    assert len(Campaign(campaign.path).state.groups) == 1
    assert campaign.advance(silent).phase == 1
    with Ledger.open(site_ledger) as site:
        assert sum(entry.event == "reserve" and "selection" in entry.run for entry in site.entries()) == 1


def test_a_copy_of_the_folder_does_not_choose_again_for_the_same_charge(begin, site_ledger, monkeypatch, fill):
    campaign, truth = begin(sizes=(10, 4))
    fill(campaign.next_batch.sheet, truth)
    with monkeypatch.context() as patch:
        patch.setattr(Campaign, "_select", lambda *_: None)
        campaign.advance(silent)
    copy = shutil.copytree(campaign.path, campaign.path.with_name("copy"))
    assert campaign.advance(silent).phase == 1
    charged = spent(site_ledger, campaign.state.groups[1][0])
    with pytest.raises(InputError, match="another copy of this folder went on"):
        Campaign(copy).advance(silent)
    assert spent(site_ledger, campaign.state.groups[1][0]) == charged


def test_a_seed_repeats_the_choices_and_forbids_the_release(begin, tmp_path, carry_on):
    campaign, truth = begin(sizes=(10, 4), seed=5)
    run = carry_on(campaign, truth)
    assert not run.statement().releasable
    chosen = campaign.state.groups
    shutil.rmtree(campaign.path)
    shutil.rmtree(tmp_path / "clinic")
    again, truth = begin(sizes=(10, 4), seed=5)
    carry_on(again, truth)
    assert again.state.groups == chosen


def test_bald_scores_a_network_with_dropout_and_refuses_one_without(begin):
    with pytest.raises(InputError, match="the network has none"):
        begin(strategy="bald")


def test_a_network_with_dropout_is_scored_over_passes(begin, fill):
    campaign, truth = begin(sizes=(10, 4), strategy="bald", name="monai:DenseNet121", arguments={
        "init_features": 4, "growth_rate": 2, "block_config": [1, 1], "dropout_prob": 0.3,
        "norm": ["group", {"num_groups": 1}],
    })  # fmt: skip
    fill(campaign.next_batch.sheet, truth)
    assert campaign.advance(silent).phase == 1


def test_a_plan_beyond_its_own_budget_is_refused_before_anything_is_labelled(begin, tmp_path):
    with pytest.raises(InputError, match=r"budget epsilon=8,delta=0\.001: the plan spends epsilon 11\.26"):
        begin(budget="epsilon=8")
    assert not (tmp_path / "campaign").exists()


def test_a_spent_budget_stops_the_campaign_before_it_trains(begin, site_ledger, fill):
    campaign, truth = begin(sizes=(10, 4), strategy="random", selection=0.0, budget="epsilon=12,delta=1e-3")
    everybody, earlier = sorted(subjects_of(campaign)), SubsampledGaussian(1.0, 0.5, 20)
    with Ledger.open(site_ledger) as site:
        site.reserve(
            run="earlier", cohort="clinic", fingerprint="", subjects=everybody, unit="subject", mechanism=earlier
        )
    fill(campaign.next_batch.sheet, truth)
    with pytest.raises(InputError, match="budget"):
        campaign.advance(silent)
    assert not (campaign.path / "phase-0").exists()


@pytest.mark.parametrize(
    ("training", "said"),
    [({"twin": True}, "--twin train"), ({"class_weights": "counted"}, "--class-weights counted")],
)
def test_what_the_plan_does_not_account_for_is_refused(begin, training, said):
    with pytest.raises(InputError, match=said):
        begin(training=training)


def test_two_processes_do_not_work_on_a_campaign_at_once(begin, fill):
    campaign, truth = begin(sizes=(10, 4))
    fill(campaign.next_batch.sheet, truth)
    with campaign._locked(), pytest.raises(InputError, match="another process"):
        Campaign(campaign.path).advance(silent)


def test_labels_come_from_a_spreadsheet_too(begin, fill):
    """Semicolons, a byte-order mark and numbers with decimals."""
    campaign, truth = begin(sizes=(10, 4))
    sheet = campaign.next_batch.sheet
    fill(sheet, truth)
    text = sheet.read_text().replace(",", ";")
    sheet.write_text("\ufeff" + "\n".join(line + ".0" * (k > 0) for k, line in enumerate(text.splitlines())) + "\n")
    assert campaign.advance(silent).phase == 1
