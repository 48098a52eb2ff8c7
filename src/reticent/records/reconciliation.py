"""Budgets beside each other: what each allows an attacker, what an attack achieved, and what the model is worth."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from reticent.records.findings import Interval
from reticent.records.run_folder import now
from reticent.records.statement import Number

RECONCILIATION_SCHEMA: Final = "reticent.reconciliation/1"
LARGE_EPSILON: Final = 100.0
"""From here on epsilon alone says little, and the noise multiplier stands beside it."""
SMALL_CHANCE: Final = 0.05
"""Of being named: the least budget below is told beside one at which the attack alone failed."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Performance(_Record):
    """A metric on held-out patients over the runs at one budget, with Student's interval where there are several."""

    value: float
    interval: Interval | None
    runs: int


class Budget(_Record):
    """One row: a noise multiplier, from almost none to much; None is training without privacy."""

    noise_multiplier: float | None
    epsilon: Number
    worst_case: Number
    """Certified: largest chance to name the right one of all training patients, from a guess of one among them."""
    relaxed: float
    """Estimate of the same for an attacker who does not know the sign of a patient's contribution."""
    from_scratch: float
    """Chance of an error below the threshold for the best unbiased attack without candidates; it knows the steps."""
    shrinkage: float
    """The same with norm-informed shrinkage."""
    recovered: float
    """Share of images that the malicious layer gave away with an error below the threshold."""
    interval: Interval
    similarity: float
    """Mean SSIM of each image and what was most like it."""
    performance: Performance | None


class Reconciliation(_Record):
    """Rows in order of noise, training without privacy first, and what is the same in all of them."""

    schema_: Literal["reticent.reconciliation/1"] = Field(default=RECONCILIATION_SCHEMA, alias="schema")
    created: str = Field(default_factory=now)
    cohort: str
    unit: Literal["subject", "record"]
    subjects: int
    """Training subjects N; the prior of `worst_case` and `relaxed` is 1 / N."""
    sampling_rate: float
    steps: int
    participations: int
    """Steps that `from_scratch` sees."""
    metric: str
    split: str
    threshold: float
    """Mean squared error in units of [0, 1]."""
    attacked: int
    batch: int
    neurons: int
    control: float
    """Share of attacked images that as many unrelated images of others come as near to as the threshold."""
    control_similarity: float
    source: str
    """Where those come from."""
    overlap: str | None
    seed: int
    rows: tuple[Budget, ...]

    def readings(self) -> tuple[str, ...]:
        """Plain sentences: what the least noise that stopped the attack costs, and what that does not prove."""
        attacked = f"{self.attacked} {'patients' if self.unit == 'subject' else 'images'}"
        control = (
            f"Of {attacked}, as many unrelated images come within the threshold of {100 * self.control:.3g} %: that is "
            "what a match is worth without a leak."
        )
        stopped = self._least_that_stops()
        if stopped is None:
            return (
                control,
                "At the most noise, too, the attack recovered images: none of the budgets is safe from it.",
            )
        return (control, self._stopped(stopped, attacked), self._guaranteed(stopped))

    def _least_that_stops(self) -> Budget | None:
        """The least noise from which on nothing is recovered; of the budgets with a performance if one of them does."""
        last = max((place for place, row in enumerate(self.rows) if row.recovered), default=-1)
        stopping = [row for row in self.rows[last + 1 :] if row.noise_multiplier]
        return next((row for row in stopping if row.performance is not None), stopping[0] if stopping else None)

    def _stopped(self, row: Budget, attacked: str) -> str:
        upper = row.interval.upper or 1.0
        sentence = (
            f"At {budget_name(row)} no image of {attacked} was recovered (at most {100 * upper:.3g} % with "
            f"{100 * row.interval.confidence:g} % confidence)"
        )
        return f"{sentence}{self._price(row)}."

    def _price(self, row: Budget) -> str:
        """The performance beside that of the least noise; empty where it is not known."""
        best = self.rows[0]
        if row is best or row.performance is None or best.performance is None:
            return ""
        drop = best.performance.value - row.performance.value
        change = f"dropped by {drop:.3f}" if drop >= 0 else f"rose by {-drop:.3f}"
        return f", while {self.metric} {change} from {best.performance.value:.3f} at {budget_name(best)}"

    def _guaranteed(self, row: Budget) -> str:
        bound = _most(row)
        sentence = (
            "This says something of one attack, which has neither candidates nor an idea of such images; what is "
            "guaranteed at that budget, against every attack, is that the right one of "
            f"{self.subjects:,} is named with probability of at most {bound:.3g}{', that is nothing' * (bound > 0.99)}."
        )
        safer = next((other for other in self.rows if other.performance and _most(other) < SMALL_CHANCE), None)
        if bound < SMALL_CHANCE or safer is None:
            return sentence
        return f"{sentence} At {budget_name(safer)} it is at most {_most(safer):.2g}{self._price(safer)}."


def _most(row: Budget) -> float:
    return 1.0 if row.worst_case.upper is None else row.worst_case.upper


def budget_name(row: Budget) -> str:
    """Epsilon, with the noise multiplier beside it where it is large."""
    if row.noise_multiplier is None:
        return "no privacy"
    noise = f"noise multiplier {row.noise_multiplier:.3g}"
    epsilon, delta = row.epsilon.upper, row.epsilon.delta
    if epsilon is None:
        return noise
    at = "" if delta is None else f" at delta = {delta:g}"
    told = f"epsilon = {row.epsilon}{at}"
    return f"{told} ({noise})" if epsilon > LARGE_EPSILON else told
