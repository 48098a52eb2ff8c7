"""What a mechanism is: data that can be stored, composed and accounted for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal, Protocol, get_args

from reticent.accounting.loss_bounds import Release
from reticent.accounting.loss_profile import LossProfile
from reticent.accounting.plans import gaussian_mu
from reticent.accounting.profiles import GaussianProfile, PrivacyProfile
from reticent.errors import InputError

Unit = Literal["subject", "record"]
Plan = tuple[Release, ...]

ADD_OR_REMOVE, REPLACE = "add-or-remove-one", "replace-one"
VERSION = 1
ACCURACY = 1e-5


class Mechanism(Protocol):
    """A private computation: its neighbouring relation, sampling scheme, unit of privacy, cost and stored form.

    A third party's own needs no more than these members. It composes with all others through `plans`.
    """

    @property
    def neighbouring_relation(self) -> str:
        """Which cohorts count as neighbours."""

    @property
    def sampling(self) -> str:
        """How each step draws its units: "none", "poisson", "cyclic-poisson" or "fixed-size"."""

    @property
    def unit(self) -> Unit:
        """What one unit of privacy is."""

    @property
    def plans(self) -> tuple[Plan, ...] | None:
        """Releases that dominate it; several where a unit follows one of several plans. None without privacy."""

    @property
    def attained(self) -> tuple[Plan, ...] | None:
        """Releases that it can be made to show, on which lower bounds rest; the `plans` themselves where tight."""

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Its privacy profile; `accuracy` is the relative width of epsilon's bounds that is aimed at."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""


class Stored:
    """A mechanism that is a frozen dataclass: its JSON form is its fields, with its type, version and circumstances."""

    neighbouring_relation: ClassVar[str] = ADD_OR_REMOVE
    sampling: ClassVar[str] = "none"

    def to_dict(self) -> dict[str, Any]:
        """JSON form, understood by `mechanism_from_dict`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {
            "type": type(self).__name__,
            "version": VERSION,
            **{name: _plain(value) for name, value in fields.items()},
            "unit": self.unit,  # type: ignore[attr-defined]
            "neighbouring_relation": self.neighbouring_relation,
            "sampling": self.sampling,
        }


def profile_of(
    plans: Sequence[Plan], attained: Sequence[Plan] | None = None, accuracy: float = ACCURACY
) -> PrivacyProfile:
    """The profile of the worst of the plans: in closed form if there is but one, of plain Gaussians."""
    mu = gaussian_mu(plans[0]) if len(plans) == 1 else None
    return LossProfile(plans, attained, accuracy) if mu is None else GaussianProfile(mu)


def require_unit(unit: str) -> None:
    """Raise `InputError` unless the unit is known."""
    if unit not in get_args(Unit):
        raise InputError(f'unit is {unit!r}; give "subject" or "record"')


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, str):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def fields_of(data: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Any, Any]]:
    """The dataclass fields of a stored mechanism, and its stated neighbouring relation and sampling."""
    fields = {name: value for name, value in data.items() if name not in ("type", "version")}
    return fields, (fields.pop("neighbouring_relation", None), fields.pop("sampling", None))
