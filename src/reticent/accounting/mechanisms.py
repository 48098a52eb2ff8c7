"""Mechanisms: what touched private data, as data that can be stored, composed and accounted for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, get_args

from reticent.accounting.checks import require_open, require_sampling_rate, require_steps
from reticent.accounting.profiles import GaussianProfile, PrivacyProfile, UnboundedProfile
from reticent.accounting.sampled_profile import SampledGaussianProfile, SampledSteps
from reticent.errors import InputError

Unit = Literal["subject", "record"]
Sampling = Literal["none", "poisson"]

NEIGHBOURING_RELATION = "add-or-remove-one"
VERSION = 1


class Mechanism(Protocol):
    """A private computation: its neighbouring relation, sampling scheme, unit of privacy, cost and stored form."""

    @property
    def neighbouring_relation(self) -> str:
        """Which cohorts count as neighbours."""

    @property
    def sampling(self) -> Sampling:
        """How each step draws its units."""

    @property
    def unit(self) -> Unit:
        """What one unit of privacy is."""

    @property
    def sampled_steps(self) -> tuple[SampledSteps, ...] | None:
        """The sampled Gaussian steps it consists of; None for a job without privacy."""

    def profile(self) -> PrivacyProfile:
        """Its privacy profile."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form, understood by `mechanism_from_dict`."""


@dataclass(frozen=True)
class Gaussian:
    """Gaussian noise on `steps` sums over all units: noise_multiplier = noise standard deviation / L2 sensitivity.

    Raises:
        InputError: noise_multiplier is not positive and finite, or steps is not a whole number >= 1.
    """

    noise_multiplier: float
    steps: int = 1
    unit: Unit = "subject"

    neighbouring_relation: ClassVar[str] = NEIGHBOURING_RELATION
    sampling: ClassVar[Sampling] = "none"

    def __post_init__(self) -> None:
        require_open("noise_multiplier", self.noise_multiplier, 0.0, math.inf)
        require_steps(self.steps)
        _require_unit(self.unit)

    @property
    def sampled_steps(self) -> tuple[SampledSteps, ...]:
        """One kind of step, at a sampling rate of 1."""
        return (SampledSteps(self.noise_multiplier, 1.0, self.steps),)

    def profile(self) -> PrivacyProfile:
        """Exact: the mu-Gaussian trade-off with mu = sqrt(steps) / noise_multiplier."""
        return _profile(self.sampled_steps)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return _stored(self, noise_multiplier=float(self.noise_multiplier), steps=int(self.steps))


