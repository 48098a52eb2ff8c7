"""Private features: bounded features of every patient's images, noised once; whatever is trained on them is free."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from reticent.accounting import Composition, LocalGaussian, LocalRandomisedResponse, Mechanism
from reticent.accounting.mechanisms import Unit
from reticent.errors import InputError
from reticent.training.engine import check_independence
from reticent.training.frozen_features import FrozenFeatures
from reticent.training.noise import RandomSource, SystemSource, bernoulli, gaussian_noise
from reticent.training.prediction import forward
from reticent.training.private_activation import bound_records, require_frozen

LABELS_NOT_COVERED = "labels: not covered, they are used as public"
_CHUNK = 64


def private_features_mechanism(
    noise_multiplier: float, label_epsilon: float | None, classes: int | None, unit: Unit = "subject"
) -> Mechanism:
    """One noisy release of every unit's features, and one of its label if that is randomised.

    mu = 2 / noise_multiplier for the features; epsilon-DP for the label.

    Raises:
        InputError: a number is out of range.
    """
    features = LocalGaussian(noise_multiplier, unit=unit)
    if label_epsilon is None:
        return features
    assert classes is not None
    return Composition((features, LocalRandomisedResponse(label_epsilon, classes, unit=unit)))


@dataclass(frozen=True, eq=False)
class PrivateFeatures:
    """What was released of every unit: m noisy feature vectors and their labels.

    `mechanism` is its guarantee, `covered` and `not_covered` say for what. Anything computed from it is covered too.
    """

    values: Tensor
    """Noisy features, shape (units, m, d)."""
    labels: Tensor
    """Class indices, shape (units, m), or zeros and ones, shape (units, m, labels)."""
    noise_multiplier: float
    """Noise standard deviation / bound, of a unit's m vectors taken together at 1 / sqrt(m) of their size."""
    label_epsilon: float | None = None
    """Of the randomised response to each unit's label; None: labels are as they were."""
    classes: int | None = None
    unit: Unit = "subject"
    _rows: tuple[Tensor, Tensor, Tensor, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", _rows(self.values, self.labels))

    @property
    def mechanism(self) -> Mechanism:
        """What was done to every unit, under replace-one."""
        return private_features_mechanism(self.noise_multiplier, self.label_epsilon, self.classes, self.unit)

    @property
    def covered(self) -> tuple[str, ...]:
        """What the mechanism protects of a unit."""
        return ("features",) if self.label_epsilon is None else ("features", "labels")

    @property
    def not_covered(self) -> tuple[str, ...]:
        """What it does not."""
        return (LABELS_NOT_COVERED,) if self.label_epsilon is None else ()

    def batch(self, units: Collection[int] | None = None) -> dict[str, Any]:
        """Rows of these units, or of all: `inputs`, `targets`, and `share`, which sums to 1 over a unit's rows.

        A unit's vectors of equal labels are averaged into one row, which has less noise and loses nothing of theirs.
        """
        values, labels, share, owner = self._rows
        if units is not None:
            chosen = torch.isin(owner, torch.tensor(sorted(units), dtype=torch.long))
            values, labels, share = values[chosen], labels[chosen], share[chosen]
        return {"inputs": {"features": values}, "targets": {"label": labels}, "share": share}

    def save(self, path: Path) -> None:
        """Write them to a safetensors file."""
        about = {
            "noise_multiplier": self.noise_multiplier,
            "label_epsilon": self.label_epsilon,
            "classes": self.classes,
            "unit": self.unit,
        }
        tensors = {"values": self.values.contiguous(), "labels": self.labels.contiguous()}
        path.write_bytes(safetensors.torch.save(tensors, {"about": json.dumps(about)}))

    @classmethod
    def load(cls, path: Path) -> PrivateFeatures:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or is of another kind.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["about"])
                return cls(file.get_tensor("values"), file.get_tensor("labels"), **about)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: no private features ({error}); restore the file, or start a new run") from error


