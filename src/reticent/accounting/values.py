"""What an accounting question is answered with: a certified pair of bounds, an estimate, or what an attack showed."""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal

DIGITS = 4


@dataclass(frozen=True)
class Certified:
    """A number proven to lie in [lower, upper]; `guarantee` names the side that is safe to rely on.

    Risks (epsilon, delta, mu, advantage) are guaranteed from above, the adversary's type II error from below.
    """

    lower: float
    upper: float
    guarantee: Literal["upper", "lower"]

    @property
    def exact(self) -> bool:
        """Whether a closed form gives the number, up to floating-point rounding."""
        return self.lower == self.upper

    @property
    def safe(self) -> float:
        """The guaranteed side."""
        return self.upper if self.guarantee == "upper" else self.lower

    def to_dict(self) -> dict[str, float | str | None]:
        """JSON form: `lower`, `upper` and `kind`: "exact", "upper bound", "lower bound" or "unbounded".

        An "upper bound" is a bracket of which the upper end is guaranteed, a "lower bound" likewise; nothing finite
        can be said where it is "unbounded", and both sides are null.
        """
        if math.isinf(self.upper):
            return {"lower": None, "upper": None, "kind": "unbounded"}
        return {"lower": self.lower, "upper": self.upper, "kind": "exact" if self.exact else f"{self.guarantee} bound"}

    def __str__(self) -> str:
        """The guaranteed side, rounded to four significant digits away from the optimistic direction."""
        sign = "" if self.exact else "≤ " if self.guarantee == "upper" else "≥ "
        return sign + _rounded(self.safe, ROUND_CEILING if self.guarantee == "upper" else ROUND_FLOOR)


@dataclass(frozen=True)
class Estimate:
    """A number that is no bound, and the method it comes from."""

    value: float
    method: str

    def to_dict(self) -> dict[str, float | str | None]:
        """JSON form: no bounds, `value`, and `kind` "estimate"."""
        return {"lower": None, "upper": None, "value": self.value, "kind": "estimate"}

    def __str__(self) -> str:
        return f"≈ {self.value:.{DIGITS}g}"


@dataclass(frozen=True)
class EmpiricalLowerBound:
    """What an attack showed: the quantity is at least `value`, unless a chance of 1 - `confidence` came true.

    It says nothing about how much larger the quantity is: another attack may show more. Never mixed with `Certified`.
    """

    value: float
    confidence: float
    method: str

    def to_dict(self) -> dict[str, float | str | None]:
        """JSON form: `lower`, no `upper`, `confidence`, `method`, and `kind` "empirical lower bound"."""
        return {
            "lower": self.value, "upper": None, "confidence": self.confidence, "method": self.method,
            "kind": "empirical lower bound",
        }  # fmt: skip

    def __str__(self) -> str:
        """The bound rounded down to four significant digits, with its confidence."""
        return f"≥ {_rounded(self.value, ROUND_FLOOR)} ({100 * self.confidence:g} %)"


def _rounded(value: float, rounding: str) -> str:
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    exact = Decimal(value)
    kept = exact.quantize(Decimal(1).scaleb(exact.adjusted() - DIGITS + 1), rounding=rounding)
    return f"{kept:f}" if abs(kept.adjusted()) < DIGITS + 1 else f"{kept:e}"
