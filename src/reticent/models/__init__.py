"""Models: networks for private training, MONAI's by name, and the user's own."""

from reticent.models.build import build_model
from reticent.models.resnet9 import ResNet9
from reticent.models.scale_norm import add_scale_norm
from reticent.models.small_unet import SmallUNet
from reticent.models.smooth_classifier import SmoothClassifier
from reticent.models.smoothnet import SmoothNet
from reticent.models.to_private import to_private

__all__ = [
    "ResNet9", "SmallUNet", "SmoothClassifier", "SmoothNet", "add_scale_norm", "build_model", "to_private",
]  # fmt: skip
