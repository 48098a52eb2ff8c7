"""Plans of releases: putting them together and recognising plain Gaussians."""

import itertools
import math
from collections.abc import Iterable, Sequence

from reticent.accounting.gaussian_loss import GaussianLoss
from reticent.accounting.loss_bounds import Release
from reticent.errors import InputError

MAX_PLANS = 64


def gaussian_mu(plan: Sequence[Release]) -> float | None:
    """mu = sqrt(sum T / sigma^2) if the plan consists of plain Gaussians."""
    found = [
        (release.loss.noise_multiplier, release.times)
        for release in plan
        if isinstance(release.loss, GaussianLoss) and release.loss.rate == 1
    ]
    return math.sqrt(math.fsum(times / sigma**2 for sigma, times in found)) if len(found) == len(plan) else None


def merged(plan: Sequence[Release]) -> tuple[Release, ...]:
    """Equal losses counted together and plain Gaussians added up, in an order that does not depend on the one given."""
    counts: dict[object, Release] = {}
    plain = [part for part in plan if isinstance(part.loss, GaussianLoss) and part.loss.rate == 1]
    for part in plan:
        if part not in plain:
            counts[part.loss] = Release(part.loss, part.times + (counts[part.loss].times if part.loss in counts else 0))
    if plain:
        mu = gaussian_mu(plain)
        assert mu is not None
        loss = GaussianLoss(1 / mu)
        counts[loss] = Release(loss)
    return tuple(sorted(counts.values(), key=lambda release: repr(release.loss)))


def combined(parts: Iterable[Sequence[Sequence[Release]]]) -> tuple[tuple[Release, ...], ...]:
    """Every way to take one plan of each part, one after the other.

    Raises:
        InputError: there are more than 64 ways.
    """
    choices = list(parts)
    if math.prod(len(choice) for choice in choices) > MAX_PLANS:
        raise InputError(f"a composition of mechanisms with more than {MAX_PLANS} combinations of alternatives")
    ways = {merged([part for plan in way for part in plan]) for way in itertools.product(*choices)}
    return tuple(sorted(ways, key=repr))
