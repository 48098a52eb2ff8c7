"""Mechanisms made of others, and jobs for which nothing can be guaranteed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from reticent.accounting.checks import require_steps
from reticent.accounting.loss_bounds import Release
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
from reticent.accounting.stopping import stopping_loss
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
class UntilSelected(_Several):
    """Rounds of one `mechanism` on a unit until it is selected, whereupon the round's own of `mechanisms` follows.

    Of R mechanisms, the k-th follows selection after k rounds; a unit that is never selected is in R rounds and no
    more. Which units are selected may depend on everything that was released so far, so that the worst of the R + 1
    sequences is not a bound: see `stopping_loss`. A unit that is absent keeps its place among those to select from, as
    one without data: what it adds to every sum is zero, and its answer in a round is any one of the possible ones.

    Raises:
        InputError: there are no mechanisms to follow, or they differ in their unit or neighbouring relation.
    """

    mechanism: Mechanism
    mechanisms: tuple[Mechanism, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mechanisms", tuple(self.mechanisms))
        self._require_alike("a selection")
        Composition((self.mechanism, self.mechanisms[0]))

    @property
    def sampling(self) -> str:  # type: ignore[override]
        """That of a composition of all."""
        return Composition((self.mechanism, *self.mechanisms)).sampling

    @property
    def sequences(self) -> tuple[Mechanism, ...]:
        """What a unit goes through that is selected after 1, 2, ... rounds, and that of one never selected."""
        chosen = [Composition((Repetition(self.mechanism, k), m)) for k, m in enumerate(self.mechanisms, start=1)]
        return (*chosen, Repetition(self.mechanism, len(self.mechanisms)))

    @cached_property
    def plans(self) -> tuple[Plan, ...] | None:
        """A single loss that dominates all ways to select."""
        if self.mechanism.plans is None or self._reason() is not None:
            return None
        loss = stopping_loss(self.mechanism.profile(), [mechanism.profile() for mechanism in self.mechanisms])
        return ((Release(loss, 1),),)

    @property
    def attained(self) -> tuple[Plan, ...] | None:
        """What the sequences can be made to show."""
        return WorstOf(self.sequences).attained


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
        *(Composition, Repetition, WorstOf, UntilSelected, Unbounded),
    )
}


def _times(plans: tuple[Plan, ...] | None, times: int) -> tuple[Plan, ...] | None:
    if plans is None:
        return None
    return tuple(tuple(release._replace(times=release.times * times) for release in plan) for plan in plans)