def privatise_features(
    encoder: FrozenFeatures,
    load: Callable[[list[int]], Any],
    labels: Sequence[Any],
    units: Sequence[Sequence[int]],
    *,
    noise_multiplier: float,
    records_per_unit: int = 1,
    label_epsilon: float | None = None,
    classes: int | None = None,
    unit: Unit = "subject",
    source: RandomSource | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PrivateFeatures:
    r"""Release every unit's features once, with noise.

    Of each unit exactly m = `records_per_unit` vectors leave, so that the number of its records stays hidden: a
    uniform choice of more, fewer in turn. With each vector bounded by C their concatenation is bounded by
    :math:`C \sqrt m`, and gets noise of standard deviation :math:`\sigma C \sqrt m` an entry (the same as bounds of
    :math:`C / \sqrt m` and noise of :math:`\sigma C`, at another scale): mu = 2 / sigma under replace-one, whatever is
    trained on it for however long. The choice, the noise and the labels' randomisation come from `source`.

    Without `label_epsilon` labels are public and leave as they are. With it, one label of a unit, uniform among its m,
    is kept with probability :math:`e^\epsilon / (e^\epsilon + K - 1)`, K = `classes`, and else replaced by one of the
    others (randomised response; Warner, 1965); it stands for all m.

    Args:
        encoder: the frozen public features h, with their projection and bound.
        load: inputs of the records of these numbers, as the encoder takes them, or a mapping of one or several.
        labels: by record: class index, or zeros and ones for several labels.
        units: record numbers of each unit.
        noise_multiplier: sigma; see `private_features_mechanism` and `reticent.accounting.calibrate`.
        label_epsilon: of the randomised response, which also needs `classes`.

    Raises:
        InputError: the encoder is not frozen or couples records, a number is out of range, or labels that are to be
            randomised are not of one class.
    """
    require_frozen(encoder)
    if label_epsilon is not None:
        _check_labels(labels, units, classes)
    private_features_mechanism(noise_multiplier, label_epsilon, classes, unit)
    if records_per_unit < 1 or not all(units) or not units:
        raise InputError("every unit needs at least one record, and records_per_unit to be at least 1")
    source = source or SystemSource()
    slots = np.stack([_slots(own, records_per_unit, source) for own in units])
    bounded = _encode(encoder, load, slots, progress)
    std = noise_multiplier * encoder.bound * math.sqrt(records_per_unit)
    values = (bounded + gaussian_noise(bounded, std, source)).float()
    chosen = torch.from_numpy(np.asarray([[labels[record] for record in own] for own in slots.tolist()]))
    if label_epsilon is not None:
        assert classes is not None
        drawn = source.words(len(slots)) % np.uint64(records_per_unit)
        truth = chosen.numpy()[np.arange(len(slots)), drawn.astype(np.int64)]
        answers = torch.from_numpy(randomised_response(truth, label_epsilon, classes, source))
        chosen = answers[:, None].expand(-1, records_per_unit).clone()
    chosen = chosen.long() if chosen.ndim == 2 else chosen.float()
    return PrivateFeatures(values, chosen, noise_multiplier, label_epsilon, classes, unit)


def randomised_response(truth: np.ndarray, epsilon: float, categories: int, source: RandomSource) -> np.ndarray:
    """Answers of which each is the truth with probability e^epsilon / (e^epsilon + categories - 1), else another one.

    Probabilities are exact to within `categories` 2^-64.
    """
    keep = bernoulli(1 / (1 + (categories - 1) * math.exp(-epsilon)), len(truth), source)
    other = 1 + (source.words(len(truth)) % np.uint64(categories - 1)).astype(np.int64)
    return np.where(keep, truth, (truth + other) % categories)


def _check_labels(labels: Sequence[Any], units: Sequence[Sequence[int]], classes: int | None) -> None:
    if classes is None:
        raise InputError("randomised response needs classes, the number of classes, which is treated as public")
    for own in units:
        for record in own:
            if np.ndim(labels[record]) or not 0 <= labels[record] < classes:
                raise InputError(f"randomised response needs one class of 0 to {classes - 1} for every record")


def _slots(own: Sequence[int], count: int, source: RandomSource) -> np.ndarray:
    """`count` of the unit's records in a random order, all of them equally often if it has fewer, up to one."""
    order = np.asarray(own)[np.argsort(source.words(len(own)))]
    return np.resize(order, count)


@torch.no_grad()
def _encode(
    encoder: FrozenFeatures,
    load: Callable[[list[int]], Any],
    slots: np.ndarray,
    progress: Callable[[int, int], None],
) -> Tensor:
    """Bounded features of the records, float64, shape (*slots.shape, d); each record is encoded once."""
    records, places = np.unique(slots, return_inverse=True)
    found = []
    for start in range(0, len(records), _CHUNK):
        inputs = load(records[start : start + _CHUNK].tolist())
        if start == 0:
            check_independence(encoder, inputs, _run)
        features = _run(encoder, inputs)
        found.append(bound_records(features.double().cpu(), encoder.bound))  # once more: single precision rounds
        progress(min(start + _CHUNK, len(records)), len(records))
    return torch.cat(found)[torch.from_numpy(places.reshape(slots.shape))]


def _run(encoder: nn.Module, inputs: Any) -> Tensor:
    found: Tensor = forward(encoder, inputs) if isinstance(inputs, Mapping) else encoder(inputs)
    return found


def _rows(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean vector, label, share and unit of every group of a unit's vectors with equal labels."""
    units, m = values.shape[:2]
    coded = labels.reshape(units, m, -1)
    same = (coded[:, :, None] == coded[:, None]).all(3)
    size = same.sum(2)
    first = same.int().argmax(2) == torch.arange(m)  # each group is taken once, where its first vector stands
    mean = (same.to(values) @ values) / size[..., None]
    owner = torch.arange(units)[:, None].expand(units, m)
    return mean[first], labels[first], size[first] / m, owner[first]
