"""Accounting: mechanisms, and every privacy number read off their trade-off curve. NumPy and SciPy are all it needs.

>>> profile = SubsampledGaussian(noise_multiplier=1.1, sampling_rate=0.02, steps=3000).profile()
>>> print(profile.epsilon(delta=1e-5), profile.power(0.01), profile.reconstruction(prior=1e-4))
≤ 5.877 ≤ 0.1384 ≤ 0.006987
"""

from reticent.accounting.calibration import Calibration, calibrate, two_step
from reticent.accounting.comparison import Comparison, bayes_error, compare, delta_divergence
from reticent.accounting.dp_events import from_dp_event, to_dp_event
from reticent.accounting.filters import Charge, Filter, GaussianFilter, RenyiFilter
from reticent.accounting.from_scratch import FromScratchAttack, ReconstructionNoise, noise_for_reconstruction
from reticent.accounting.gdp import GdpStatement, gdp_statement, mu_of_laplace, mu_of_pure_dp
from reticent.accounting.glrt import GLRTAdversary, compose_glrt, compose_sampled_glrt, threat_model_table
from reticent.accounting.loss import Loss, Masses
from reticent.accounting.loss_bounds import Release
from reticent.accounting.mechanisms import (
    SHUFFLED,
    BandedGaussian,
    ComplexGaussian,
    Composition,
    DiscreteGaussian,
    DiscreteLoss,
    FixedSizeGaussian,
    Gaussian,
    Laplace,
    LocalGaussian,
    LocalRandomisedResponse,
    Mechanism,
    RandomisedResponse,
    Repetition,
    SubsampledGaussian,
    Unbounded,
    UntilSelected,
    WorstOf,
    mechanism_from_dict,
)
from reticent.accounting.profiles import PrivacyProfile
from reticent.accounting.risk_corridor import RiskCorridor, risk_corridor
from reticent.accounting.sensitivity_index import SensitivityIndex, central_limit_psi
from reticent.accounting.targets import (
    AdvantageTarget,
    EpsilonTarget,
    ErrorRatesTarget,
    MuTarget,
    PrecisionTarget,
    ReconstructionTarget,
    Target,
)
from reticent.accounting.values import Certified, EmpiricalLowerBound, Estimate

__all__ = [
    "AdvantageTarget",
    "BandedGaussian",
    "Calibration",
    "Certified",
    "Charge",
    "Comparison",
    "ComplexGaussian",
    "Composition",
    "DiscreteGaussian",
    "DiscreteLoss",
    "EmpiricalLowerBound",
    "EpsilonTarget",
    "ErrorRatesTarget",
    "Estimate",
    "Filter",
    "FixedSizeGaussian",
    "FromScratchAttack",
    "GLRTAdversary",
    "Gaussian",
    "GaussianFilter",
    "GdpStatement",
    "Laplace",
    "LocalGaussian",
    "LocalRandomisedResponse",
    "Loss",
    "Masses",
    "Mechanism",
    "MuTarget",
    "PrecisionTarget",
    "PrivacyProfile",
    "RandomisedResponse",
    "ReconstructionNoise",
    "ReconstructionTarget",
    "Release",
    "RenyiFilter",
    "Repetition",
    "RiskCorridor",
    "SHUFFLED",
    "SensitivityIndex",
    "SubsampledGaussian",
    "Target",
    "Unbounded",
    "UntilSelected",
    "WorstOf",
    "bayes_error",
    "calibrate",
    "central_limit_psi",
    "compare",
    "compose_glrt",
    "compose_sampled_glrt",
    "delta_divergence",
    "from_dp_event",
    "gdp_statement",
    "mechanism_from_dict",
    "mu_of_laplace",
    "mu_of_pure_dp",
    "noise_for_reconstruction",
    "risk_corridor",
    "threat_model_table",
    "to_dp_event",
    "two_step",
]
