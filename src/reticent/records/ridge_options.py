"""The model that is no network, and the options it has no use for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from reticent.records.options import ModelOptions, PrivacyOptions, TrainingOptions

RIDGE: Final = "ridge"
"""The name of the model that is solved from second moments, which are released once."""


def ridge_conflict(privacy: PrivacyOptions, model: ModelOptions, training: TrainingOptions) -> str | None:
    """The first option that a ridge regression has no use for; None if there is none."""
    given = {
        "--steps or --sampling-rate": privacy.steps != 1 or privacy.sampling_rate != 1,
        "--epochs": privacy.epochs is not None,
        "--noise banded": privacy.noise == "banded",
        "--private-activations": privacy.private_activations,
        "--init-from": model.init_from is not None,
        "--scale-norm or --standardise-weights": model.scale_norm or model.standardise_weights,
        "--optimiser or --learning-rate": (training.optimiser, training.learning_rate) != ("nadam", 1e-2),
        "--schedule or --ema-decay": training.schedule != "cosine" or training.ema_decay != 0,
        "--augment light": training.augment != "none",
        "--bias-aware": training.bias_aware > 0,
        "--clipping": training.clipping != "flat",
        "--loss shrinkage": training.loss != "squared",
        "--class-weights": training.class_weights != "none",
    }
    return next((option for option, said in given.items() if said), None)
