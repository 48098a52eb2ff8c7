"""A cohort ready for training: who is in which split, and batches of decoded records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reticent.data import (
    PADDING,
    SPLIT_ROLES,
    VECTOR_INPUTS,
    Cohort,
    DecodedCache,
    FoldPlace,
    Patches,
    Preprocessing,
    Record,
    Scale,
    assign_folds,
    assign_splits,
    input_shape,
    marker_values,
    parse_markers,
    training_scales,
)
from reticent.errors import InputError
from reticent.records import RIDGE, CohortOptions, RunState, Study
from reticent.training.tasks import Task, make_task

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total); never anything computed from private records."""


class PreparedCohort:
    """Splits by subject, fixed pre-processing, and a decoded cache made by `decode`."""

    def __init__(self, cohort: Cohort, study: Study, split_key: bytes, begun: RunState | None = None) -> None:
        """With `begun`, the records as a run of this state took them when it began, perhaps by an earlier version.

        Raises InputError if the study's class weights, or its options about images or surfaces, do not fit.
        """
        _check_class_weights(study.training.class_weights, cohort)
        guided = study.training.mask_weight is not None
        _check_labels(cohort, guided)
        self.cohort, self.study = replace(cohort, guided=guided), study
        self._mark_padding = marks_padding(study) and (begun is None or PADDING in begun.inputs)
        fold = study.cohort.fold
        self.splits = (
            assign_splits(cohort, split_key)
            if fold is None
            else assign_folds(cohort, split_key, FoldPlace(*fold.place), stratified=study.privacy.non_private)
        )
        _check_surface_options(study, cohort)
        self.task = make_task(cohort, study.training)
        self._cache: DecodedCache | None = None

    def subjects(self, split: str) -> Mapping[str, list[int]]:
        """Record indices of each subject of a split."""
        found: dict[str, list[int]] = {}
        for i, (entry, own) in enumerate(zip(self.cohort.entries, self.splits, strict=True)):
            if own == split:
                found.setdefault(str(entry.subject), []).append(i)
        return found

    def labelled(self, split: str) -> Mapping[str, list[int]]:
        """As `subjects`, with the records alone that have a label, and the subjects that have such records."""
        entries, own = self.cohort.entries, self.subjects(split)
        found = {subject: [i for i in records if self.task.labelled(entries[i])] for subject, records in own.items()}
        return {subject: records for subject, records in found.items() if records}

    def classes_without_training(self) -> list[str]:
        """Classes that no training record has."""
        if self.cohort.task not in ("binary", "multi-class"):
            return []
        found = {entry.label for entry, split in zip(self.cohort.entries, self.splits, strict=True) if split == "train"}
        return [name for k, name in enumerate(self.cohort.classes) if k not in found]

    def membership(self, pseudonym: Callable[[str], str]) -> dict[str, tuple[str, str, int]]:
        """Split, role and number of records by pseudonym."""
        return {
            pseudonym(subject): (split, SPLIT_ROLES[split], len(records))
            for split in dict.fromkeys(self.splits)
            for subject, records in self.subjects(split).items()
        }

    def fingerprint(self, pseudonym: Callable[[str], str]) -> str:
        """SHA-256 over the pseudonym, split and key of every record, in sorted order."""
        lines = sorted(
            f"{pseudonym(str(entry.subject))} {split} {entry.key}"
            for entry, split in zip(self.cohort.entries, self.splits, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @cached_property
    def image_size(self) -> tuple[int, ...]:
        """The declared size (of patches); else what all headers share if it is small; else a constant of the task.

        A task that keeps the proportions of images keeps those of the headers if they share one size.
        """
        cohort, options = self.cohort, self.study.cohort
        if cohort.ndim == 1:
            return cohort.shape(0)
        declared, option = (
            (options.patch_size, "--patch-size") if options.patch_size else (options.image_size, "--image-size")
        )
        if declared is not None:
            if len(declared) == 1:
                return declared * cohort.ndim
            if len(declared) != cohort.ndim:
                raise InputError(
                    f"{option} has {len(declared)} numbers, but the images of {cohort.uri} have {cohort.ndim} "
                    "dimensions; give one number, or one for each"
                )
            return declared
        largest, multiple = self.task.largest_side[cohort.ndim], self.task.size_multiple
        shapes = {cohort.shape(i) for i in range(len(cohort.entries))}
        shape = shapes.pop()
        if not shapes and max(shape) <= largest and not any(side % multiple for side in shape):
            return shape
        if not shapes and self.task.keeps_aspect:
            factor = min(1.0, largest / max(shape)) / multiple
            return tuple(multiple * max(1, round(side * factor)) for side in shape)
        return (largest,) * cohort.ndim

    @cached_property
    def channels(self) -> dict[str, int]:
        """Channels of each input after pre-processing, or the length of a vector."""
        grey = self.study.cohort.grey
        found = {
            name: 1 if grey and name not in VECTOR_INPUTS else channels
            for name, channels in self.cohort.channels.items()
        }
        return found | ({PADDING: sum(self.image_size)} if self._mark_padding else {})

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one record of each input after pre-processing."""
        return {name: input_shape(name, channels, self.image_size) for name, channels in self.channels.items()}

    @cached_property
    def marker_scales(self) -> tuple[Scale, ...]:
        """Centre and scale of the markers, declared or of the training records."""
        markers = parse_markers(self.study.cohort.markers)
        values = np.empty((0, sum(marker.length for marker in markers)))
        if any(marker.scale is None and not marker.categories for marker in markers):
            values, _ = marker_values(self.cohort, [i for own in self.subjects("train").values() for i in own])
        return training_scales(markers, values)

    def made_up(self, count: int) -> dict[str, Tensor]:
        """Inputs of so many records, drawn at random from nobody's."""
        return {name: torch.randn(count, *shape) for name, shape in self.shapes.items()}

    @property
    def preprocessing(self) -> Preprocessing:
        return preprocessing_of(
            self.study,
            self.task,
            self.image_size,
            marker_scales=self.marker_scales,
            mark_padding=self._mark_padding,
        )

    def decode(self, folder: Path, progress: Progress, *, build: bool = True) -> None:
        """Read and pre-process every record once, into `folder`; afterwards `batch` works.

        With `build=False` another process has done so; InputError if its files cannot be seen.
        """
        self._cache = DecodedCache(
            self.cohort,
            self.preprocessing,
            folder,
            lambda done, total: progress("Decoding images", done, total),
            build=build,
            ragged=self.study.cohort.patch_size is not None,
        )

    def require_masks(self) -> None:
        """Raise InputError if the study learns from masks, and no training record has one."""
        if not self.cohort.guided:
            return
        training = [i for own in self.subjects("train").values() for i in own]
        if not any(self._decoded.has_mask(i) for i in training):
            raise InputError(
                f"{self.cohort.uri}: no training image has a mask, which --mask-weight learns from; name the column "
                "(--column mask=NAME), or leave the option out"
            )

    def batch(self, records: Sequence[int], units: Sequence[int] | None = None) -> dict[str, Any]:
        """Tensors of these records: `inputs`, `targets` by name, and `share`: 1 / records of its unit in the batch.

        With `patch_size` the patch in the middle of each record.
        """
        arrays = self._decoded.batch(records) if self._patches is None else self._patches.central(records)
        return self._tensors(*arrays, _shares(len(records), units))

    def training_batch(self, records: Sequence[int], units: Sequence[int]) -> dict[str, Any]:
        """As `batch`; with `patch_size`, patches drawn at random, `views` of a record, one after another."""
        if self._patches is None:
            return self.batch(records, units)
        views, generator = self.study.training.views, np.random.default_rng(int(torch.randint(2**62, ())))
        shares = _shares(len(records), units).repeat_interleave(views)
        return self._tensors(*self._patches.drawn(records, views, generator), shares)

    def whole(self, record: int) -> dict[str, Tensor]:
        """The inputs of one record, pre-processed, with `patch_size` of its own size."""
        return {name: torch.from_numpy(x) for name, x in self._decoded.batch([record])[0].items()}

    def mask(self, record: int) -> np.ndarray | None:
        """The mask that was drawn on a record of a classification, on the grid of its pre-processed inputs."""
        entry, mask = self.cohort.entries[record], self.cohort.mask(record)
        if mask is None:
            return None
        spacing = self.cohort.reader.spacing(entry.locator)
        return self.preprocessing.apply(Record(entry.key, {}, {"mask": mask}, {}, spacing)).targets["mask"]

    def _tensors(
        self, inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], share: Tensor
    ) -> dict[str, Any]:
        of_records = {name: torch.from_numpy(x) for name, x in targets.items()}
        if self.task.draws_targets:
            of_records = self.task.made_up_targets(len(share), self.image_size, torch.default_generator)
        return {"inputs": {n: torch.from_numpy(x) for n, x in inputs.items()}, "targets": of_records, "share": share}

    @property
    def _decoded(self) -> DecodedCache:
        assert self._cache is not None, "decode() comes first"
        return self._cache

    @cached_property
    def _patches(self) -> Patches | None:
        if self.study.cohort.patch_size is None:
            return None
        foreground = self.study.training.foreground if self.task.segments else 0.0
        return Patches(self._decoded, self.image_size, foreground)


def _shares(count: int, units: Sequence[int] | None) -> Tensor:
    unit = torch.arange(count) if units is None else torch.tensor(units, dtype=torch.long)
    return 1.0 / torch.bincount(unit, minlength=1)[unit]


def marks_padding(study: Study) -> bool:
    """Whether the study's network is told which slices of a volume are padding."""
    model = study.model
    on_slices = model.name == "slices" or (
        bool(study.cohort.markers)
        and model.name in ("default", "fusion")
        and model.arguments.get("encoder") == "slices"
    )
    return on_slices and study.cohort.spacing is not None


def preprocessing_of(
    study: Study,
    task: Task,
    image_size: tuple[int, ...],
    channels: int | None = None,
    marker_scales: tuple[Scale, ...] = (),
    mark_padding: bool = False,
) -> Preprocessing:
    """What a study does to every record; `channels` (None: as they are) are asked of those from elsewhere.

    `mark_padding` where `marks_padding`, unless a run began without.
    """
    options = study.cohort
    if len(image_size) == 1:
        return Preprocessing(normalise="none")
    size, least = (image_size, None) if options.patch_size is None else (None, image_size)
    return Preprocessing(
        size,
        options.normalise,
        channels,
        options.grey,
        options.spacing,
        options.window,
        least,
        task.keeps_aspect,
        marker_scales,
        mark_padding,
    )


def _check_surface_options(study: Study, cohort: Cohort) -> None:
    options, usual = study.cohort, CohortOptions(uri="")
    images = ("image_size", "patch_size", "normalise", "grey", "spacing", "window")
    surfaces = ("faces", "reference", "length", "profile")
    is_surface = cohort.ndim == 1
    for name in images if is_surface else surfaces:
        if getattr(options, name) != getattr(usual, name):
            kind, others = ("surfaces", "images") if is_surface else ("images", "surfaces")
            raise InputError(f"--{name.replace('_', '-')} is about {others}, and {cohort.uri} has {kind}: leave it out")
    graphs = options.profile is None
    for name in () if graphs else ("faces", "length"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} is about graphs of surfaces; --profile measures them as they are: leave it out")
    if is_surface and (study.model.name == RIDGE) == graphs:
        raise InputError(
            "--model ridge on surfaces needs the numbers of a --profile: body, or AXIS:FROM-TO/CUTS"
            if graphs
            else "--profile makes numbers of a surface, for --model ridge; say it, or leave out --profile"
        )


def _check_labels(cohort: Cohort, guided: bool) -> None:
    if guided and (cohort.task not in ("binary", "multi-class") or cohort.ndim == 1):
        raise InputError(
            "--mask-weight is for a class of an image (--label) and masks beside it (--column mask=NAME): leave it out"
        )
    if (alone := cohort.masks_alone) and not guided:
        raise InputError(
            f"{cohort.uri}: {len(alone)} images have a mask and no label, first {alone[0]}; --mask-weight 0.5 learns "
            "from such masks, else give them the split unlabelled"
        )


def _check_class_weights(declared: tuple[float, ...] | str, cohort: Cohort) -> None:
    if isinstance(declared, tuple) and len(declared) != len(cohort.classes):
        raise InputError(
            f"--class-weights has {len(declared)} numbers for {len(cohort.classes)} classes "
            f"({', '.join(cohort.classes)})"
        )
    if declared == "counted" and cohort.task not in ("binary", "multi-class"):
        raise InputError(f"--class-weights counted needs one class per record; this cohort's task is {cohort.task}")
