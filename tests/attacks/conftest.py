import warnings

import pytest

from reticent.attacks import LoadedRun
from reticent.data import open_cohort
from reticent.governance import Ledger
from reticent.records import RunFolder, make_study
from reticent.training import make_plan, train

SMALL_NETWORK = """
from torch import nn

def classifier(in_channels, out_channels, **_):
    layers = nn.Conv2d(in_channels, 8, 5, stride=2, padding=2), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8 * 8 * 8, 8), nn.SiLU(), nn.Linear(8, out_channels))
"""
"""For images of 16 x 16; 4,338 parameters in eight tensors."""


def silent(stage, done, total):
    pass


@pytest.fixture
def make_run(write_cohort, tmp_path, monkeypatch):
    """Trains a small network on a written cohort (or another one) and returns the run's folder."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "small_network.py").write_text(SMALL_NETWORK)
    monkeypatch.syspath_prepend(tmp_path / "modules")

    def make(name="run", cohort=None, model=None, training=None, **privacy):
        private = {"steps": 4, "sampling_rate": 0.4, **privacy}
        if not {"epsilon", "non_private"} & set(private):
            private.setdefault("noise_multiplier", 1.0)
        values = {
            "cohort": {"uri": str(cohort or write_cohort(name=f"{name}-cohort"))},
            "privacy": private,
            "model": model or {"name": "small_network:classifier"},
            "training": training or {},
        }
        study = make_study(values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cohort = open_cohort(study.cohort.uri)
            return train(study, cohort, tmp_path / name, ledger=None, plan=make_plan(study), progress=silent)

    return make


@pytest.fixture
def audited(make_run):
    """A small private run, loaded."""
    with LoadedRun(make_run()) as run:
        yield run


@pytest.fixture
def loaded():
    """Loads a run folder."""

    def load(folder):
        return LoadedRun(RunFolder(folder) if not isinstance(folder, RunFolder) else folder)

    return load


@pytest.fixture
def entries(site_ledger):
    """What stands in the site's ledger."""

    def read():
        with Ledger.open(site_ledger) as site:
            return site.entries()

    return read
