"""Priors: what an attacker knows of such images before looking."""

from reticent.attacks.reconstruction.priors.diffusion import DiffusionPrior
from reticent.attacks.reconstruction.priors.empirical import EmpiricalPrior
from reticent.attacks.reconstruction.priors.gaussian import GaussianPrior
from reticent.attacks.reconstruction.priors.prior import Mode, Prior

__all__ = ["DiffusionPrior", "EmpiricalPrior", "GaussianPrior", "Mode", "Prior"]
