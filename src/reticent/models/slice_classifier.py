"""Volumes with a 2-D network: slices are encoded one by one and pooled, and every logit is split over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.models.layers import group_norm

_PADDED = 0.5


@dataclass(frozen=True)
class SliceOutput:
    """What a `SliceClassifier` says of n volumes with S slices."""

    logits: Tensor
    """(n, K), exactly `constant` plus the sum of `contributions` over slices."""
    weights: Tensor
    """Attention, (n, S), heads averaged: not negative, sums to 1. How much a slice entered, not for or against what."""
    contributions: Tensor
    """Signed share of each slice in each logit, (n, S, K)."""
    constant: Tensor
    """What the logits are without any slice, (K,)."""
    mask: Tensor | None = None
    """True where a slice is there, (n, S); None: everywhere."""


def slice_encoder(in_channels: int, features: int, width: int = 16) -> nn.Sequential:
    """A small encoder for many slices: three convolutions of stride 2 and the mean; images (m, C, h, w) of any size."""
    layers: list[nn.Module] = []
    for inner in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(in_channels, inner, 3, 2, 1), group_norm(4, inner), nn.ReLU()]
        in_channels = inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, features))


class AttentionPool(nn.Module):
    r"""Attention whose query is the mean feature; parts of each slice in the pooled feature.

    .. math::
        \alpha_{hs} = \mathrm{softmax}_s \frac{\langle W_Q^h q + b_Q^h, \; W_K^h f_s + b_K^h \rangle}{\sqrt{d}}, \quad
        q = \frac1S \sum_s f_s, \quad
        z = \sum_s W_O \, \mathrm{concat}_h \, \alpha_{hs} (W_V^h f_s + b_V^h)

    This is `torch.nn.MultiheadAttention` without the bias of its last layer, which the head's bias makes superfluous.
    The order of slices does not matter: there is no encoding of positions.
    """

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        if features % heads:
            raise InputError(f"features = {features} is no multiple of heads = {heads}")
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(features, features) for _ in range(3))
        self.out = nn.Linear(features, features, bias=False)

    def forward(self, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Parts (n, S, D), whose sum over slices is the pooled feature, and weights (n, S)."""
        query = self._by_head(self.query(_mean_weights(features, mask) @ features))
        key, value = (self._by_head(layer(features)) for layer in (self.key, self.value))
        scores = (query @ key.mT)[..., 0, :] / math.sqrt(key.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -math.inf)
        weights = scores.softmax(-1)
        mixed = (weights[..., None] * value).transpose(-3, -2).flatten(-2)
        return self.out(mixed), weights.mean(-2)

    def _by_head(self, x: Tensor) -> Tensor:
        """(n, S, D) to (n, heads, S, D / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


class MeanPool(nn.Module):
    """The mean feature: every slice weighs as much."""

    def forward(self, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `AttentionPool`."""
        weights = _mean_weights(features, mask)
        return features * weights.mT, weights[..., 0, :]


class MaxPool(nn.Module):
    """The largest value of each feature, which belongs to one slice; weights count the features a slice gives."""

    def forward(self, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `AttentionPool`."""
        seen = features if mask is None else features.masked_fill(~mask[..., None], -math.inf)
        largest = torch.zeros_like(features).scatter(-2, seen.argmax(-2, keepdim=True), 1.0)
        return features * largest, largest.mean(-1)


def _mean_weights(features: Tensor, mask: Tensor | None) -> Tensor:
    """(n, 1, S)."""
    seen = torch.ones_like(features[..., 0]) if mask is None else mask.to(features)
    return (seen / seen.sum(-1, keepdim=True))[..., None, :]


class SliceClassifier(nn.Module):
    """Logits (n, out_channels) for volumes (n, C, D, H, W) by a 2-D network on their slices (Ziller et al. 2023).

    A volume is one record whatever its number of slices: their gradients add up before anything is clipped. Volumes
    that were padded to one shape come by name: "image", and "padding" (n, D + H + W), which is above 0.5 where a slice
    along the first, second or third axis is none of the volume's. Such slices change nothing. Where all of a volume's
    would be left out, none is: images of one slice may lose it to augmentation, and made-up vectors can be anything.

    Args:
        encoder: maps images (m, C, h, w) to features (m, `features`); of sizes as slices along `axes` have them.
        axes: along which axes slices are cut, in this order; their features are pooled together.
        pool: "attention", "mean" or "max".
        heads: of the attention; `features` is a multiple.

    Raises:
        InputError: an axis is none of 0, 1 and 2 or there twice, the pool is unknown, or heads do not divide features.
    """

    def __init__(
        self,
        encoder: nn.Module,
        out_channels: int,
        features: int = 64,
        axes: Sequence[int] = (0, 1, 2),
        pool: str = "attention",
        heads: int = 4,
    ) -> None:
        super().__init__()
        if not axes or len(set(axes)) < len(axes) or not set(axes) <= {0, 1, 2}:
            raise InputError(f"axes = {list(axes)}: name some of 0, 1 and 2, each once")
        if pool not in ("attention", "mean", "max"):
            raise InputError(f"pool = {pool!r} is not known; say attention, mean or max")
        self.encoder, self.axes = encoder, tuple(axes)
        self.pool = (
            AttentionPool(features, heads) if pool == "attention" else {"mean": MeanPool, "max": MaxPool}[pool]()
        )
        self.head = nn.Linear(features, out_channels)

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        return self.head(self._pooled(*self._unpacked(inputs))[0].sum(-2))

    def explain(self, inputs: Tensor | Mapping[str, Tensor], mask: Tensor | None = None) -> SliceOutput:
        """Logits with what each slice gives to them.

        Args:
            inputs: volumes (n, C, D, H, W), perhaps by name with their padding.
            mask: of volumes without names, True where a slice is there, (n, S) with S = D + H + W for all three axes.
        """
        volume, padded = self._unpacked(inputs)
        mask = mask if padded is None else padded
        parts, weights = self._pooled(volume, mask)
        logits = self.head(parts.sum(-2))
        return SliceOutput(logits, weights, parts @ self.head.weight.mT, self.head.bias, mask)

    def _unpacked(self, inputs: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """The volumes, and where their slices are there, (n, S)."""
        if not isinstance(inputs, Mapping):
            return inputs, None
        volume = inputs["image"]
        by_axis = inputs["padding"].split(tuple(volume.shape[2:]), -1)
        there = torch.cat([by_axis[axis] for axis in self.axes], -1) <= _PADDED
        return volume, there | ~there.any(-1, keepdim=True)

    def _pooled(self, volume: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Parts and weights, see `AttentionPool`."""
        return self.pool(torch.cat([self._features(volume, axis) for axis in self.axes], -2), mask)

    def _features(self, volume: Tensor, axis: int) -> Tensor:
        """(n, slices, D)."""
        slices = volume.movedim(2 + axis, 1)
        return self.encoder(slices.flatten(0, 1)).unflatten(0, slices.shape[:2])
