"""Reconstruction of images: from gradients, with and without a prior, beside what the mathematics allows."""

from reticent.attacks.reconstruction.comparison import Compared, compared, share
from reticent.attacks.reconstruction.identification import candidate_gradients, fingerprints, play_identification
from reticent.attacks.reconstruction.image_grid import Column, save_grid
from reticent.attacks.reconstruction.imprint import alone_in_a_bin, imprint, read_imprint
from reticent.attacks.reconstruction.inversion import SEARCHES, Inversion, Search, invert_gradient
from reticent.attacks.reconstruction.linear_layer import invert_linear, label_counts, label_of_one
from reticent.attacks.reconstruction.matching import Matching, match_reconstructions, reidentified
from reticent.attacks.reconstruction.observed import Defence, observed_gradient
from reticent.attacks.reconstruction.on_runs.material import ReconstructionOptions
from reticent.attacks.reconstruction.optimal_linear import LinearAttack, optimal_linear_attack
from reticent.attacks.reconstruction.priors import DiffusionPrior, EmpiricalPrior, GaussianPrior, Prior
from reticent.attacks.reconstruction.reconciliation import Protocol, reconcile
from reticent.attacks.reconstruction.scores import ms_ssim, mse, ncc, psnr, score, ssim
from reticent.attacks.reconstruction.soft_loss import soft_loss, soft_targets
from reticent.attacks.reconstruction.sweep_reconciliation import reconcile_sweep
from reticent.attacks.reconstruction.trap_weights import read_rows, trap
from reticent.attacks.reconstruction.visual import VisualAudit, privatise_image, smallest_hiding_noise, visual_audit

__all__ = [
    "SEARCHES", "Column", "Compared", "Defence", "DiffusionPrior", "EmpiricalPrior", "GaussianPrior", "Inversion",
    "LinearAttack", "Matching", "Prior", "Protocol", "ReconstructionOptions", "Search", "VisualAudit", "alone_in_a_bin",
    "candidate_gradients", "compared", "fingerprints", "imprint", "invert_gradient", "invert_linear", "label_counts",
    "label_of_one", "match_reconstructions", "ms_ssim", "mse", "ncc", "observed_gradient", "optimal_linear_attack",
    "play_identification", "privatise_image", "psnr", "read_imprint", "read_rows", "reconcile", "reconcile_sweep",
    "reidentified", "save_grid", "score", "share", "smallest_hiding_noise", "soft_loss", "soft_targets", "ssim", "trap",
    "visual_audit",
]  # fmt: skip
