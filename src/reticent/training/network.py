"""The network that a study's options describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from reticent.data import VECTOR_INPUTS
from reticent.errors import InputError
from reticent.models import Output, add_scale_norm, build_model, fine_tune, standardise_weights
from reticent.records import ModelOptions, Study
from reticent.training.frozen_features import DIMENSION, feature_classifier
from reticent.training.tasks import Task
from reticent.training.weights import load_weights


def new_model(study: Study, task: Task, channels: dict[str, int], image_size: tuple[int, ...]) -> nn.Module:
    """The study's network, with its public first weights if it names any."""
    vectors = {name: length for name, length in channels.items() if name in VECTOR_INPUTS}
    images = sum(channels.values()) - sum(vectors.values())
    outputs = task.output_shape(image_size)[0]
    model = new_network(study.model, images, outputs, image_size, task.output, vectors)
    if study.privacy.private_activations:
        return feature_classifier(model, study.privacy.feature_dimension or DIMENSION, study.privacy.max_norm)
    return model


def new_network(
    options: ModelOptions,
    channels: int,
    outputs: int,
    image_size: Sequence[int],
    output: Output = "vector",
    vectors: Mapping[str, int] | None = None,
) -> nn.Module:
    """A network for images (n, channels, *image_size), with what the options add to it and freeze of it.

    With `vectors`, lengths by name, it takes them beside the image, all by name.
    """
    model = build_model(
        options.name,
        spatial_dims=len(image_size),
        in_channels=channels,
        out_channels=outputs,
        image_size=image_size,
        output=output,
        vectors=vectors,
        arguments=options.arguments,
    )
    image = torch.zeros(2, channels, *image_size)
    if vectors and options.scale_norm:
        raise InputError(
            f"--scale-norm follows an image through a network, and this one takes {' and '.join(vectors)} too: leave "
            "it out"
        )
    if options.scale_norm:
        model = add_scale_norm(model, image)
    if options.standardise_weights:
        standardise_weights(model)
    if options.init_from is not None:
        load_weights(model, options.init_from)
    beside = {name: torch.zeros(2, length) for name, length in (vectors or {}).items()}
    fine_tune(model, options.fine_tune, {"image": image, **beside} if beside else image, options.lora_rank)
    return model
