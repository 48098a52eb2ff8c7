"""Opacus as a competitor of `methods.py`: its engine, hooks and Poisson sampling on our pixels, splits and metrics.

Sampling rate, steps and clip norm are the defaults of a study; there are no augmentation and no average of weights.
Opacus knows records only: on a cohort by patient its guarantee is for single images, which is weaker. Needs the extra
`benchmark`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from methods_search import Guarantee, Setting, Train, Trial
from reticent.data import open_cohort
from reticent.records import SplitMetrics, make_study
from reticent.training import PreparedCohort, held_out_metrics, new_network


@dataclass(frozen=True)
class Peer:
    """What Opacus trains.

    "plain CNN" is that of `opacus_peer.py`, with Adam at a constant rate as there; "default network" is ours, with our
    optimiser and schedule.
    """

    network: Literal["plain CNN", "default network"]


def trainer(setting: Setting, peer: Peer) -> Train:
    """Decodes the cohort, so that the trials of all processes read the same files."""
    _prepared(setting)
    return partial(_train, setting, peer)


def _prepared(setting: Setting) -> PreparedCohort:
    study = make_study({"cohort": setting.cohort, "privacy": setting.privacy})
    options = study.cohort
    cohort = open_cohort(options.uri, columns=options.columns, labels=options.labels, unit=options.unit)
    assert all(entry.split is not None for entry in cohort.entries), "the key below would choose splits"
    data = PreparedCohort(cohort, study, b"not used")
    data.decode(setting.folder / "decoded", lambda stage, done, total: None)
    return data


def _train(setting: Setting, peer: Peer, trial: Trial) -> tuple[Guarantee, Sequence[SplitMetrics]]:
    from opacus import PrivacyEngine

    data = _prepared(setting)
    privacy, delta = data.study.privacy, data.study.privacy.stated_delta
    records = [record for own in data.subjects("train").values() for record in own]
    batch = data.batch(records)
    (inputs,) = batch["inputs"].values()
    passes = round(1 / privacy.sampling_rate)  # steps of an epoch
    model = _network(peer, data)
    kind = torch.optim.Adam if peer.network == "plain CNN" else torch.optim.NAdam
    engine = PrivacyEngine(accountant="prv")
    dataset = TensorDataset(inputs, batch["targets"]["label"])
    model, optimiser, loader = engine.make_private_with_epsilon(
        module=model,
        optimizer=kind(model.parameters(), trial.rate),
        data_loader=DataLoader(dataset, batch_size=math.ceil(len(records) / passes)),
        target_epsilon=privacy.epsilon,
        target_delta=delta,
        epochs=privacy.steps // passes,
        max_grad_norm=privacy.max_norm,
    )
    assert loader.sample_rate == privacy.sampling_rate, "Opacus's rate is 1 / steps of an epoch"
    step = 0
    for _ in range(privacy.steps // passes):
        for x, y in loader:
            if peer.network == "default network":
                for group in optimiser.param_groups:
                    group["lr"] = trial.rate * 0.5 * (1 + math.cos(math.pi * step / privacy.steps))
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
            step += 1
    assert step == privacy.steps
    spent = engine.get_epsilon(delta)
    return Guarantee(str(uuid.uuid4()), spent, delta, None), held_out_metrics(model._module, data)


def _network(peer: Peer, data: PreparedCohort) -> nn.Module:
    channels, classes = sum(data.channels.values()), len(data.cohort.classes)
    if peer.network == "plain CNN":
        from opacus_peer import network

        return network(channels, classes)
    return new_network(data.study.model, channels, classes, data.image_size)
