"""`reticent label` as its user sees it: the plan, the batches, what is missing or wrong, and the result."""

import csv
from pathlib import Path

import pytest

from reticent.records import RunFolder

OPTIONS = [
    "--query-sizes", "10,4,4", "--classes", "1,0", "--epsilon", "8", "--delta", "1e-3", "--strategy", "entropy",
    "--selection-epsilon", "2", "--epochs", "2", "--batch-size", "4", "--model-argument", "width=8",
    "--out", "campaign",
]  # fmt: skip


def without(*names):
    """The options but for some."""
    kept = [k for k in range(0, len(OPTIONS), 2) if OPTIONS[k] not in names]
    return [text for k in kept for text in OPTIONS[k : k + 2]]


def test_a_campaign_from_its_plan_to_the_statement(reticent, write_pool, fill):
    manifest, truth = write_pool()
    tried = reticent("label", manifest, *OPTIONS, "--dry-run")
    assert tried.code == 0
    assert "nothing was written or charged" in tried.out
    assert not Path("campaign").exists()
    began = reticent("label", manifest, *OPTIONS)
    assert began.code == 0
    for said in ("group 2", "Everybody, whoever is selected: epsilon ≤ 7.9", "patients who are only scored"):
        assert said in began.out
        assert said in tried.out
    assert "of 10 patients in campaign/label-0.csv (0, 1), then: reticent label campaign" in began.out
    again = reticent("label", "campaign")
    assert again.code == 2
    assert "records have no label yet, first row 2" in again.err
    for phase in range(3):
        sheet = Path(f"campaign/label-{phase}.csv")
        rows = fill(sheet, truth)
        assert {row["label"] for row in rows} == {""}
        assert len({row["subject"] for row in rows}) == (10, 4, 4)[phase]
        ended = reticent("label", "campaign")
        assert ended.code == 0
        assert (f"campaign/label-{phase + 1}.csv" in ended.out) == (phase < 2)
    statement = RunFolder.open(Path("campaign/phase-2")).statement()
    assert statement.epsilon.upper <= 8
    for sentence in statement.words():
        assert " ".join(sentence.split()) in ended.out
    assert "What may leave: campaign/phase-2/release" in ended.out
    assert Path("campaign/phase-2/report.html").is_file()
    assert reticent("label", "campaign").code == 0
    cited = reticent("cite", "campaign/phase-2")
    assert "schwethelm2025differentially" in cited.printed
    shown = reticent("ledger")
    assert shown.code == 0
    refused = reticent("train", "--resume", "campaign/phase-1")
    assert "continue it with `reticent label campaign`" in refused.err


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows[1].update(label="2"), "row 3: the label '2' is none of 0, 1; correct it"),
        (lambda rows: rows[0].update(label=""), "1 of"),
        (lambda rows: rows.pop(2), "rows are gone, first"),
        (lambda rows: rows.append(dict(rows[0])), "is listed twice; remove one of the two"),
        (lambda rows: rows[0].update(file="other.png"), "row 2: other.png was not asked for; remove the row"),
        (lambda rows: [row.pop("label") for row in rows], "no column label"),
    ],
)
def test_wrong_labels_are_named_with_their_row(reticent, write_pool, fill, spoil, said):
    manifest, truth = write_pool()
    assert reticent("label", manifest, *OPTIONS).code == 0
    sheet = Path("campaign/label-0.csv")
    fill(sheet, truth)
    rows = list(csv.DictReader(sheet.open()))
    spoil(rows)
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)
    ended = reticent("label", "campaign")
    assert ended.code == 2
    assert said in ended.err
    assert not Path("campaign/phase-0").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (without("--classes"), "--classes is missing"),
        ([*without("--classes"), "--classes", "0"], "name two or more"),
        ([*without("--classes"), "--classes", "0,ill"], "do not mix"),
        ([*without("--classes"), "--classes", "a,b"], "the label '0' of a held-out record is none of a, b"),
        ([*without("--query-sizes"), "--query-sizes", "10,4,x"], "give whole numbers"),
        ([*without("--query-sizes"), "--query-sizes", "10,40"], "50 patients are to be labelled, but only 24"),
        (without("--selection-epsilon"), "give selection an epsilon"),
        (without("--strategy"), "random selection reads no data"),
        ([*without("--strategy"), "--strategy", "core-set"], "cannot be made private"),
        ([*without("--strategy"), "--strategy", "bald"], "the network has none"),
        ([*OPTIONS, "--model", "resnet"], "resnet"),
        ([*without("--batch-size"), "--batch-size", "0"], "at least 1"),
        ([*OPTIONS, "--schedule", "steps"], "schedule 'steps' is not known"),
    ],
)
def test_what_cannot_be_planned_is_refused_before_anything_is_written(reticent, write_pool, options, said):
    manifest, _ = write_pool()
    ended = reticent("label", manifest, *options)
    assert ended.code == 2
    assert said in ended.err
    assert not Path("campaign").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("0-0.png,patient 0,0,f,val", "0-0.png,patient 0,,f,val"), "held out (val) without a label"),
        (("1-0.png,patient 1,,m,train", "1-0.png,patient 1,1,m,train"), "has the label '1' already"),
        (("1-0.png,patient 1,,m,train", "1-0.png,patient 1,,m,public"), "the split public has no place"),
        (("1-0.png,patient 1,,m,train", "1-0.png,,,m,train"), "the subject is empty"),
        (("1-0.png,patient 1,,m,train", "1-1.png,patient 1,,m,train"), "is listed already"),
        (("1-0.png,patient 1,,m,train", "1-0.png,patient 1,0,m,test"), "patient 1 is both held out and to label"),
        (("1-0.png,patient 1", "gone.png,patient 1"), "no file"),
        (("file,subject", "file,who"), "no column of subjects"),
    ],
)
def test_a_pool_that_cannot_be_labelled_is_refused_with_its_row(reticent, write_pool, change, said):
    manifest, _ = write_pool()
    text = manifest.read_text()
    assert change[0] in text
    manifest.write_text(text.replace(change[0], change[1], 1))
    ended = reticent("label", manifest, *OPTIONS)
    assert ended.code == 2
    assert said in ended.err


def test_a_campaign_goes_on_without_options_and_is_not_begun_twice(reticent, write_pool):
    manifest, _ = write_pool()
    assert reticent("label", manifest, *OPTIONS).code == 0
    assert "exists already" in reticent("label", manifest, *OPTIONS).err
    for option in (("--epsilon", "4"), ("--epochs", "5"), ("--schedule", "naive"), ("--seed", "0")):
        assert "leave out all options" in reticent("label", "campaign", *option).err


def test_a_study_is_no_pool(reticent, write_pool):
    """Steps, batch size and the like of it would be ignored."""
    manifest, _ = write_pool()
    Path("study.toml").write_text(f'[cohort]\nuri = "{manifest}"\n[privacy]\nepsilon = 8.0\ndelta = 1e-3\nsteps = 7\n')
    ended = reticent("label", "study.toml", *OPTIONS)
    assert ended.code == 2
    assert "name the manifest" in ended.err
