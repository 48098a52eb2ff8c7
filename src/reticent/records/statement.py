"""The privacy statement: `release/privacy.json`, and the same in words."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from reticent.accounting import Certified, Estimate, Mechanism

STATEMENT_SCHEMA: Final = "reticent.privacy/1"

MU_RANGE = 1e-10
"""mu is stated for attacks whose error rates, false positives and false negatives, are both at least this."""


class Number(BaseModel):
    """A figure with its kind: "exact", "upper bound", "lower bound", "bracket", "estimate" or "unbounded"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lower: float | None
    upper: float | None
    kind: str
    value: float | None = None
    """Only for an estimate."""
    delta: float | None = None
    """Only for epsilon: the probability that goes with it."""
    alpha_min: float | None = None
    """Only for mu: it holds for attacks whose false-positive and false-negative rates are both at least this."""

    @classmethod
    def of(cls, result: Certified | Estimate, *, delta: float | None = None, alpha_min: float | None = None) -> Self:
        """From an accounting result, with the probability or range it is stated for."""
        if isinstance(result, Estimate):
            return cls(lower=None, upper=None, kind="estimate", value=result.value, delta=delta, alpha_min=alpha_min)
        kind = str(result.to_dict()["kind"])
        if math.isinf(result.upper):
            return cls(lower=None, upper=None, kind="unbounded", delta=delta, alpha_min=alpha_min)
        return cls(lower=result.lower, upper=result.upper, kind=kind, delta=delta, alpha_min=alpha_min)

    def __str__(self) -> str:
        if self.kind == "unbounded":
            return "unbounded"
        if self.kind == "estimate":
            return f"about {self.value:.4g} (estimate)"
        assert self.upper is not None
        return f"{round_up(self.upper):g}"


def round_up(value: float, digits: int = 4) -> float:
    """`value` rounded to significant digits, never below itself."""
    if value == 0 or not math.isfinite(value):
        return value
    rounded = float(f"{value:.{digits - 1}e}")
    if rounded >= value:
        return rounded
    step = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
    return float(f"{rounded + step:.{digits - 1}e}")


_NEARLY_CERTAIN = 0.99
"""Membership advantage from which on a guarantee is weak: mu = 5.2, or of a Gaussian epsilon = 35 at delta = 1e-5."""


class PrivacyStatement(BaseModel):
    """What is guaranteed, for whom, under which mechanism, and what is not."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["reticent.privacy/1"] = Field(default=STATEMENT_SCHEMA, alias="schema")
    run: str
    created: str
    """When the run began, UTC, ISO 8601."""
    weights_sha256: str
    """Of `model.safetensors`, which this statement is about."""
    releasable: bool
    mechanism: dict[str, Any]
    unit: str
    neighbouring_relation: str
    sampling: str
    noise_multiplier: float | None
    sampling_rate: float | None
    """None for a phase of a labelling campaign: its groups of patients have rates of their own."""
    steps: int
    max_norm: float | None
    max_records_per_subject: int
    epsilon: Number
    delta: float
    mu: Number
    advantage: Number
    tradeoff: tuple[tuple[float, float | None], ...]
    """(type I error alpha, guaranteed type II error beta of the best attack)."""
    not_covered: tuple[str, ...]
    random_source: str
    public_weights: dict[str, str] | None = None
    """SHA-256 and declared origin of the first weights."""
    composed_runs: tuple[str, ...] = ()
    """Earlier runs on the same patients that the first weights come from: their mechanisms are part of `mechanism`."""
    software: dict[str, str]

    @property
    def excludes_little(self) -> bool:
        """Whether the guarantee admits an attack that is hardly ever wrong about who took part."""
        return self.advantage.upper is None or self.advantage.upper >= _NEARLY_CERTAIN

    def words(self) -> tuple[str, ...]:
        """The statement as sentences for a data-protection officer."""
        who = "patient" if self.unit == "subject" else "single record (image), not patient,"
        if self.epsilon.kind == "unbounded":
            return (
                "This model was trained WITHOUT differential privacy. Nothing is guaranteed about what it reveals; "
                "it is not releasable on the strength of this record.",
            )
        one = "patient" if self.unit == "subject" else "record"
        changes = {"add-or-remove-one": "present or absent", "replace-one": "replaced by another"}
        parts = _parts(self.mechanism)
        features, labels = "LocalGaussian" in parts, "LocalRandomisedResponse" in parts
        alike = " with the same labels" * (features and not labels)
        protected = f"Every {who} in the training data is"
        if features:
            protected = f"The image features{' and the label' * labels} of every {who} in the training data are"
        campaign = self.sampling_rate is None and not features
        place = ", the absent one's place among those to label being kept" if campaign else ""
        sentences = [
            f"{protected} protected by differential privacy: {_bound('epsilon', self.epsilon)} "
            f"at delta = {self.delta:g} ({self.epsilon.kind}); compared are cohorts with one {one} "
            f"{changes[self.neighbouring_relation]}{alike}{place} ({self.neighbouring_relation}).",
            f"In the language of Gaussian differential privacy: {_bound('mu', self.mu)} ({self.mu.kind}), for every "
            f"attack whose rates of false alarms and of misses are both at least {self.mu.alpha_min:g}.",
        ]
        if features and not labels:
            sentences.insert(1, "Labels: not covered, they are used as public.")
        if self.advantage.upper is not None:
            other = " or another one" * (self.neighbouring_relation == "replace-one")
            share = round_up(100 * self.advantage.upper, 3)
            sentences.append(
                f"Whoever tries to tell from the model whether one {one}{other} "
                f"was among the training data gains at most {share:g} percentage points over guessing "
                f"(membership advantage, {self.advantage.kind})."
            )
        if not self.releasable:
            sentences.insert(0, "The noise came from a seeded source: this run is a test and NOT releasable.")
        return tuple(sentences)


def _parts(mechanism: dict[str, Any]) -> set[str]:
    """The types of a stored mechanism and of those that it is made of."""
    inner = [*mechanism.get("mechanisms", ()), *([mechanism["mechanism"]] if "mechanism" in mechanism else ())]
    return {str(mechanism["type"])}.union(*(_parts(part) for part in inner))


def _bound(name: str, number: Number) -> str:
    return f"{name} is {number}" if number.kind in ("exact", "estimate") else f"{name} <= {number}"


def privacy_numbers(mechanism: Mechanism, delta: float) -> dict[str, Any]:
    """The figures of a statement, read off the mechanism's trade-off curve."""
    profile = mechanism.profile()
    alphas = [10.0 ** (k / 4) for k in range(-24, 0)] + [0.7, 0.8, 0.9]
    curve = profile.tradeoff(alphas)
    betas = [None if isinstance(point, Estimate) else point.lower for point in curve]
    return {
        "mechanism": mechanism.to_dict(),
        "unit": mechanism.unit,
        "neighbouring_relation": mechanism.neighbouring_relation,
        "sampling": mechanism.sampling,
        "epsilon": Number.of(profile.epsilon(delta), delta=delta),
        "delta": delta,
        "mu": Number.of(profile.mu(alpha_min=MU_RANGE), alpha_min=MU_RANGE),
        "advantage": Number.of(profile.advantage()),
        "tradeoff": tuple(zip(alphas, betas, strict=True)),
    }
