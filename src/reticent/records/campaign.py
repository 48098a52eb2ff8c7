"""The state of an active-learning campaign: `private/campaign.json`."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

CAMPAIGN_SCHEMA: Final = "reticent.campaign/1"


class PlannedPhase(BaseModel):
    """One phase: see `reticent.training.active.Phase`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    selected: int
    steps: int
    noise_multiplier: float
    rates: tuple[float, ...]
    expected_batch: float


class CampaignState(BaseModel):
    """What was planned, and who was selected so far."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["reticent.campaign/1"] = Field(default=CAMPAIGN_SCHEMA, alias="schema")
    campaign: str
    created: str
    cohort: str
    classes: tuple[str, ...]
    study: dict[str, Any]
    """Options of every phase's study, but for the noise, steps and rate, which are the plan's."""
    strategy: str
    epsilon: float
    delta: float
    batch_size: int
    round_epsilon: float
    phases: tuple[PlannedPhase, ...]
    groups: tuple[tuple[str, ...], ...]
    """Subjects selected before each phase so far."""
    sessions: tuple[str, ...] = ()
    """Random ids of the selection rounds that were begun; the newest stands in the ledger."""
    ledger: str
