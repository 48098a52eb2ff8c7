"""Usual windows of CT, in Hounsfield units, by name."""

from math import inf, isfinite

from reticent.errors import InputError

WINDOWS = {
    "abdomen": (50.0, 400.0), "bone": (400.0, 1800.0), "brain": (40.0, 80.0), "liver": (30.0, 150.0),
    "lung": (-600.0, 1500.0), "mediastinum": (50.0, 350.0), "soft-tissue": (40.0, 400.0), "spine": (50.0, 250.0),
    "stroke": (40.0, 40.0), "subdural": (75.0, 215.0), "temporal-bone": (600.0, 2800.0),
}  # fmt: skip
"""Centre and width, as radiology texts give them."""


def parse_window(text: str) -> tuple[float, float]:
    """Centre and width of a window by its name, or of "CENTRE,WIDTH"; raises InputError for anything else."""
    if text in WINDOWS:
        return WINDOWS[text]
    try:
        centre, width = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--window {text}: say CENTRE,WIDTH or one of {', '.join(WINDOWS)}") from None
    if not isfinite(centre) or not 0 < width < inf:
        raise InputError(f"--window {text}: say a finite centre, and a finite width above 0")
    return centre, width
