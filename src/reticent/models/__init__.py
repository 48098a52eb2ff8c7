"""Models: networks for private training, MONAI's by name, and the user's own."""

from reticent.models.build import build_model
from reticent.models.fine_tuning import fine_tune
from reticent.models.layers import NORMS
from reticent.models.resnet9 import ResNet9
from reticent.models.scale_norm import add_scale_norm, joins_without_norm
from reticent.models.small_unet import SmallUNet
from reticent.models.smooth_classifier import SmoothClassifier
from reticent.models.smoothnet import SmoothNet
from reticent.models.to_private import to_private
from reticent.models.weight_standardisation import standardise_weights

__all__ = [
    "NORMS", "ResNet9", "SmallUNet", "SmoothClassifier", "SmoothNet", "add_scale_norm", "build_model", "fine_tune",
    "joins_without_norm",     "standardise_weights", "to_private",
]  # fmt: skip
