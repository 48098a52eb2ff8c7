"""A finished run's model, applied to single records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from reticent.data import PADDING, VECTOR_INPUTS, Record, SurfaceOptions
from reticent.data.surfaces import Mesh
from reticent.data.surfaces.preparing import GraphPreparation, ProfilePreparation
from reticent.errors import InputError
from reticent.models import SliceClassifier
from reticent.records import Detections, RunFolder, SliceExplanation
from reticent.training.langevin import PosteriorMean, uncertainty
from reticent.training.learner import load_released
from reticent.training.network import new_model
from reticent.training.prediction import network_inputs, predict
from reticent.training.prepared_cohort import preprocessing_of
from reticent.training.slice_explanations import slice_explanation
from reticent.training.study_cohort import surface_options
from reticent.training.tasks import ProbabilityTask, Regression, detections, make_task, segment
from reticent.training.vertex_sensitivity import vertex_sensitivity


def released_model(run: RunFolder) -> nn.Module:
    """The network of a finished run with its released weights; of posterior samples their mean.

    Raises:
        InputError: the weights do not fit the network that the study names.
    """
    study, state = run.study(), run.state()
    bare = study.model_copy(update={"model": study.model.model_copy(update={"init_from": None})})
    task = make_task(state, study.training)
    network = new_model(bare, task, state.inputs, state.image_size)
    return load_released(study, network, run.weights, task)


class Predictor:
    """Loads the released weights of a run.

    Raises:
        InputError: the weights do not fit the network that the study names.
    """

    def __init__(self, run: RunFolder) -> None:
        study, state = run.study(), run.state()
        self.task = make_task(state, study.training)
        self._channels, self._study, self._image_size = state.inputs, study, state.image_size
        images = [count for name, count in state.inputs.items() if name not in VECTOR_INPUTS]
        channels = images[0] if len(images) == 1 else None
        self._preprocessing = preprocessing_of(
            study, self.task, state.image_size, channels, state.marker_scales, PADDING in state.inputs
        )
        self.markers = study.cohort.markers
        self._model = released_model(run)

    @property
    def surfaces(self) -> SurfaceOptions | None:
        """How the surfaces that the network reads are prepared; None if it reads images."""
        return surface_options(self._study.cohort) if len(self._image_size) == 1 else None

    @property
    def input_name(self) -> str:
        """The one input of the network beside its markers.

        Raises:
            InputError: it has several, which single files cannot give.
        """
        images = [name for name in self._channels if name not in VECTOR_INPUTS]
        if len(images) > 1:
            raise InputError(f"the model takes several inputs ({', '.join(images)}); predict on a cohort")
        return images[0]

    def probabilities(
        self, inputs: Mapping[str, np.ndarray], spacing: tuple[float, ...] | None = None
    ) -> dict[str, float]:
        """Class probabilities of one record with inputs (C, ...) and spacing in mm, by name.

        Of posterior samples also the `entropy` of their mean and the `mutual_information` with the weights, in nats,
        where each record has one class (see `uncertainty`).
        """
        prepared = self._prepared(inputs, spacing)
        assert isinstance(self.task, ProbabilityTask)
        named = self._named(predict(self._model, prepared))
        if not isinstance(self._model, PosteriorMean) or self.task.kind == "multi-label":
            return named
        with torch.no_grad():
            entropy, information = uncertainty(self._model.probabilities(network_inputs(prepared)))
        return named | {"entropy": float(entropy), "mutual_information": float(information)}

    def class_probabilities(self, records: Sequence[Record]) -> np.ndarray:
        """Probabilities (n, classes) of several records, a chunk at a time."""
        assert isinstance(self.task, ProbabilityTask)
        prepared = [self._prepared(record.inputs, record.spacing) for record in records]
        inputs = {name: torch.cat([own[name] for own in prepared]) for name in self._channels}
        return self.task.probabilities(predict(self._model, inputs)).numpy()

    def numbers(self, inputs: Mapping[str, np.ndarray], spacing: tuple[float, ...] | None = None) -> dict[str, float]:
        """The targets of a regression for one record with inputs (C, ...), by name, in their units."""
        assert isinstance(self.task, Regression)
        return self._named(predict(self._model, self._prepared(inputs, spacing)))

    def _named(self, logits: Tensor) -> dict[str, float]:
        """Probabilities, or numbers in their units, of one record."""
        if isinstance(self.task, Regression):
            values = self.task.physical(logits.double())
        else:
            assert isinstance(self.task, ProbabilityTask)
            values = self.task.probabilities(logits)
        return dict(zip(self.task.classes, values[0].tolist(), strict=True))

    def sensitivity(self, mesh: Mesh, name: str) -> tuple[Mesh, dict[str, np.ndarray]]:
        """The decimated mesh, and of each target its `vertex_sensitivity` there.

        Raises:
            InputError: the network reads no graph of a surface, or predicts no numbers.
        """
        if not isinstance(self._preparation, GraphPreparation) or not isinstance(self.task, Regression):
            raise InputError(
                "only networks on surfaces that predict numbers say what each vertex gave: leave --explain out"
            )
        return vertex_sensitivity(self._model, self.task, self._preparation, mesh, name)

    @cached_property
    def _preparation(self) -> GraphPreparation | ProfilePreparation | None:
        """Made once: it reads its reference."""
        return None if self.surfaces is None else self.surfaces.preparation()

    def mask(self, inputs: Mapping[str, np.ndarray], spacing: tuple[float, ...] | None = None) -> np.ndarray:
        """Label of every pixel or voxel of one record, on its own grid."""
        shape = next(iter(inputs.values())).shape[1:]
        return segment(self._model, self._prepared(inputs, spacing), shape, self._preprocessing, spacing)

    def objects(self, inputs: Mapping[str, np.ndarray], spacing: tuple[float, ...] | None = None) -> Detections:
        """Objects of one record, in the image's own pixels."""
        shape = next(iter(inputs.values())).shape[1:]
        maps = predict(self._model, self._prepared(inputs, spacing))[0]
        return detections(maps, shape, self._preprocessing, spacing)

    def explained(
        self, inputs: Mapping[str, np.ndarray], spacing: tuple[float, ...] | None = None
    ) -> tuple[dict[str, float], SliceExplanation]:
        """The `probabilities` or `numbers` of one record, and what each of its slices gave to them.

        Beside HiResCAM of the class with the largest logit.

        Raises:
            InputError: the network reads no slices, or it is several.
        """
        if isinstance(self._model, PosteriorMean):
            raise InputError(
                "Langevin sampling predicts with several networks, whose slices differ: leave --explain out"
            )
        if not isinstance(self._model, SliceClassifier):
            raise InputError(
                "only networks on slices and surfaces say what each part gave: train with --model slices, or leave "
                "--explain out"
            )
        logits, found = slice_explanation(self._model, self._prepared(inputs, spacing), self.task.classes)
        return self._named(logits), found

    def _prepared(self, inputs: Mapping[str, np.ndarray], spacing: tuple[float, ...] | None) -> dict[str, Tensor]:
        record = self._preprocessing.apply(Record("the file", inputs, {}, {}, spacing))
        if absent := [name for name in self._channels if name not in record.inputs]:
            raise InputError(
                f"the model takes {absent[0]} beside the image: name a manifest with the columns "
                f"{', '.join(self.markers)}, or DICOM with them in labels=FILE"
            )
        for name, array in record.inputs.items():
            if len(array) != self._channels[name]:
                raise InputError(f"the image has {len(array)} channels, the model takes {self._channels[name]}")
        return {name: torch.from_numpy(array)[None] for name, array in record.inputs.items()}
