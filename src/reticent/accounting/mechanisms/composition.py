"""Mechanisms made of others, and jobs for which nothing can be guaranteed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from reticent.accounting.checks import require_steps
from reticent.accounting.mechanisms.discrete import DiscreteGaussian, DiscreteLoss, Laplace, RandomisedResponse
from reticent.accounting.mechanisms.gaussian import (
    BandedGaussian,
    ComplexGaussian,
    FixedSizeGaussian,
    Gaussian,
    SubsampledGaussian,
)
from reticent.accounting.mechanisms.local import LocalGaussian, LocalRandomisedResponse
from reticent.accounting.mechanisms.mechanism import (
    ACCURACY,
    VERSION,
    Mechanism,
    Plan,
    Stored,
    Unit,
    fields_of,
    profile_of,
    require_unit,
)
from reticent.accounting.plans import combined
from reticent.accounting.profiles import PrivacyProfile, UnboundedProfile
from reticent.errors import InputError

SHUFFLED = (
    "batches cut from a shuffled cohort: no amplification by sampling is proven for them, and accounting for them as "
    "Poisson samples can understate epsilon many times over (Chua et al., 2024); draw batches by Poisson sampling"
)


class _Several(Stored):
    mechanisms: tuple[Mechanism, ...]

    def _require_alike(self, what: str) -> None:
        if not self.mechanisms:
            raise InputError(f"{what} of no mechanisms; give at least one")
        for name in ("unit", "neighbouring_relation"):
            found = sorted({getattr(mechanism, name) for mechanism in self.mechanisms})
            if len(found) > 1:
                raise InputError(f"mechanisms that differ in their {name} ({', '.join(found)}) do not compose")

    @property
    def unit(self) -> Unit:
        """The unit they share."""
        return self.mechanisms[0].unit

    @property
    def neighbouring_relation(self) -> str:  # type: ignore[override]
        """The neighbouring relation they share."""
        return self.mechanisms[0].neighbouring_relation

    @property
    def sampling(self) -> str:  # type: ignore[override]
        """Theirs if they share one; "mixed" if they sample in several ways."""
        found = {mechanism.sampling for mechanism in self.mechanisms} - {"none"}
        return found.pop() if len(found) == 1 else "mixed" if found else "none"

    def _reason(self) -> str | None:
        for mechanism in self.mechanisms:
            if mechanism.plans is None:
                return str(getattr(mechanism, "reason", "one of the mechanisms is without privacy"))
        return None

    @property
    def plans(self) -> tuple[Plan, ...] | None:
        raise NotImplementedError

    @property
    def attained(self) -> tuple[Plan, ...] | None:
        raise NotImplementedError

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Profile of the joint release, or of the worst alternative."""
        plans = self.plans
        if plans is None:
            return UnboundedProfile(self._reason() or "")
        attained = self.attained
        return profile_of(plans, None if attained == plans else attained, accuracy)


