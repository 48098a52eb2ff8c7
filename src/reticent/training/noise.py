"""Where the randomness that privacy rests on comes from."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reticent.training.real_coordinates import dimension


class RandomSource(Protocol):
    """Independent uniform 64-bit words; `description` goes on record."""

    description: str
    cryptographic: bool

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` independent, uniform 64-bit integers."""


class SystemSource:
    """The operating system's cryptographic generator; it has no state that could be stored or repeated."""

    description = "operating system CSPRNG (os.urandom), Box-Muller in float64"
    cryptographic = True

    def words(self, count: int) -> NDArray[np.uint64]:
        return np.frombuffer(os.urandom(8 * count), dtype=np.uint64)


class SeededSource:
    """A repeatable source for tests: whoever knows the seed can subtract the noise."""

    cryptographic = False

    def __init__(self, *seed: int) -> None:
        self.description = f"seeded generator (PCG64, seed {seed[0]}): for tests only, gives no privacy"
        self._generator = np.random.default_rng(seed)

    def words(self, count: int) -> NDArray[np.uint64]:
        return self._generator.integers(0, 2**64, size=count, dtype=np.uint64)


def gaussian_noise(like: Tensor, std: float, source: RandomSource) -> Tensor:
    r"""Independent N(0, std^2) values of the shape, device and dtype of `like`.

    Box-Muller (1958): :math:`\sqrt{-2 \ln u} \cos 2\pi v` and its sine, with u in (0, 1] of 53 bits, in float64. Values
    beyond 8.6 standard deviations cannot occur; this and the rounding to `like.dtype` are not accounted for.

    Of a complex tensor the real and the imaginary part are drawn each, independently, with standard deviation `std`:
    circular noise. A query of sensitivity C in the complex L2 norm then has mu = C / std, as a real one
    (`ComplexGaussian`); `torch.randn`'s complex values, of total variance 1, would have sqrt(2) C / std.
    """
    count = dimension(like)
    pairs = (count + 1) // 2
    uniform = torch.from_numpy((source.words(2 * pairs) >> np.uint64(11)).astype(np.float64)) * 2.0**-53
    radius = (-2 * torch.log1p(-uniform[:pairs])).sqrt() * std
    angle = 2 * math.pi * uniform[pairs:]
    values = torch.cat([radius * angle.cos(), radius * angle.sin()])[:count]
    if like.is_complex():
        values = torch.view_as_complex(values.reshape(-1, 2))
    return values.reshape(like.shape).to(like)


def laplace_noise(count: int, scale: float, source: RandomSource) -> NDArray[np.float64]:
    """Independent values with density e^(-|x| / scale) / (2 scale): exponential sizes of 53 bits with random signs."""
    words = source.words(2 * count)
    sizes = -np.log1p(-(words[:count] >> np.uint64(11)).astype(np.float64) * 2.0**-53)
    return np.where(words[count:] >> np.uint64(63), sizes, -sizes) * scale


def bernoulli(
    probability: float | Sequence[float] | NDArray[np.float64], count: int, source: RandomSource
) -> NDArray[np.bool_]:
    """Independent draws, each true with `probability`, one for all or one for each (to within 2^-64)."""
    if np.ndim(probability) == 0 and float(probability) >= 1:  # type: ignore[arg-type]
        return np.ones(count, dtype=bool)
    chances = np.broadcast_to(np.asarray(probability, dtype=np.float64), (count,))
    limits = np.floor(np.minimum(chances, 1 - 2.0**-53) * 2.0**64).astype(np.uint64)
    return (source.words(count) < limits) | (chances >= 1)
