"""Active against random labelling, for `methods.py`: whole campaigns, their labels given from the truth."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from torch import nn

from methods_search import Guarantee, Setting, Train, Trial
from reticent.data import read_pool
from reticent.models import SmoothClassifier
from reticent.records import SplitMetrics, make_study, write_text
from reticent.training.active import ActivePlan, plan_step_amplification
from reticent.training.active.campaign import Campaign, NextBatch
from reticent.training.active.label_sheet import csv_text

SIZES = (200, 100, 100)
BATCH_SIZE, EPOCHS, SELECTION_EPSILON, DROPOUT = 40, 20, 2.0, 0.2


@dataclass(frozen=True)
class Labelling:
    """Who is labelled next, and how a phase trains; scores take SELECTION_EPSILON of the whole epsilon."""

    strategy: str
    schedule: str = "step-amplification"
    sizes: tuple[int, ...] = SIZES


def dropout_classifier(spatial_dims: int, in_channels: int, out_channels: int, image_size: Sequence[int]) -> nn.Module:
    """The default classifier with dropout before its last layer, which bald needs; the same for every strategy."""
    network = SmoothClassifier(spatial_dims, in_channels, out_channels, image_size)
    network.head.insert(2, nn.Dropout(DROPOUT))
    return network


def trainer(setting: Setting, labelling: Labelling) -> Train:
    """Plans the campaign once for all trials."""
    free = labelling.strategy == "random"
    plan = _plan(
        setting.privacy["epsilon"],
        setting.privacy["delta"],
        labelling.sizes,
        labelling.strategy if free else "entropy",  # all that read the pool are planned alike
        labelling.schedule,
    )
    return partial(_train, setting, labelling, plan)


@cache
def _plan(epsilon: float, delta: float, sizes: tuple[int, ...], strategy: str, schedule: str) -> ActivePlan:
    return plan_step_amplification(
        sizes,
        epsilon=epsilon,
        delta=delta,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        strategy=strategy,
        selection_epsilon=0.0 if strategy == "random" else SELECTION_EPSILON,
        schedule=schedule,
    )


def _train(
    setting: Setting, labelling: Labelling, plan: ActivePlan, trial: Trial
) -> tuple[Guarantee, Sequence[SplitMetrics]]:
    """A campaign to its end, from where it was interrupted; metrics of its last model."""
    uri = Path(setting.cohort["uri"])
    with uri.with_name("truth.csv").open(newline="") as file:
        truth = {row["file"]: row["label"] for row in csv.DictReader(file)}
    study = make_study(
        {
            "cohort": setting.cohort,
            "privacy": setting.privacy,
            "model": {"name": f"{__name__}:{dropout_classifier.__name__}"},
            "training": {"learning_rate": trial.rate},
        }
    )
    if Campaign.is_one(trial.path):
        campaign = Campaign(trial.path)
    else:
        rows, classes = read_pool(str(uri), {}), tuple(sorted(set(truth.values())))
        campaign = Campaign.create(trial.path, rows, classes, study, plan, labelling.strategy, setting.ledger)
    while True:
        _label(campaign.next_batch.sheet, truth)
        reached = campaign.advance(lambda stage, done, total: None)
        if not isinstance(reached, NextBatch):
            return Guarantee.stated(reached.statement()), reached.metrics().splits


def _label(sheet: Path, truth: dict[str, str]) -> None:
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labelled = [{**row, "label": truth[Path(row["file"]).name]} for row in rows]
    write_text(sheet, csv_text(list(rows[0]), labelled), mode=0o600)