@dataclass(frozen=True)
class Composition(_Several):
    """Several mechanisms on the same units, one after the other, in a plan fixed beforehand.

    Raises:
        InputError: there are none, or they differ in their unit or neighbouring relation.
    """

    mechanisms: tuple[Mechanism, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mechanisms", tuple(self.mechanisms))
        self._require_alike("a composition")

    @property
    def plans(self) -> tuple[Plan, ...] | None:
        """All their releases."""
        parts = [mechanism.plans for mechanism in self.mechanisms]
        return None if None in parts else combined(part for part in parts if part is not None)

    @property
    def attained(self) -> tuple[Plan, ...] | None:
        """All releases that they can be made to show."""
        parts = [mechanism.attained for mechanism in self.mechanisms]
        return None if None in parts else combined(part for part in parts if part is not None)


@dataclass(frozen=True)
class Repetition(Stored):
    """One mechanism `times` times over on the same units.

    Raises:
        InputError: times is not a whole number >= 1.
    """

    mechanism: Mechanism
    times: int

    def __post_init__(self) -> None:
        require_steps(self.times, "times")

    @property
    def unit(self) -> Unit:
        """That of the mechanism."""
        return self.mechanism.unit

    @property
    def neighbouring_relation(self) -> str:  # type: ignore[override]
        """That of the mechanism."""
        return self.mechanism.neighbouring_relation

    @property
    def sampling(self) -> str:  # type: ignore[override]
        """That of the mechanism."""
        return self.mechanism.sampling

    @property
    def plans(self) -> tuple[Plan, ...] | None:
        """Its plans, each `times` over: whoever follows one of several follows it throughout."""
        return _times(self.mechanism.plans, self.times)

    @property
    def attained(self) -> tuple[Plan, ...] | None:
        """What it can be made to show, as often."""
        return _times(self.mechanism.attained, self.times)

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Profile of the joint release."""
        return Composition((self,)).profile(accuracy)


@dataclass(frozen=True)
class WorstOf(_Several):
    """Each unit is subject to one of several mechanisms, which one being fixed beforehand, as with sampling rates of
    their own for groups of units: what holds for the worst holds for all.

    Raises:
        InputError: there are none, or they differ in their unit or neighbouring relation.
    """

    mechanisms: tuple[Mechanism, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mechanisms", tuple(self.mechanisms))
        self._require_alike("a choice")

    @property
    def plans(self) -> tuple[Plan, ...] | None:
        """The plans of each."""
        parts = [mechanism.plans for mechanism in self.mechanisms]
        return None if None in parts else tuple(plan for part in parts if part is not None for plan in part)

    @property
    def attained(self) -> tuple[Plan, ...] | None:
        """What each can be made to show."""
        parts = [mechanism.attained for mechanism in self.mechanisms]
        return None if None in parts else tuple(plan for part in parts if part is not None for plan in part)


@dataclass(frozen=True)
class Unbounded(Stored):
    """A job for which nothing can be guaranteed: epsilon infinite, type II error 0, delta 1."""

    reason: str
    unit: Unit = "subject"

    plans: ClassVar[None] = None
    attained: ClassVar[None] = None

    def __post_init__(self) -> None:
        require_unit(self.unit)

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Nothing is guaranteed."""
        return UnboundedProfile(self.reason)


def mechanism_from_dict(data: Mapping[str, Any]) -> Mechanism:
    """The mechanism whose `to_dict` gave `data`.

    Raises:
        InputError: the type, version, sampling or neighbouring relation is unknown, or a field is missing or wrong.
    """
    kind = data.get("type")
    if kind not in _TYPES or data.get("version") != VERSION:
        raise InputError(f"mechanism type {kind!r}, version {data.get('version')!r}: not known to this release")
    fields, circumstances = fields_of(data)
    try:
        if "mechanisms" in fields:
            fields["mechanisms"] = tuple(mechanism_from_dict(part) for part in fields["mechanisms"])
        if "mechanism" in fields:
            fields["mechanism"] = mechanism_from_dict(fields["mechanism"])
        if "mechanisms" in fields or "mechanism" in fields:
            del fields["unit"]
        mechanism: Mechanism = _TYPES[kind](**fields)
    except (KeyError, TypeError) as error:
        raise InputError(f"mechanism of type {kind}: wrong or missing field ({error})") from None
    if circumstances != (mechanism.neighbouring_relation, mechanism.sampling):
        raise InputError(
            f"mechanism of type {kind}: relation {circumstances[0]!r} with sampling {circumstances[1]!r} is not known"
        )
    return mechanism


_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Gaussian, SubsampledGaussian, ComplexGaussian, FixedSizeGaussian, BandedGaussian),
        *(Laplace, DiscreteGaussian, RandomisedResponse, DiscreteLoss),
        *(LocalGaussian, LocalRandomisedResponse),
        *(Composition, Repetition, WorstOf, Unbounded),
    )
}


def _times(plans: tuple[Plan, ...] | None, times: int) -> tuple[Plan, ...] | None:
    if plans is None:
        return None
    return tuple(tuple(release._replace(times=release.times * times) for release in plan) for plan in plans)
