"""What each slice of a volume gave to a prediction. Of a patient: personal data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from reticent.records.files import csv_text, write_file


@dataclass(frozen=True)
class SliceExplanation:
    """Of one volume, as the network saw it: resized, S slices in all, K classes. Slices that pad it are left out."""

    classes: tuple[str, ...]
    predicted: int
    axes: tuple[int, ...]
    """Along which slices were cut, 0 to 2; slices of the first one come first."""
    slices: tuple[np.ndarray, ...]
    """The first channel of the slices along each axis, (slices, h, w)."""
    maps: tuple[np.ndarray, ...]
    """HiResCAM of the predicted class for the slices along each axis, (slices, h', w')."""
    weights: np.ndarray
    """Attention, (S,), adds up to 1."""
    contributions: np.ndarray
    """Signed share in each logit, (S, K)."""
    constant: np.ndarray
    """Logits without any slice, (K,); with the contributions they add up to the logits."""
    truth: str | None = None
    """The record's class, where it is known."""
    agreement: Mapping[str, float] | None = None
    """`agreement_with` the record's mask, where it has one."""
    first: tuple[int, ...] | None = None
    """How many slices pad the volume before the first one along each axis; None: none."""

    def along(self, place: int) -> slice:
        """Rows of `weights` and `contributions` of the axis at this place in `axes`."""
        start = sum(len(own) for own in self.slices[:place])
        return slice(start, start + len(self.slices[place]))

    def save(self, path: Path) -> None:
        """Write an NPZ file, its owner's alone."""
        told = {
            "classes": self.classes, "predicted": self.predicted, "axes": self.axes, "truth": self.truth,
            "agreement": None if self.agreement is None else dict(self.agreement), "first": self.first,
        }  # fmt: skip
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ("weights", "contributions", "constant")}
        for kind in ("slices", "maps"):
            arrays |= {f"{kind}{k}": array for k, array in enumerate(getattr(self, kind))}

        def write(aside: Path) -> None:
            with aside.open("wb") as file:
                np.savez_compressed(file, told=json.dumps(told), **arrays)

        write_file(path, write, mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote."""
        with np.load(path) as file:
            told, places = json.loads(str(file["told"])), range(sum(name.startswith("maps") for name in file))
            first = told.get("first")  # earlier versions left nothing out
            return cls(
                tuple(told["classes"]), told["predicted"], tuple(told["axes"]),
                tuple(file[f"slices{k}"] for k in places), tuple(file[f"maps{k}"] for k in places),
                file["weights"], file["contributions"], file["constant"], told["truth"], told["agreement"],
                first if first is None else tuple(first),
            )  # fmt: skip

    def agreement_with(self, mask: np.ndarray) -> dict[str, float]:
        """How what explains the prediction goes with a mask (D, H, W), not empty, on the padded grid of the network.

        "contribution", "attention" and "HiResCAM by slice": the mean over axes of Spearman's correlation over slices
        with the area of the mask in them; of the size of a slice's share in the logit of the predicted class less the
        mean of the others, of its attention, and of the absolute sum of its map. "HiResCAM inside": how much of the
        absolute maps lies inside the mask; "mask": how much of the slices does, which chance would reach.
        """
        others = [k for k in range(len(self.classes)) if k != self.predicted]
        shares = np.abs(self.contributions[:, self.predicted] - self.contributions[:, others].mean(1))
        found: dict[str, list[float]] = {}
        for place, (axis, maps) in enumerate(zip(self.axes, self.maps, strict=True)):
            first = 0 if self.first is None else self.first[place]
            slices, rows, seen = np.moveaxis(mask > 0, axis, 0), self.along(place), np.abs(maps)
            slices = slices[first : first + len(maps)]
            area = slices.sum((1, 2))
            rows_of, columns_of = (
                np.array_split(np.arange(side), cut) for side, cut in zip(slices.shape[1:], maps.shape[1:], strict=True)
            )
            covered = np.array([[[s[np.ix_(r, c)].mean() for c in columns_of] for r in rows_of] for s in slices])
            for name, values in (
                ("contribution", shares[rows]),
                ("attention", self.weights[rows]),
                ("HiResCAM by slice", seen.sum((1, 2))),
            ):
                found.setdefault(name, []).append(_rank_correlation(values, area))
            found.setdefault("HiResCAM inside", []).append(float((seen * covered).sum() / seen.sum()))
            found.setdefault("mask", []).append(float(slices.mean()))
        return {name: float(np.mean(values)) for name, values in found.items()}

    def to_csv(self) -> str:
        """A row for each slice: where it is, attention, share in each logit, positive and negative sum of HiResCAM.

        Then one of what the logits are without any slice, so that each logit is the sum of its column.
        """
        shares = [f"logit of {name}" for name in self.classes]
        columns = ["axis", "slice", "of", "attention", *shares, "hirescam positive", "hirescam negative"]
        table: list[dict[str, object]] = []
        for place, (axis, maps) in enumerate(zip(self.axes, self.maps, strict=True)):
            rows = self.along(place)
            own = zip(self.weights[rows], self.contributions[rows], maps, strict=True)
            for index, (weight, shared, seen) in enumerate(own):
                values = [weight, *shared, seen.clip(min=0).sum(), seen.clip(max=0).sum()]
                cells = (axis, index, len(maps), *(f"{value:.6g}" for value in values))
                table.append(dict(zip(columns, cells, strict=True)))
        constant = ("constant", "", "", 0, *(f"{value:.6g}" for value in self.constant), 0, 0)
        return csv_text(columns, [*table, dict(zip(columns, constant, strict=True))])


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; 0 where one of the two does not vary."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else 0.0
