"""Noise on a run's steps, independent or correlated by a banded matrix."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from torch import Tensor

from reticent.training.banded_strategy import column_norm, strategy_coefficients
from reticent.training.noise import RandomSource, gaussian_noise
from reticent.training.plan import Plan


@dataclass
class _Block:
    """An unbroken sequence of a parameter's steps: its last step, and the latest noises, newest first. Secret."""

    last: int
    earlier: deque[Tensor]


@dataclass
class BandedNoise:
    r"""Noise :math:`C^{-1} z` on the steps' sums, z independent N(0, std^2): releasing it is releasing C x + z.

    C = T D: T lower-triangular Toeplitz with `bands` bands (`strategy_coefficients`), D diagonal so that every column
    of C has norm 1. Hence step t's noise is, with :math:`n_t` the norm of column t of T,

    .. math:: n_t \hat z_t, \qquad \hat z_t = \bigl(z_t - \sum_{j=1}^{b-1} c_j \hat z_{t-j}\bigr) / c_0

    (Choquette-Choo et al. 2023, section 2; McKenna 2024). With one band it is z: DP-SGD.

    The earlier noises are kept in memory alone, never on the disk: with them the noise could be subtracted. Where a
    parameter's steps do not follow each other directly (a resumed run, a step that released nothing), a new block
    begins: its noise is correlated with nothing drawn before. C is then block-diagonal: a column loses the entries that
    would lie beyond its block's end and keeps the others, so that it still has at most `bands` entries and a norm of at
    most 1. That is all that Theorem 4 of Choquette-Choo et al. asks of C. Blocks may differ by coordinate: the squared
    norm of a unit's share of C x is a sum over coordinates.

    Args:
        std: noise multiplier times clipping norm.
        steps: of the whole run.
        bands: at most `steps`.
        source: where z comes from.
    """

    std: float
    steps: int
    bands: int
    source: RandomSource
    _blocks: dict[str, _Block] = field(default_factory=dict, init=False, repr=False)

    def draw(self, step: int, name: str, like: Tensor) -> Tensor:
        """The noise of a parameter's sum at a step, of the shape, device and dtype of `like` (float64 or complex128).

        Raises:
            ValueError: the run has no such step.
        """
        if not 0 <= step < self.steps:
            raise ValueError(f"step {step} of a run of {self.steps} steps")
        coefficients = strategy_coefficients(self.steps, self.bands)
        earlier = self._earlier(step, name, like)
        noise = gaussian_noise(like, self.std, self.source)
        for coefficient, before in zip(coefficients[1:], earlier, strict=False):
            noise -= coefficient * before
        noise /= coefficients[0]
        earlier.appendleft(noise)
        self._blocks[name] = _Block(step, earlier)
        return noise * column_norm(coefficients, self.steps - step)

    def _earlier(self, step: int, name: str, like: Tensor) -> deque[Tensor]:
        block = self._blocks.get(name)
        if block is None or block.last != step - 1 or any(noise.shape != like.shape for noise in block.earlier):
            return deque(maxlen=self.bands - 1)
        return block.earlier


def banded_noise(plan: Plan, source: RandomSource) -> BandedNoise | None:
    """The noise of a run, independent where the study names no bands; None for a run without noise."""
    privacy = plan.study.privacy
    if plan.noise_multiplier is None:
        return None
    return BandedNoise(plan.noise_multiplier * privacy.max_norm, privacy.steps, privacy.groups, source)
