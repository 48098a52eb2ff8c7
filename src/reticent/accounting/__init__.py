"""Accounting: mechanisms, and every privacy number read off their trade-off curve.

>>> profile = SubsampledGaussian(noise_multiplier=1.1, sampling_rate=0.02, steps=3000).profile()
>>> print(profile.epsilon(delta=1e-5))
≤ 5.877
"""

from reticent.accounting.calibration import AdvantageTarget, EpsilonTarget, MuTarget, Target, calibrate
from reticent.accounting.filters import Charge, Filter, GaussianFilter, RenyiFilter
from reticent.accounting.mechanisms import (
    Composition,
    Gaussian,
    Mechanism,
    SubsampledGaussian,
    Unbounded,
    mechanism_from_dict,
)
from reticent.accounting.profiles import PrivacyProfile
from reticent.accounting.values import Certified, Estimate

__all__ = [
    "AdvantageTarget",
    "Certified",
    "Charge",
    "Composition",
    "EpsilonTarget",
    "Estimate",
    "Filter",
    "Gaussian",
    "GaussianFilter",
    "Mechanism",
    "MuTarget",
    "PrivacyProfile",
    "RenyiFilter",
    "SubsampledGaussian",
    "Target",
    "Unbounded",
    "calibrate",
    "mechanism_from_dict",
]
