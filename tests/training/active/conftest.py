from functools import cache

import pytest

from reticent.data import read_pool
from reticent.governance import ledger_path
from reticent.records import make_study
from reticent.training.active import plan_step_amplification
from reticent.training.active.campaign import Campaign, NextBatch


def silent(stage, done, total):
    pass


@cache
def plan_of(sizes, strategy, selection, schedule):
    return plan_step_amplification(
        sizes,
        epsilon=8.0,
        delta=1e-3,
        batch_size=4,
        epochs=2,
        strategy=strategy,
        selection_epsilon=selection,
        schedule=schedule,
    )


@pytest.fixture
def begin(write_pool, tmp_path):
    """Begins a small campaign; it, and the label of every file."""

    def begin(
        sizes=(10, 4, 4),
        *,
        strategy="entropy",
        selection=2.0,
        schedule="step-amplification",
        seed=None,
        budget=None,
        training=None,
        **model,
    ):
        manifest, truth = write_pool()
        plan = plan_of(sizes, strategy, selection, schedule)
        study = make_study(
            {
                "cohort": {"uri": str(manifest)},
                "privacy": {"epsilon": 8.0, "delta": 1e-3, "seed": seed, "budget": budget},
                "model": {"arguments": {"width": 8}} | model,
                "training": training or {},
            }
        )
        rows = read_pool(str(manifest), {})
        return Campaign.create(tmp_path / "campaign", rows, ("0", "1"), study, plan, strategy, ledger_path()), truth

    return begin


@pytest.fixture
def carry_on(fill):
    """Labels and trains until a campaign ends; its last run."""

    def carry_on(campaign, truth):
        while True:
            fill(campaign.next_batch.sheet, truth)
            reached = campaign.advance(silent)
            if not isinstance(reached, NextBatch):
                return reached

    return carry_on
