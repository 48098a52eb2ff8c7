"""What each slice of a volume gave to a prediction. Of a patient: personal data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reticent.records.files import csv_text


@dataclass(frozen=True)
class SliceExplanation:
    """Of one volume, as the network saw it: resized, S slices in all, K classes."""

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

    def along(self, place: int) -> slice:
        """Rows of `weights` and `contributions` of the axis at this place in `axes`."""
        start = sum(len(own) for own in self.slices[:place])
        return slice(start, start + len(self.slices[place]))

    def to_csv(self) -> str:
        """A row for each slice: where it is, attention, share in each logit, positive and negative sum of HiResCAM."""
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
        return csv_text(columns, table)
