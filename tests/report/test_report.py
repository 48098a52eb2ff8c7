"""The report of a run, as a privacy officer and a clinician read it."""

from functools import cache
from html.parser import HTMLParser
from statistics import NormalDist

import pytest

from reticent.accounting import Composition, Gaussian, SubsampledGaussian, Unbounded
from reticent.records import (
    Finding,
    GroupMetrics,
    Interval,
    Measured,
    Metrics,
    Number,
    PrivacyStatement,
    RunFolder,
    RunState,
    SplitMetrics,
    append_finding,
    make_study,
    privacy_numbers,
    write_json,
    write_text,
)
from reticent.report import cite, render_report, write_report
from reticent.report.figures import _smooth, tradeoff_figure
from reticent.report.wording import kind

HOSTILE = '<script>alert("x")</script>'
PRIVATE = SubsampledGaussian(noise_multiplier=1.2, sampling_rate=0.05, steps=200)


def statement(mechanism=PRIVATE, delta=1e-5, **changes):
    fields = {
        "run": "8d1f0a52-6c1e-4e0b-9d3f-3f1d6c1b7a10",
        "created": "2025-06-01T10:00:00+00:00",
        "weights_sha256": "e3b0c442" * 8,
        "releasable": True,
        "noise_multiplier": 1.2,
        "sampling_rate": 0.05,
        "steps": 200,
        "max_norm": 1.0,
        "max_records_per_subject": 4,
        "not_covered": ("metrics on held-out patients", "the search for hyper-parameters"),
        "random_source": "operating system (os.urandom)",
        "software": {"reticent": "0.1.0", "torch": "2.13.0"},
    }
    return PrivacyStatement(**(numbers(mechanism, delta) | fields | changes))


numbers = cache(privacy_numbers)


def split(auroc=0.953, name="test"):
    measured = Measured(value=auroc, lower=auroc - 0.02, upper=auroc + 0.02)
    metrics = {
        "auroc": measured,
        "sensitivity": Measured(value=0.912, lower=0.871, upper=0.944),
        "specificity": Measured(value=0.887, lower=0.851, upper=0.92),
        "balanced_accuracy": Measured(value=0.9, lower=0.871, upper=0.925),
        "brier": Measured(value=0.081, lower=0.066, upper=0.098),
        "calibration_error": Measured(value=0.034),
    }
    return SplitMetrics(
        split=name,
        subjects=312,
        records=624,
        metrics=metrics,
        groups=(
            GroupMetrics(kind="class", name="normal", subjects=120, metrics={"auroc": measured}),
            GroupMetrics(kind="class", name="pneumonia", subjects=192, metrics={"auroc": measured}),
            GroupMetrics(kind="attribute", name="sex=F", subjects=151, metrics=metrics),
            GroupMetrics(kind="attribute", name="sex=M", subjects=157, metrics=metrics),
            GroupMetrics(kind="attribute", name=f"site={HOSTILE}", subjects=None),
        ),
        curves={
            "roc": ((0, 0), (0.01, 0.3), (0.05, 0.75), (0.1, 0.91), (0.3, 0.98), (1, 1)),
            "calibration": ((0.03, 0.05), (0.2, 0.16), (0.5, 0.55), (0.8, 0.74), (0.97, 0.98)),
        },
    )


@pytest.fixture
def make_run(tmp_path):
    def make(record=None, *, splits=None, twin=(), privacy=None, uri="cohort/manifest.csv", model="default"):
        study = make_study(
            {"cohort": {"uri": uri}, "privacy": privacy or {"epsilon": 8, "delta": 1e-5}, "model": {"name": model}}
        )
        run = RunFolder.create(tmp_path / "run", study)
        run.write_state(
            RunState(
                run="8d1f0a52-6c1e-4e0b-9d3f-3f1d6c1b7a10",
                created="2025-06-01T10:00:00+00:00",
                status="finished",
                cohort=f"chest {HOSTILE}",
                fingerprint="ab" * 32,
                task="binary",
                classes=("normal", "pneumonia"),
                inputs={"image": 1},
                image_size=(64, 64),
                session="b0a4f0de-0000-4000-8000-000000000000",
                noise_multiplier=1.2,
                ledger="ledger.sqlite",
                anchors=("c0ffee" * 10 + "aaaa", "decade" * 10 + "bbbb"),
            )
        )
        run.write_subjects(
            {"ab12": ("train", "train", 3), "cd34": ("train", "train", 1), "ef56": ("test", "held-out", 2)}
        )
        run.write_metrics(Metrics(task="binary", splits=(split(),) if splits is None else splits, twin=twin))
        run.publish(record or statement(), study, lambda path: path.write_bytes(b""))
        return run

    return make


