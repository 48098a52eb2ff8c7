"""What the readers of cohorts are told beside the address."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from reticent.data.markers import Marker
from reticent.data.surfaces.reader import SurfaceOptions

Progress = Callable[[str, int, int], None]
"""Told of long work: its stage, how much is done, and how much there is."""


@dataclass(frozen=True)
class Opening:
    """The options of `open_cohort`, where they are described; each reader takes those of its form."""

    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] = ()
    markers: Sequence[Marker] = ()
    targets: Sequence[str] = ()
    surfaces: SurfaceOptions = field(default_factory=SurfaceOptions)
    download: bool = False
    strict: bool = True
    labelled: bool = True
    progress: Progress | None = None

    @property
    def predicting(self) -> bool:
        """Whether nothing but the records' inputs is asked for."""
        return not (self.strict or self.labelled)
