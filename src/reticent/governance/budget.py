"""Budgets: what all jobs on one patient may spend together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reticent.accounting import Filter, GaussianFilter, RenyiFilter
from reticent.errors import InputError


@dataclass(frozen=True)
class Budget:
    """Either `mu`, or `epsilon` at `delta`, for everything that is ever computed on one subject.

    Raises:
        InputError: neither or both are given, or a number is out of range.
    """

    mu: float | None = None
    epsilon: float | None = None
    delta: float | None = None

    def __post_init__(self) -> None:
        pair = (self.epsilon is not None, self.delta is not None)
        if (self.mu is not None and any(pair)) or (self.mu is None and not all(pair)):
            raise InputError("a budget is either mu=M or epsilon=E,delta=D, for instance epsilon=8,delta=1e-5")
        self.filter()

    @classmethod
    def parse(cls, text: str, default_delta: float | None = None) -> "Budget":
        """The budget written "mu=2" or "epsilon=8,delta=1e-5"; `default_delta` serves where delta is left out.

        Raises:
            InputError: the text is none of these.
        """
        values: dict[str, float] = {}
        for part in text.split(","):
            name, _, number = (piece.strip() for piece in part.partition("="))
            if name not in ("mu", "epsilon", "delta") or name in values:
                raise InputError(f"budget {text!r}: {part!r} is not one of mu=…, epsilon=…, delta=…")
            try:
                values[name] = float(number)
            except ValueError:
                raise InputError(f"budget {text!r}: {name} is {number!r}; give a number") from None
        if "epsilon" in values and default_delta is not None:
            values.setdefault("delta", default_delta)
        return cls(**values)

    def filter(self) -> Filter:
        """The proven rule that admits jobs chosen one after the other under this budget."""
        if self.mu is not None:
            return GaussianFilter(self.mu)
        assert self.epsilon is not None
        assert self.delta is not None
        return RenyiFilter(self.epsilon, self.delta)

    def to_dict(self) -> dict[str, float]:
        """JSON form."""
        fields = {"mu": self.mu, "epsilon": self.epsilon, "delta": self.delta}
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Budget":
        """The budget whose `to_dict` gave `data`."""
        return cls(**data)

    def __str__(self) -> str:
        return ",".join(f"{name}={value:g}" for name, value in self.to_dict().items())
