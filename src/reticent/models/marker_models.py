"""Classifiers of tabular markers, alone or beside an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from reticent.errors import InputError

FUSIONS = ("concat", "late", "film")
_HIDDEN = 16


class MarkerClassifier(nn.Module):
    """Logits (n, out_channels) from vectors by name, each (n, k); images among them are not looked at.

    Args:
        sizes: length of each vector.
        inputs: which of them are used.
        hidden: units of one hidden layer; 0 makes the model linear.

    Raises:
        InputError: an input is not there.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        out_channels: int,
        inputs: Sequence[str] = ("markers", "missing"),
        hidden: int = 0,
    ) -> None:
        super().__init__()
        self.inputs, width = _chosen(sizes, inputs)
        self.head: nn.Module = nn.Linear(width, out_channels)
        if hidden:
            self.head = nn.Sequential(nn.Linear(width, hidden), nn.SELU(), nn.Linear(hidden, out_channels))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.head(torch.cat([inputs[name] for name in self.inputs], 1))


class FusionClassifier(nn.Module):
    r"""Logits from an image and vectors of markers, with image features :math:`h` and markers :math:`m`.

    | fusion | logits |
    | --- | --- |
    | concat | :math:`W [\mathrm{LN}(h); g(m)] + b`, g a hidden layer of 16 units |
    | late | :math:`W \,\mathrm{LN}(h) + V m + b`: the logits of two models added up |
    | film | :math:`W [(1 + \Gamma m) \odot \mathrm{LN}(h) + B m] + b`, Gamma and B zero at first (Perez et al. 2018) |

    Args:
        encoder: maps the image (n, C, ...) to features (n, `features`); where there is "padding", both by name.
        sizes: length of each vector.
        inputs: which of them are used; leave out "missing" to fill in missing values without saying so.

    Raises:
        InputError: the fusion is unknown, or an input is not there.
    """

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        sizes: Mapping[str, int],
        out_channels: int,
        fusion: str = "concat",
        inputs: Sequence[str] = ("markers", "missing"),
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise InputError(f"fusion = {fusion!r} is not known; say {', '.join(FUSIONS)}")
        self.fusion = fusion
        self.inputs, width = _chosen(sizes, inputs)
        self.encoder, self.norm = encoder, nn.LayerNorm(features)
        if fusion == "concat":
            self.markers: nn.Module = nn.Sequential(nn.Linear(width, _HIDDEN), nn.SELU())
        else:
            linear = nn.Linear(width, out_channels if fusion == "late" else 2 * features, bias=False)
            if fusion == "film":
                nn.init.zeros_(linear.weight)
            self.markers = linear
        self.head = nn.Linear(features + _HIDDEN * (fusion == "concat"), out_channels)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        padded = {name: inputs[name] for name in ("image", "padding") if name in inputs}
        h = self.norm(self.encoder(padded if len(padded) > 1 else inputs["image"]))
        m = self.markers(torch.cat([inputs[name] for name in self.inputs], 1))
        if self.fusion == "concat":
            return self.head(torch.cat([h, m], 1))
        if self.fusion == "late":
            return self.head(h) + m
        scale, shift = m.chunk(2, 1)
        return self.head((1 + scale) * h + shift)


def _chosen(sizes: Mapping[str, int], inputs: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The inputs that are there, and the length of them all; "missing" may be empty where nothing can be."""
    if unknown := [name for name in inputs if name not in sizes]:
        known = ", ".join(sizes) or "none"
        raise InputError(
            f"inputs = {list(inputs)}: the cohort has no {unknown[0]!r} beside its images (it has {known}); name "
            "columns with --marker"
        )
    return tuple(inputs), sum(sizes[name] for name in inputs)
