"""Active learning: which subjects to label next, under one guarantee for selection and training."""

from reticent.training.active.acquisition import STRATEGIES, Acquisition, acquisition, k_center
from reticent.training.active.planning import ActivePlan, Phase, plan_step_amplification
from reticent.training.active.sampling import phase_sampler
from reticent.training.active.selection import private_top_k, random_k, subject_scores

__all__ = [
    "STRATEGIES",
    "Acquisition",
    "ActivePlan",
    "Phase",
    "acquisition",
    "k_center",
    "phase_sampler",
    "plan_step_amplification",
    "private_top_k",
    "random_k",
    "subject_scores",
]