class Page(HTMLParser):
    """Text by heading, and every tag with its attributes."""

    VOID = frozenset({"meta", "br", "img"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text, self.headings = [], [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


def read(run):
    page = Page(render_report(run))
    page.text = " ".join(page.text.split())
    return page


def test_the_page_loads_nothing_and_runs_nothing(make_run):
    run = make_run()
    page = read(run)
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "a", "object"}
    for _, attributes in page.tags:
        assert all(not name.startswith("on") for name in attributes)
        assert attributes.get("href", "#").startswith("#")
    assert "http://" not in render_report(run)
    assert "https://" not in render_report(run)


def test_names_from_the_cohort_are_shown_as_text(make_run):
    html = render_report(make_run())
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html


def test_sections_come_in_the_order_of_the_reader(make_run):
    run = make_run()
    append_finding(run, finding())
    expected = [
        "The guarantee",
        "What an attacker can do",
        "What the guarantee does not cover",
        "The mechanism",
        "Measured on held-out patients: internal, not covered by the guarantee",
        "What attacks recovered: internal",
        "The study",
        "How to cite",
    ]
    assert [heading for heading in read(run).headings if heading in expected] == expected


def test_the_statement_is_there_in_words_and_every_number_has_its_kind(make_run):
    record = statement()
    page = read(make_run(record))
    for sentence in record.words():
        assert sentence in page.text
    for number in (record.epsilon, record.mu, record.advantage):
        assert f"≤ {number} upper bound" in page.text
    assert all(gap in page.text for gap in record.not_covered)


def test_a_closed_form_is_called_exact(make_run):
    page = read(make_run(statement(Gaussian(noise_multiplier=2.0), sampling_rate=1.0, steps=1)))
    assert "mu (Gaussian DP) = 0.5 exact" in page.text


def test_members_found_are_rounded_up(make_run):
    """mu = 1 at 1 % false alarms: Phi(1 - 2.3263) = 0.09236; at 10 %: Phi(1 - 1.2816) = 0.38914."""
    page = read(make_run(statement(Gaussian(noise_multiplier=1.0), sampling_rate=1.0, steps=1)))
    assert "1 % 9.24 % 10 % 39 %" in page.text


def test_the_proven_lower_end_of_a_bound_is_rounded_down():
    """0.85654 would otherwise be shown as 0.857, more than is proven."""
    assert kind(Number(lower=0.85654, upper=0.8574, kind="upper bound")) == "upper bound; at least 0.856"


def test_a_composition_is_reported(make_run):
    record = statement(Composition((Gaussian(noise_multiplier=20.0), PRIVATE)))
    assert "Releasable under the guarantee below" in read(make_run(record)).text


def test_a_guarantee_that_admits_nearly_perfect_attacks_is_not_called_releasable(make_run):
    weak = SubsampledGaussian(noise_multiplier=0.1, sampling_rate=0.05, steps=200)
    text = read(make_run(statement(weak, noise_multiplier=0.1))).text
    assert "Releasable under" not in text
    assert "it excludes next to nothing" in text
    assert "hardly ever wrong about who took part" in text


def test_a_seeded_run_is_refused_with_the_reason(make_run):
    page = read(make_run(statement(releasable=False)))
    assert "✕ Not releasable The noise came from a seeded source" in page.text


def test_a_non_private_run_shows_no_number_or_curve_and_is_refused(make_run):
    record = statement(
        Unbounded("trained without privacy"),
        releasable=False,
        noise_multiplier=None,
        sampling_rate=None,
        max_norm=None,
    )
    page = read(make_run(record, privacy={"non_private": True}))
    assert "✕ Not releasable The model was trained without differential privacy" in page.text
    assert "WITHOUT differential privacy" in page.text
    assert not {"What an attacker can do", "What the guarantee does not cover"} & set(page.headings)
    assert "advantage" not in page.text


def test_the_record_as_unit_is_said_loudly(make_run):
    page = read(make_run(statement(SubsampledGaussian(1.2, 0.05, 200, unit="record"))))
    assert "The unit of protection is the single record." in page.text


def test_metrics_come_with_intervals_beside_the_twin(make_run):
    page = read(make_run(twin=(split(0.97),)))
    assert "AUROC 0.953 0.933 to 0.973 0.970 0.950 to 0.990" in page.text
    assert "never to be released" in page.text


def test_a_twin_that_was_not_asked_for_is_not_mentioned(make_run):
    assert "twin" not in read(make_run()).text.split("The study")[0]


def test_undefined_metrics_and_missing_splits_are_said(make_run):
    undefined = SplitMetrics(split="test", subjects=12, records=12, metrics={"auroc": Measured(value=None)})
    assert "AUROC not shown" in read(make_run(splits=(undefined,))).text


def test_a_run_without_held_out_patients_says_so(make_run):
    assert "No patients were held out." in read(make_run(splits=())).text


def test_suppressed_groups_are_named_and_explained(make_run):
    assert f"site={HOSTILE} fewer than 10 patients: suppressed" in read(make_run()).text


def finding(**changes):
    fields = {
        "attack": "lira",
        "asset": "membership of a patient",
        "adversary": "has the released model",
        "metric": "TPR at FPR 1 %",
        "value": 0.0123456,
        "interval": Interval(lower=0.002, upper=0.0456, confidence=0.95),
        "baseline": 0.01,
        "kind": "estimate",
        "guarantee": Number(lower=0.1, upper=0.1384, kind="upper bound"),
        "p_value": 1.0,
        "reading": f"Hardly anybody was found {HOSTILE}.",
        "left_out": ("more references",),
        "settings": {"references": 8, "canaries in the released model": False},
        "seed": 7,
        "seconds": 1.5,
    }
    return Finding(**fields | changes)


def test_what_attacks_achieved_stands_beside_the_guarantee_and_guessing(make_run):
    run = make_run()
    append_finding(run, finding())
    text = read(run).text
    assert "Membership of a patient, by “lira” Adversary: has the released model." in text
    assert "TPR at FPR 1 % ≤ 0.1384 0.01235 (0.002 to 0.0456) 0.01" in text
    assert f"Hardly anybody was found {HOSTILE}." in text
    assert "Left out: more references." in text
    assert "references: 8, canaries in the released model: no, seed: 7" in text
    assert "Releasable under the guarantee" in text


def test_settings_of_several_amounts_of_noise_are_a_table(make_run):
    run = make_run()
    levels = [{"noise multiplier": 0.01, "MSE": 0.00123456}, {"noise multiplier": 1.0, "MSE": HOSTILE}]
    append_finding(run, finding(settings={"prior": "wiener", "levels of noise": levels}))
    text = read(run).text
    assert f"Levels of noise noise multiplier 0.01 1 MSE 0.001235 {HOSTILE}" in text
    assert "prior: wiener, seed: 7" in text
    assert "{" not in text[text.index("What attacks recovered") : text.index("The study")]


def test_a_lower_bound_is_marked_as_one_and_rounded_down(make_run):
    run = make_run()
    bound = Interval(lower=1.83456, upper=None, confidence=0.95)
    append_finding(run, finding(metric="epsilon", value=1.83456, interval=bound, kind="empirical lower bound"))
    assert "epsilon ≤ 0.1384 ≥ 1.834 (95 %)" in read(run).text


def test_a_finding_that_contradicts_the_guarantee_comes_first(make_run):
    run = make_run()
    append_finding(run, finding(value=0.5, p_value=1e-9))
    append_finding(run, finding())  # a later audit that found nothing does not undo it
    text = read(run).text
    assert "Do not release: an audit contradicts the guarantee" in text
    assert "More than is guaranteed." in text
    assert "Releasable under" not in text


def test_a_later_audit_replaces_an_earlier_one_in_the_same_metric(make_run):
    run = make_run()
    append_finding(run, finding(value=0.02))
    append_finding(run, finding(value=0.03))
    text = read(run).text
    assert "0.03 (" in text
    assert "0.02 (" not in text


def test_figures_are_shown_inside_the_page_or_said_to_be_erased(make_run):
    run = make_run()
    folder = run.private / "audits" / "lira"
    folder.mkdir(parents=True)
    (folder / "grid.png").write_bytes(b"pixels")
    append_finding(run, finding(figures=("grid.png", "gone.png")))
    html = render_report(run)
    assert 'src="data:image/png;base64,cGl4ZWxz"' in html
    assert "gone.png: erased" in read(run).text


def test_without_an_audit_the_page_says_how_to_have_one(make_run):
    assert "No attack has been carried out on this run: reticent audit RUN does so." in read(make_run()).text


def test_the_report_is_written_into_the_run(make_run):
    run = make_run()
    assert write_report(run) == run.report
    assert run.report.read_text(encoding="utf-8") == render_report(run)


def test_the_drawn_curve_never_lies_above_the_certified_points():
    """Only two points are certified; between them a chord would pass above the Gaussian curve."""
    normal = NormalDist()

    def f(alpha):
        return normal.cdf(normal.inv_cdf(1 - alpha) - 2)

    drawn = [(x, y) for x, y in _smooth([(alpha, f(alpha)) for alpha in (0.01, 0.1, 0.5)]) if 0.01 <= x <= 0.5]
    assert [y for _, y in drawn] == pytest.approx([f(x) for x, _ in drawn])


def test_figures_follow_the_page_and_say_what_they_are():
    svg = tradeoff_figure([(0.01, 0.9), (0.1, 0.6), (0.5, 0.1)])
    assert 'role="img" aria-label="Trade-off curve of the guarantee"' in svg
    assert "var(--shade)" in svg
    assert "misses at least 90 %" in svg


def test_attacks_of_audits_are_cited_once_each(make_run):
    run = make_run()
    for name in ("one-run", "planted-images", "lira", "lira", "visual", "optimal-linear", "identification"):
        append_finding(run, finding(attack=name))
    found = keys(run)
    audits = ("nasr2023tight", "steinke2023privacy", "mahloujifar2024auditing", "carlini2022membership")
    for key in (*audits, "schwethelm2025visual", "riess2024mean", "balle2022reconstructing", "kaissis2023bounding"):
        assert found.count(key) == 1


@pytest.mark.parametrize(
    ("attack", "cited"),
    [
        ("imprint", {"fowl2022robbing"}),
        ("trap-weights", {"boenisch2023curious"}),
        ("gradient-inversion", {"geiping2020inverting"}),
        ("segmentation-inversion", {"geiping2020inverting", "ziller2021differentially"}),
    ],
)
def test_attacks_on_gradients_are_cited(make_run, attack, cited):
    run = make_run()
    append_finding(run, finding(attack=attack))
    assert cited <= set(keys(run))


def keys(run):
    return [line.split("{")[1].rstrip(",") for line in cite(run).splitlines() if line.startswith("@")]


def test_a_private_run_of_the_default_model_cites_its_methods(make_run):
    assert keys(make_run(uri="medmnist:pneumoniamnist")) == [
        "reticent",
        "abadi2016deep",
        "dong2022gaussian",
        "doroshenko2022connect",
        "koskela2020computing",
        "wu2018group",
        "klause2022differentially",
        "remerscheid2022smoothnets",
        "yang2023medmnist",
        "cardoso2022monai",
    ]


def test_a_non_private_run_of_another_model_cites_no_private_method(make_run):
    assert keys(make_run(privacy={"non_private": True}, model="monai:DenseNet121")) == ["reticent", "cardoso2022monai"]


@pytest.mark.parametrize(
    ("uri", "cited"),
    [("data/organmnist3d_64.npz", True), ("data/pneumoniamnist.npz", True), ("mnist/scans.npz", False)],
)
def test_medmnist_is_recognised_from_a_local_file(make_run, uri, cited):
    assert ("yang2023medmnist" in keys(make_run(uri=uri))) == cited


def test_a_missing_record_is_named(make_run):
    run = make_run()
    (run.private / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"metrics\.json: no such file"):
        render_report(run)


def test_an_altered_finding_is_named(make_run):
    run = make_run()
    write_text(run.findings / "001-torn.json", "{")
    with pytest.raises(ValueError, match=r"001-torn\.json: not valid JSON"):
        render_report(run)
    write_json(run.findings / "001-torn.json", {"attack": "lira"})
    with pytest.raises(ValueError, match="of another version or was altered"):
        render_report(run)
