"""Options that every attack has."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class AttackOptions(BaseModel):
    """An attack with options of its own subclasses it; `reticent audit --set NAME.OPTION=VALUE` sets them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of intervals and of empirical lower bounds."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """All that the attack draws; None: drawn once for the audit, and recorded with each finding."""
    jobs: Annotated[int, Field(ge=1)] = 1
    """Trainings at a time."""
    backend: str = "loky"
    """joblib's back end."""
