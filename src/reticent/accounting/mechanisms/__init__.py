"""Mechanisms: what touched private data, as data that can be stored, composed and accounted for."""

from reticent.accounting.mechanisms.composition import (
    SHUFFLED,
    Composition,
    Repetition,
    Unbounded,
    UntilSelected,
    WorstOf,
    mechanism_from_dict,
)
from reticent.accounting.mechanisms.discrete import DiscreteGaussian, DiscreteLoss, Laplace, RandomisedResponse
from reticent.accounting.mechanisms.gaussian import (
    BandedGaussian,
    ComplexGaussian,
    FixedSizeGaussian,
    Gaussian,
    SubsampledGaussian,
)
from reticent.accounting.mechanisms.local import LocalGaussian, LocalRandomisedResponse
from reticent.accounting.mechanisms.mechanism import Mechanism, Unit

__all__ = [
    "BandedGaussian",
    "ComplexGaussian",
    "Composition",
    "DiscreteGaussian",
    "DiscreteLoss",
    "FixedSizeGaussian",
    "Gaussian",
    "Laplace",
    "LocalGaussian",
    "LocalRandomisedResponse",
    "Mechanism",
    "RandomisedResponse",
    "Repetition",
    "SHUFFLED",
    "SubsampledGaussian",
    "Unbounded",
    "UntilSelected",
    "Unit",
    "WorstOf",
    "mechanism_from_dict",
]