@dataclass(frozen=True)
class SubsampledGaussian:
    """Gaussian noise on `steps` sums, each over units drawn independently with probability `sampling_rate` (DP-SGD).

    Raises:
        InputError: noise_multiplier is not positive and finite, sampling_rate is not in (0, 1], or steps is not a
            whole number >= 1.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    unit: Unit = "subject"

    neighbouring_relation: ClassVar[str] = NEIGHBOURING_RELATION
    sampling: ClassVar[Sampling] = "poisson"

    def __post_init__(self) -> None:
        require_open("noise_multiplier", self.noise_multiplier, 0.0, math.inf)
        require_sampling_rate(self.sampling_rate)
        require_steps(self.steps)
        _require_unit(self.unit)

    @property
    def sampled_steps(self) -> tuple[SampledSteps, ...]:
        """One kind of step."""
        return (SampledSteps(self.noise_multiplier, self.sampling_rate, self.steps),)

    def profile(self) -> PrivacyProfile:
        """Certified bounds; exact at a sampling rate of 1."""
        return _profile(self.sampled_steps)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return _stored(
            self,
            noise_multiplier=float(self.noise_multiplier),
            sampling_rate=float(self.sampling_rate),
            steps=int(self.steps),
        )


@dataclass(frozen=True)
class Composition:
    """Several mechanisms on the same units, one after the other, in a plan fixed beforehand.

    Raises:
        InputError: there are none, or they differ in their unit or neighbouring relation.
    """

    mechanisms: tuple[Mechanism, ...]

    def __post_init__(self) -> None:
        if not self.mechanisms:
            raise InputError("a composition of no mechanisms; give at least one")
        for name in ("unit", "neighbouring_relation"):
            found = sorted({getattr(mechanism, name) for mechanism in self.mechanisms})
            if len(found) > 1:
                raise InputError(f"mechanisms that differ in their {name} ({', '.join(found)}) do not compose")

    @property
    def unit(self) -> Unit:
        """The unit they share."""
        return self.mechanisms[0].unit

    @property
    def neighbouring_relation(self) -> str:
        """The neighbouring relation they share."""
        return self.mechanisms[0].neighbouring_relation

    @property
    def sampling(self) -> Sampling:
        """ "poisson" as soon as one of them samples."""
        return "poisson" if any(mechanism.sampling == "poisson" for mechanism in self.mechanisms) else "none"

    @property
    def sampled_steps(self) -> tuple[SampledSteps, ...] | None:
        """All their steps."""
        steps = [mechanism.sampled_steps for mechanism in self.mechanisms]
        if any(part is None for part in steps):
            return None
        return tuple(step for part in steps if part is not None for step in part)

    def profile(self) -> PrivacyProfile:
        """Profile of the joint release."""
        return _profile(self.sampled_steps)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return _stored(self, mechanisms=[mechanism.to_dict() for mechanism in self.mechanisms])


@dataclass(frozen=True)
class Unbounded:
    """A job without privacy: epsilon infinite, type II error 0, delta 1."""

    reason: str
    unit: Unit = "subject"

    neighbouring_relation: ClassVar[str] = NEIGHBOURING_RELATION
    sampling: ClassVar[Sampling] = "none"
    sampled_steps: ClassVar[None] = None

    def __post_init__(self) -> None:
        _require_unit(self.unit)

    def profile(self) -> PrivacyProfile:
        """Nothing is guaranteed."""
        return UnboundedProfile()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return _stored(self, reason=self.reason)


def mechanism_from_dict(data: Mapping[str, Any]) -> Mechanism:
    """The mechanism whose `to_dict` gave `data`.

    Raises:
        InputError: the type, version, sampling or neighbouring relation is unknown, or a field is missing or wrong.
    """
    kind = data.get("type")
    if kind not in _TYPES or data.get("version") != VERSION:
        raise InputError(f"mechanism type {kind!r}, version {data.get('version')!r}: not known to this release")
    fields = {name: value for name, value in data.items() if name not in ("type", "version")}
    relation, sampling = fields.pop("neighbouring_relation", None), fields.pop("sampling", None)
    try:
        if kind == "Composition":
            del fields["unit"]
            fields["mechanisms"] = tuple(mechanism_from_dict(part) for part in fields["mechanisms"])
        mechanism: Mechanism = _TYPES[kind](**fields)
    except (KeyError, TypeError) as error:
        raise InputError(f"mechanism of type {kind}: wrong or missing field ({error})") from None
    if (relation, sampling) != (mechanism.neighbouring_relation, mechanism.sampling):
        raise InputError(f"mechanism of type {kind}: relation {relation!r} with sampling {sampling!r} is not known")
    return mechanism


_TYPES: dict[str, type[Any]] = {c.__name__: c for c in (Gaussian, SubsampledGaussian, Composition, Unbounded)}


def _stored(mechanism: Mechanism, **fields: Any) -> dict[str, Any]:
    return {
        "type": type(mechanism).__name__,
        "version": VERSION,
        **fields,
        "unit": mechanism.unit,
        "neighbouring_relation": mechanism.neighbouring_relation,
        "sampling": mechanism.sampling,
    }


def _profile(steps: tuple[SampledSteps, ...] | None) -> PrivacyProfile:
    """Equal steps are merged and plain Gaussians added up, mu^2 = sum T / sigma^2, whatever the order given."""
    if steps is None:
        return UnboundedProfile()
    mu_squared = math.fsum(step.steps / step.noise_multiplier**2 for step in steps if step.sampling_rate == 1)
    counts: dict[tuple[float, float], int] = {}
    for sigma, rate, count in steps:
        if rate < 1:
            counts[sigma, rate] = counts.get((sigma, rate), 0) + count
    if not counts:
        return GaussianProfile(math.sqrt(mu_squared))
    parts = [SampledSteps(sigma, rate, count) for (sigma, rate), count in sorted(counts.items())]
    if mu_squared:
        parts.append(SampledSteps(1 / math.sqrt(mu_squared), 1.0, 1))
    return SampledGaussianProfile(parts)


def _require_unit(unit: str) -> None:
    if unit not in get_args(Unit):
        raise InputError(f'unit is {unit!r}; give "subject" or "record"')
