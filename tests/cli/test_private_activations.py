"""`reticent train --private-activations` as its user sees it."""

import json
from pathlib import Path

import pytest
import safetensors.torch

from reticent.models import build_model

TARGET = ["--mu", "0.8"]


@pytest.fixture
def options(write_cohort, small, tmp_path):
    network = build_model(
        "default", spatial_dims=2, in_channels=1, out_channels=5, image_size=(16, 16), arguments={"width": 8}
    )
    safetensors.torch.save_file(network.state_dict(), tmp_path / "public.safetensors")
    weights = ["--init-from", tmp_path / "public.safetensors", "--init-origin", "CC0 radiographs"]
    return [write_cohort(), *small, *weights, "--private-activations"]


def statement():
    return json.loads(Path("run/release/privacy.json").read_text())


def test_it_is_planned_trained_predicted_with_cited_and_repeated(reticent, options):
    dry = reticent("train", *options, *TARGET, "--dry-run")
    assert dry.code == 0, dry.err
    assert "32 features an image; labels: public" in dry.out
    ended = reticent("train", *options, *TARGET, "--out", "run")
    assert ended.code == 0, ended.err
    assert "Labels: not covered, they are used as public." in ended.out
    assert statement()["mechanism"]["type"] == "LocalGaussian"
    assert "labels: not covered, they are used as public" in Path("run/report.html").read_text()
    assert len(reticent("predict", "run", options[0]).printed.splitlines()) > 10
    cited = reticent("cite", "run").printed
    assert "knolle2021neuraldp" in cited
    assert "abadi2016deep" not in cited
    assert json.loads(Path("run/release/study.json").read_text())["training"]["augment"] == "none"
    assert reticent("train", "run/study.toml", "--out", "again").code == 0


def test_labels_are_randomised_on_request_and_the_ledger_shows_it(reticent, options):
    ended = reticent("train", *options, *TARGET, "--label-epsilon", "0.3", "--feature-dimension", "8", "--out", "run")
    assert ended.code == 0, ended.err
    assert "The image features and the label of every patient" in ended.out
    assert [part["type"] for part in statement()["mechanism"]["mechanisms"]] == [
        "LocalGaussian", "LocalRandomisedResponse",
    ]  # fmt: skip
    assert "epsilon 0.3" in reticent("ledger", "run").out


def test_the_ledger_shows_jobs_under_both_relations(reticent, options, small):
    assert reticent("train", *options, *TARGET, "--out", "run").code == 0
    assert reticent("train", options[0], "--noise-multiplier", "1.5", *small, "--out", "other").code == 0
    shown = json.loads(reticent("ledger", "--json").printed)["spending"]
    assert {group["neighbouring_relation"] for group in shown} == {"replace-one", "add-or-remove-one"}
    ended = reticent("ledger")
    assert "24 subjects, replace-one" in ended.out
    ended = reticent("ledger", "--subject", "patient 1")
    assert "under replace-one" in ended.out
    assert "under add-or-remove-one" in ended.out
    assert "do not add up" in ended.out


def test_it_is_refused_without_public_weights_and_for_masks(reticent, options, write_volumes, small, site_ledger):
    ended = reticent("train", options[0], *TARGET, "--private-activations")
    assert ended.code == 2
    assert "--private-activations needs --init-from" in ended.err
    weights = options[options.index("--init-from") : -1]
    ended = reticent("train", write_volumes(), *TARGET, *small, *weights, "--private-activations")
    assert ended.code == 2
    assert "which gives no masks" in ended.err
    assert not site_ledger.exists()
