"""The one release of a run with private activations: made once, kept, and read by every later session of the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from reticent.errors import InputError
from reticent.records import write_file
from reticent.training.frozen_features import FrozenFeatures
from reticent.training.prepared_cohort import Progress
from reticent.training.private_features import PrivateFeatures, privatise_features
from reticent.training.private_run import PrivateRun

FILE = "features.safetensors"


@dataclass(frozen=True)
class FeatureRelease:
    """A run's private features, by the records that its steps draw."""

    features: PrivateFeatures
    _unit_of: Mapping[int, int]

    def batch(self, records: Sequence[int]) -> dict[str, Any]:
        """Rows of the subjects of these records, as `PrivateFeatures.batch` gives them."""
        return self.features.batch({self._unit_of[record] for record in records})


def release_features(run: PrivateRun, model: nn.Module, progress: Progress) -> FeatureRelease:
    """The noisy features of the run's training subjects: those in `private/` if there are any, else newly released.

    They are used only as read back from the file, which is written aside and renamed. A process killed before that
    leaves nothing that anybody used, so that the release which was charged takes place once.

    Args:
        model: see `feature_classifier`.

    Raises:
        InputError: the stored features are gone although they were released, or not those that were released.
    """
    features = model.get_submodule("features")
    assert isinstance(features, FrozenFeatures)
    subjects = run.data.subjects("train")
    units = [subjects[name] for name in sorted(subjects)]
    path = run.folder.private / FILE
    if not path.exists():
        if run.journal.started or run.state.features_sha256:
            raise InputError(
                f"{path}: the features that the run released are gone, and to release them once more was not charged; "
                "restore the file, or start a new run"
            )
        trained = {name: value for name, value in model.state_dict().items() if name.startswith("head.")}
        run.require_unwritten(model, trained)
        released = _release(run, features, units, progress)
        run.require_unwritten(model, trained)
        write_file(path, released.save)
    stored, digest = PrivateFeatures.load(path), hashlib.sha256(path.read_bytes()).hexdigest()
    as_released = run.state.features_sha256 in (None, digest)
    if not as_released or stored.mechanism != run.plan.mechanism or len(stored.values) != len(units):
        raise InputError(f"{path}: not the features that the run was charged for; restore the file, or start a new run")
    run.state = run.state.model_copy(update={"features_sha256": digest})
    run.folder.write_state(run.state)
    return FeatureRelease(stored, {record: unit for unit, own in enumerate(units) for record in own})


def _release(
    run: PrivateRun, features: FrozenFeatures, units: Sequence[Sequence[int]], progress: Progress
) -> PrivateFeatures:
    study = run.plan.study
    assert run.plan.noise_multiplier is not None
    return privatise_features(
        features,
        lambda records: run.data.batch(records)["inputs"],
        [entry.label for entry in run.data.cohort.entries],
        units,
        noise_multiplier=run.plan.noise_multiplier,
        records_per_unit=study.privacy.max_records_per_subject if study.cohort.unit == "subject" else 1,
        label_epsilon=study.privacy.label_epsilon,
        classes=run.plan.classes,
        unit=study.cohort.unit,
        source=run.source,
        progress=lambda done, total: progress("Releasing features", done, total),
    )
