"""What a reconstruction attack on a run works with: patients to attack, and images that the adversary has anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.options import AttackOptions
from reticent.attacks.reconstruction.observed import NO_DEFENCE, Defence
from reticent.attacks.reconstruction.scores import pairwise
from reticent.data import Cohort, open_cohort
from reticent.errors import InputError
from reticent.records import RIDGE
from reticent.training import Restoration, preprocessing_of

_SCALED = (-2.0, 2.0)
_COPY = 1e-6
_DERIVED = ({"pneumoniamnist", "kermany"}, {"breastmnist", "busi"})
"""Sets of which one was made from the other."""


class ReconstructionOptions(AttackOptions):
    """Options of every attack that rebuilds images."""

    patients: Annotated[int, Field(ge=1)] = 8
    """Training patients that are attacked, drawn at random, with one image each."""
    public: str | None = None
    """Address of a cohort whose images the adversary has; None: the run's own held-out patients."""
    references: Annotated[int, Field(ge=2)] = 400
    """Most of them that are used."""


@dataclass(frozen=True)
class Material:
    """Images (n, C, ...) in the units that the network is fed; `unit` turns them into [0, 1]."""

    images: Tensor
    targets: dict[str, Tensor]
    references: Tensor
    reference_targets: dict[str, Tensor]
    """Empty where the adversary's images have no labels of this task."""
    box: tuple[float, float]
    source: str
    """Where the adversary's images come from."""
    overlap: str | None
    """What that source has in common with the run's patients."""
    seed: int

    def unit(self, images: Tensor) -> Tensor:
        return (images - self.box[0]) / (self.box[1] - self.box[0])

    def fed(self, unit: Tensor) -> Tensor:
        return self.box[0] + (self.box[1] - self.box[0]) * unit

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Attacked patients as a batch, each with one image."""
        chosen = torch.as_tensor(rows)
        targets = {name: value[chosen] for name, value in self.targets.items()}
        return {"inputs": {"image": self.images[chosen]}, "targets": targets, "share": torch.ones(len(chosen))}

    def settings(self) -> dict[str, Any]:
        """For the record of a finding."""
        told = {"patients": len(self.images), "adversary's images": len(self.references), "from": self.source}
        return told | ({"overlap": self.overlap} if self.overlap else {})


def gather(run: LoadedRun, options: ReconstructionOptions) -> Material:
    """Draw the patients, and read the adversary's images.

    Raises:
        InputError: the cohort has several inputs, or there is nobody whose images the adversary could have.
    """
    overlap: str | None
    data, seed = run.data, run.seed(options)
    if len(data.channels) > 1:
        raise InputError(f"{run.folder.path}: the network takes {len(data.channels)} inputs; images of one are rebuilt")
    rng = np.random.default_rng(seed)
    images, targets = _read(run, _draw(rng, list(data.labelled("train").values()), options.patients))
    if options.public is None:
        held_out = [own for split in ("val", "test", "public") for own in data.labelled(split).values()]
        if not held_out:
            raise InputError(
                f"{run.folder.path}: no patients were held out, whose images the adversary might have; name others "
                "with --set ATTACK.public=COHORT"
            )
        references, labels = _read(run, _draw(rng, held_out, options.references))
        source, overlap = "held-out patients of the same cohort", "the same source: the adversary is of the same clinic"
    else:
        cohort = _public(run, options.public)
        references, labels = _decoded(run, cohort, rng, options.references), {}
        source, overlap = options.public, _common_source(run.cohort, cohort)
    box = _box(run, images, references)
    return _without_copies(Material(images, targets, references, labels, box, source, overlap, seed))


def defence_of(run: LoadedRun) -> Defence:
    """Clipping and noise of the run's steps."""
    sigma = run.state.noise_multiplier
    return NO_DEFENCE if sigma is None else Defence(run.study.privacy.max_norm, sigma)


def clipping_left_out(run: LoadedRun) -> tuple[str, ...]:
    """What an attack that clips gradients as a whole leaves out of a run that clips otherwise."""
    clipping = run.study.training.clipping
    if run.state.noise_multiplier is None or clipping == "flat":
        return ()
    return (f"the run's own clipping, {clipping}: each patient's gradient was clipped as a whole",)


