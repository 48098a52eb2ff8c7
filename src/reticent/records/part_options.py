"""Options of a cohort that name a part of its records or of their table."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Index = Annotated[int, Field(ge=0)]


class FoldOptions(BaseModel):
    """Outer fold `number` of `folds` in a repeat; with `inner_folds` one inner fold of its training subjects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folds: Annotated[int, Field(ge=2)]
    number: _Index
    repeat: _Index = 0
    inner_folds: _Index = 0
    inner_number: _Index = 0

    @property
    def place(self) -> tuple[int, int, int, int, int]:
        """For `reticent.data.FoldPlace`."""
        return (self.folds, self.number, self.repeat, self.inner_folds, self.inner_number)


def has_scale(declaration: str) -> bool:
    """Whether a marker's declaration holds its centre and scale."""
    return any(part.strip() and part.strip() != "log" and ".." not in part for part in declaration.split(","))
