"""What a study will cost in time and memory, measured on made-up images."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from reticent.data import Cohort
from reticent.records import Study
from reticent.training.engine import clipped_grad, footprint
from reticent.training.prepared_cohort import PreparedCohort
from reticent.training.real_coordinates import dimension
from reticent.training.train import check_study

_SAMPLE = 32
_EARLIER_NOISE_BYTES = 8


@dataclass(frozen=True)
class Cost:
    """Expected cost of a study; `memory` in bytes, `seconds` of training without decoding."""

    subjects: int
    exact: bool
    """Whether `subjects` is what a run would have: False where the split is yet to be drawn with an unknown key."""
    records_per_step: float
    image_size: tuple[int, ...]
    parameters: int
    """Trainable real numbers; a complex one counts twice."""
    seconds: float
    memory: int


def estimate(study: Study, cohort: Cohort, split_key: bytes | None) -> Cost:
    """Time two clipped sums on random images of the cohort's shape; reads headers, no pixels.

    Splits are drawn with `split_key`, or any other if it is None.

    Raises:
        InputError: see `check_study`.
    """
    data = PreparedCohort(cohort, study, split_key or b"any")
    model = check_study(study, cohort)
    batch = _made_up(data)
    training = study.training
    cap = training.memory_mb * 2**20
    loss_fn = data.task.loss_fn()
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        clipped_grad(
            model, loss_fn, batch, max_norm=1.0, clipping=training.clipping, memory=cap, ascent=training.bias_aware
        )
        seconds.append(time.perf_counter() - began)
    privacy = study.privacy
    subjects = data.subjects("train")
    drawn = sum(min(len(own), privacy.max_records_per_subject) for own in subjects.values()) * privacy.sampling_rate
    records = drawn / privacy.groups
    passes = drawn / privacy.sampling_rate if privacy.private_activations else records * privacy.steps
    parameters = sum(dimension(p) for p in model.parameters() if p.requires_grad)
    each = footprint(model, loss_fn, batch)
    rows = records * training.views
    at_once = min(each.at_once(cap, on_cpu=True), max(rows, 1))
    return Cost(
        subjects=len(subjects),
        exact=split_key is not None or all(entry.split is not None for entry in cohort.entries),
        records_per_step=records,
        image_size=data.image_size,
        parameters=parameters,
        seconds=min(seconds) / _SAMPLE * passes * training.views,
        memory=round(at_once * each.each) + (privacy.groups - 1) * parameters * _EARLIER_NOISE_BYTES,
    )


def _made_up(data: PreparedCohort) -> dict[str, object]:
    targets = data.task.made_up_targets(_SAMPLE, data.image_size, torch.default_generator)
    return {"inputs": data.made_up(_SAMPLE), "targets": targets, "share": torch.ones(_SAMPLE)}