def participations(run: LoadedRun) -> int:
    """Steps that a patient takes part in on average, at least one."""
    privacy = run.study.privacy
    return max(1, round(privacy.sampling_rate * privacy.steps / privacy.groups))


def no_gradients(run: LoadedRun) -> str | None:
    """Why no attack that rebuilds images from gradients makes sense on a run; None if it does."""
    if len(run.state.image_size) == 1:
        return "the run was trained on surfaces, which no attack rebuilds"
    if run.study.model.name == RIDGE:
        return "the run is solved from moments, not trained by gradients"
    if isinstance(run.task, Restoration):
        return "the run's gradients are of images that are partly hidden, which this attack does not rebuild"
    if run.study.privacy.private_activations:
        return "the run adds noise to features, not to gradients"
    return None


def no_noisy_gradients(run: LoadedRun) -> str | None:
    """Why no attack on noisy gradients makes sense on a run; None if it does."""
    if run.state.noise_multiplier is None:
        return "the run was trained without noise, so that images are read exactly (imprint shows it)"
    return no_gradients(run)


def _draw(rng: np.random.Generator, patients: Sequence[Sequence[int]], count: int) -> list[int]:
    """One record of each of so many patients."""
    chosen = rng.permutation(len(patients))[:count]
    return [int(rng.choice(patients[i])) for i in chosen]


def _read(run: LoadedRun, records: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
    batch = run.data.batch(records)
    return next(iter(batch["inputs"].values())), batch["targets"]


def _public(run: LoadedRun, uri: str) -> Cohort:
    if uri == run.study.cohort.uri or (Path(uri).exists() and Path(uri).resolve() == Path(run.cohort.uri).resolve()):
        raise InputError(f"public={uri}: is the run's own cohort; leave the option out to take its held-out patients")
    try:
        return open_cohort(uri, unit="record", strict=False, hashed=False, download=run.download)
    except InputError as error:
        raise InputError(
            f"public={uri}: name a folder of images, a MedMNIST set, or a table that opens without options; {error}"
        ) from error


def _decoded(run: LoadedRun, cohort: Cohort, rng: np.random.Generator, count: int) -> Tensor:
    data, study = run.data, run.study
    if cohort.ndim != len(data.image_size) or len(cohort.channels) > 1:
        raise InputError(f"{cohort.uri}: its images are of another kind than the run's; name a cohort of such images")
    channels = next(iter(data.channels.values()))
    preprocessing = preprocessing_of(study, data.task, data.image_size, channels)
    chosen = rng.permutation(len(cohort.entries))[:count]
    loaded = [next(iter(preprocessing.apply(cohort.load(int(i))).inputs.values())) for i in chosen]
    return torch.from_numpy(np.stack(loaded))


def _common_source(own: Cohort, public: Cohort) -> str | None:
    names = [f"{cohort.name} {cohort.uri}".lower() for cohort in (own, public)]
    for family in _DERIVED:
        if all(any(member in name for member in family) for name in names):
            return f"the same source: both are of {' and '.join(sorted(family))}, of which one was made from the other"
    return None


def _box(run: LoadedRun, *groups: Tensor) -> tuple[float, float]:
    """Darkest and brightest intensity: those of scaled images, or what is found where images were standardised."""
    low, high = min(float(g.min()) for g in groups), max(float(g.max()) for g in groups)
    scaled = run.study.cohort.normalise != "standardise" and low >= _SCALED[0] - 1e-6 and high <= _SCALED[1] + 1e-6
    return _SCALED if scaled else (low, high if high > low else low + 1.0)


def _without_copies(material: Material) -> Material:
    """Leave out images of the adversary that are copies of an attacked one: recovering those would be no feat."""
    nearest = pairwise("MSE", material.unit(material.references), material.unit(material.images)).min(1).values
    kept = nearest > _COPY
    if kept.all():
        return material
    if int(kept.sum()) < 2:
        raise InputError(f"{material.source}: its images are those of the attacked patients; name other ones")
    labels: Mapping[str, Tensor] = {name: value[kept] for name, value in material.reference_targets.items()}
    note = f"{int((~kept).sum())} images were copies of attacked ones and left out"
    overlap = f"{material.overlap}; {note}" if material.overlap else note
    return Material(
        material.images, material.targets, material.references[kept], dict(labels), material.box, material.source,
        overlap, material.seed,
    )  # fmt: skip
