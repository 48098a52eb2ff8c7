"""Models: the default networks for private training, MONAI's by name, and the user's own."""

from reticent.models.build import build_model
from reticent.models.small_unet import SmallUNet
from reticent.models.smooth_classifier import SmoothClassifier
from reticent.models.to_private import to_private

__all__ = ["SmallUNet", "SmoothClassifier", "build_model", "to_private"]
