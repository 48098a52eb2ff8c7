"""Models: networks for private training, real and complex, MONAI's by name, and the user's own."""

from reticent.models.build import Output, build_model
from reticent.models.centre_detector import CentreDetector
from reticent.models.complex_activations import Cardioid, ConjMish, IGaussian, LogMagnitude, SeparableMish
from reticent.models.complex_classifier import ComplexClassifier
from reticent.models.complex_layers import Magnitude, initialise_complex
from reticent.models.complex_norm import ComplexGroupNorm
from reticent.models.complex_pooling import MagnitudeMaxPool, PerPart
from reticent.models.fine_tuning import fine_tune
from reticent.models.hirescam import hirescam
from reticent.models.kspace import ikspace, kspace
from reticent.models.layers import NORMS
from reticent.models.linear_model import LinearModel
from reticent.models.marker_models import FUSIONS, FusionClassifier, MarkerClassifier
from reticent.models.mesh_sage import GraphNorm, MeshSage, SageLayer
from reticent.models.point_net import PointNet
from reticent.models.resnet9 import ResNet9
from reticent.models.scale_norm import add_scale_norm, additions_without_norm
from reticent.models.slice_classifier import SliceClassifier, SliceOutput
from reticent.models.small_unet import GuidedUNet, SmallUNet, UNetClassifier
from reticent.models.smooth_classifier import SmoothClassifier
from reticent.models.smoothnet import SmoothNet
from reticent.models.surface_graph import SURFACE_CHANNELS, SurfaceGraph, read_surface_graph
from reticent.models.to_complex import to_complex
from reticent.models.to_private import to_private
from reticent.models.transfer import transfer_encoder
from reticent.models.weight_standardisation import standardise_weights

__all__ = [
    "Cardioid", "CentreDetector", "ComplexClassifier", "ComplexGroupNorm", "ConjMish", "FUSIONS", "FusionClassifier",
    "GraphNorm", "GuidedUNet", "IGaussian", "LinearModel", "LogMagnitude", "Magnitude", "MagnitudeMaxPool",
    "MarkerClassifier",
    "MeshSage", "NORMS", "Output", "PerPart", "PointNet", "ResNet9", "SURFACE_CHANNELS", "SageLayer", "SeparableMish",
    "SliceClassifier", "SliceOutput", "SmallUNet", "SmoothClassifier", "SmoothNet", "SurfaceGraph", "UNetClassifier",
    "add_scale_norm", "additions_without_norm", "build_model", "fine_tune", "hirescam", "ikspace",
    "initialise_complex", "kspace", "read_surface_graph", "standardise_weights", "to_complex", "to_private",
    "transfer_encoder",
]  # fmt: skip
