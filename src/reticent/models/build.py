"""Networks by name: the defaults, MONAI's, and the user's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from reticent.errors import InputError, first_line
from reticent.models.centre_detector import CentreDetector
from reticent.models.complex_classifier import ComplexClassifier
from reticent.models.linear_model import LinearModel
from reticent.models.marker_models import FusionClassifier, MarkerClassifier
from reticent.models.mesh_sage import MeshSage
from reticent.models.point_net import PointNet
from reticent.models.resnet9 import ResNet9
from reticent.models.slice_classifier import SliceClassifier, slice_encoder
from reticent.models.small_unet import GuidedUNet, SmallUNet, UNetClassifier
from reticent.models.smooth_classifier import SmoothClassifier
from reticent.models.smoothnet import SmoothNet

Output = Literal["vector", "mask", "vector and mask", "boxes"]
"""What a network gives for a record: numbers (outputs,), (outputs, *image size), the two as a tuple with two outputs a
pixel, or maps of a quarter of the size."""
_VECTORS = ("markers", "missing")
_ALIASES = {
    "out_channels": ("out_channels", "num_classes", "n_classes"),
    "image_size": ("image_size", "img_size"),
}


def build_model(
    name: str,
    *,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    image_size: Sequence[int],
    output: Output = "vector",
    vectors: Mapping[str, int] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network called `name`, freshly initialised.

    `"default"` is `SmoothClassifier`, for masks `SmallUNet`, for labels and masks `GuidedUNet`, for boxes
    `CentreDetector` (`"centre-detector"`), for surfaces `MeshSage` (`"mesh-sage"`), and with `vectors`, lengths by
    name, `FusionClassifier` (`"fusion"`); `"smoothnet"`, `"resnet9"`, `"complex"` and `"pointnet"` are `SmoothNet`,
    `ResNet9`, `ComplexClassifier` and `PointNet`; `"unet-encoder"` is `UNetClassifier`, `"slices"` a `SliceClassifier`,
    `"markers"` a `MarkerClassifier`, `"ridge"` a `LinearModel`; `"monai:NAME"` a class of `monai.networks.nets`;
    `"package.module:factory"` the user's own. A factory is called with `arguments` and with those of `spatial_dims`,
    `in_channels`, `out_channels` (also `num_classes`, `n_classes`), `image_size` (also `img_size`) and `vectors` that
    its signature names.

    Raises:
        InputError: there is no such network, or it does not take the arguments.
    """
    if vectors:
        _require_vectors(name, output)
    factory = _factory("fusion" if name == "default" and vectors else name, output, spatial_dims)
    known = {
        "spatial_dims": spatial_dims,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "image_size": tuple(image_size),
        "vectors": dict(vectors or {}),
    }
    try:
        accepted = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise InputError(f"model {name!r} is not a network or a function that makes one ({error})") from error
    filled = {
        alias: value for key, value in known.items() for alias in _ALIASES.get(key, (key,)) if alias in accepted
    } | dict(arguments or {})
    try:
        model = factory(**filled)
    except Exception as error:  # whatever a network of others may raise
        raise InputError(f"model {name!r} cannot be built with {filled}: {first_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name!r} gave a {type(model).__name__}, not a torch.nn.Module")
    return model


def slices(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    image_size: Sequence[int],
    encoder: str = "default",
    features: int = 64,
    encoder_arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> SliceClassifier:
    """A `SliceClassifier` on `slice_encoder`, or the 2-D network of another name, whose outputs are a slice's features.

    Raises:
        InputError: the images are no volumes, or the encoder or the options do not fit.
    """
    if spatial_dims != 3:
        raise InputError("model 'slices' reads volumes, and these are images: name its encoder as the model")
    if encoder == "default":
        network: nn.Module = slice_encoder(in_channels, features, **(encoder_arguments or {}))
    else:
        network = build_model(
            encoder,
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=features,
            image_size=(max(image_size),) * 2,
            arguments=encoder_arguments,
        )
    return SliceClassifier(network, out_channels, features, **options)


def markers(
    vectors: Mapping[str, int], out_channels: int, hidden: int = 0, inputs: Sequence[str] = _VECTORS
) -> nn.Module:
    """A `MarkerClassifier`: markers without the image."""
    return MarkerClassifier(vectors, out_channels, tuple(inputs), hidden)


def fusion(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    image_size: Sequence[int],
    vectors: Mapping[str, int],
    encoder: str = "default",
    features: int = 32,
    encoder_arguments: Mapping[str, Any] | None = None,
    fusion: str = "concat",
    inputs: Sequence[str] = _VECTORS,
) -> FusionClassifier:
    """A `FusionClassifier` on a network of another name, whose outputs are the image's features."""
    network = build_model(
        encoder,
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=features,
        image_size=image_size,
        arguments=encoder_arguments,
    )
    return FusionClassifier(network, features, vectors, out_channels, fusion, tuple(inputs))


_DEFAULTS: dict[Output, Any] = {
    "vector": SmoothClassifier,
    "mask": SmallUNet,
    "vector and mask": GuidedUNet,
    "boxes": CentreDetector,
}
_OWN: dict[str, tuple[Output, Any]] = {
    "smoothnet": ("vector", SmoothNet),
    "resnet9": ("vector", ResNet9),
    "complex": ("vector", ComplexClassifier),
    "unet-encoder": ("vector", UNetClassifier),
    "slices": ("vector", slices),
    "markers": ("vector", markers),
    "fusion": ("vector", fusion),
    "mesh-sage": ("vector", MeshSage),
    "pointnet": ("vector", PointNet),
    "ridge": ("vector", LinearModel),
    "centre-detector": ("boxes", CentreDetector),
}
_ON_SURFACES = ("mesh-sage", "pointnet", "ridge")
_GIVES: dict[Output, str] = {"vector": "classifies whole images", "mask": "draws masks", "boxes": "finds boxes"}
_OTHERS: dict[Output, str] = {
    "vector": "to classify say default, or another of docs/networks.md",
    "mask": "for masks say default or monai:NAME",
    "vector and mask": "with --mask-weight say default, or a network of your own that gives both",
    "boxes": "for boxes say default",
}


def _require_vectors(name: str, output: Output) -> None:
    """Raise InputError for a network of images alone; the user's own may take a dictionary without saying so."""
    if output != "vector":
        raise InputError("--marker goes with classes of whole images alone: leave it out")
    if name.startswith("monai:") or name in _OWN.keys() - {"markers", "fusion"}:
        raise InputError(
            f"model {name!r} takes images alone: say --model fusion --model-argument encoder={name}, or leave out "
            "--marker"
        )


def _factory(name: str, output: Output, spatial_dims: int) -> Any:
    if name == "default":
        return MeshSage if spatial_dims == 1 else _DEFAULTS[output]
    if name in _OWN:
        gives, factory = _OWN[name]
        if spatial_dims == 1 and name not in _ON_SURFACES:
            raise InputError(f"model {name!r} reads images, and these are surfaces; say {' or '.join(_ON_SURFACES)}")
        if output != gives:
            raise InputError(f"model {name!r} {_GIVES[gives]}; {_OTHERS[output]}")
        return factory
    module_name, _, attribute = name.partition(":")
    if not attribute:
        own = ", ".join(f'"{own}"' for own in ("default", *_OWN))
        raise InputError(f'model {name!r}: say {own}, "monai:NAME" or "package.module:factory"')
    module_name = "monai.networks.nets" if module_name == "monai" else module_name
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise InputError(f"model {name!r}: {error}; is the module on the Python path?") from error
    except AttributeError:
        raise InputError(f"model {name!r}: {module_name} has no {attribute!r}") from None
