"""The sections of a study: which patients, which privacy, which network, which training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reticent.records.part_options import FoldOptions

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CohortOptions(Options):
    """Which patients, and how to read them."""

    uri: str
    unit: Literal["subject", "record"] = "subject"
    columns: dict[str, str] = {}
    """Names of a manifest's columns: role ("file", "subject", "mask", "split") to column."""
    pretrain: bool = False
    """Labels and masks are not looked at: hidden parts of the images are restored."""
    labels: tuple[str, ...] = ()
    """Label columns of a manifest; several make a multi-label task."""
    markers: dict[str, str] = {}
    """Columns that a network gets beside the image, with their declaration (`reticent.data.markers`)."""
    acquisition: tuple[str, ...] = ()
    """Attributes that tell how an image was taken, not whom it shows; a reference model is fitted to them alone."""
    fold: FoldOptions | None = None
    """Part of a cross-validation, in place of splits."""
    targets: dict[str, tuple[Finite, Finite]] = {}
    """Numeric columns of a regression, each with the declared range of its values, in its unit."""
    image_size: tuple[Count, ...] | None = None
    """Spatial size in pixels that every image is resized to; None: chosen from the headers by a fixed rule."""
    normalise: Literal["auto", "standardise", "scale"] = "auto"
    """See `reticent.data.Preprocessing`."""
    grey: bool = False
    spacing: tuple[Positive, ...] | None = None
    """Declared pixel or voxel size in mm (one number, or one for each axis); images are then cut or padded to size."""
    window: tuple[Finite, Positive] | None = None
    """Declared centre and width of the stored values that become 0 to 1."""
    patch_size: tuple[Count, ...] | None = None
    """Size in pixels of the patches that a segmenter is trained on, and of the window that it slides over images."""

    faces: Annotated[int, Field(ge=100, le=100_000)] | None = None
    """Of a surface, at most; None: 2,000."""
    reference: str | None = None
    """Public mesh that surfaces are registered to, or profiles compared with: a file, or ellipsoid:AxBxC."""
    length: Positive | None = None
    """Declared size that coordinates of surfaces are divided by, in the unit of the files."""
    profile: str | None = None
    """Where girth profiles are cut: AXIS:FROM-TO/CUTS and perhaps :MEASURE+MEASURE (`reticent.data.parse_profile`)."""

    @model_validator(mode="after")
    def _without_labels(self) -> Self:
        if self.pretrain and (self.labels or self.targets or self.markers):
            raise ValueError("--pretrain learns from images alone: leave out --label, --target and --marker")
        return self

    @model_validator(mode="after")
    def _whole_geometry(self) -> Self:
        if self.patch_size is not None and self.image_size is not None:
            raise ValueError("--patch-size cuts patches from images as they are, --image-size resizes them: say one")
        if self.spacing is not None and self.image_size is None and self.patch_size is None:
            raise ValueError("--spacing cuts or pads images to --image-size, or goes with --patch-size: say one")
        return self


class PrivacyOptions(Options):
    """The privacy target (exactly one), and the public constants it is calibrated with."""

    epsilon: Positive | None = None
    delta: Fraction | None = None
    mu: Positive | None = None
    advantage: Fraction | None = None
    noise_multiplier: Annotated[float, Field(ge=1e-4, le=1000)] | None = None
    non_private: bool = False
    noise: Literal["independent", "banded"] = "independent"
    """"banded": correlated over `bands` steps, and subjects sampled in `bands` groups that take turns."""
    bands: Count | None = None
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Chance of a subject at each step; with banded noise, at each step that is its group's turn."""
    steps: Count = 100
    epochs: Annotated[float, Field(ge=1, le=10_000)] | None = None
    """Expected uses of each subject; sampling rate and steps are then chosen (`reticent.training.make_plan`)."""
    max_norm: Positive = 1.0
    max_records_per_subject: Count = 4
    batch_size: Positive | None = None
    """Expected subjects per step as a declared constant; None: sampling rate times training subjects / bands."""
    private_activations: bool = False
    """Noise once on the features of a frozen public encoder, in place of noise on gradients (Knolle et al. 2021)."""
    feature_dimension: Count | None = None
    """Features that are left of each image, for private activations; None: 32."""
    label_epsilon: Annotated[float, Field(gt=0, le=600)] | None = None
    """Randomised response to the labels, for private activations; None: labels are public."""
    budget: str | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    """Replaces the cryptographic source by a seeded one: for tests, never releasable."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        targets = ("epsilon", "mu", "advantage", "noise_multiplier")
        named = [f"--{t.replace('_', '-')}" for t in targets if getattr(self, t) is not None]
        named += ["--non-private"] * self.non_private
        if len(named) != 1:
            found = " and ".join(named) if named else "none"
            raise ValueError(
                f"exactly one privacy target is needed, found {found}; say one of --epsilon (with --delta), --mu, "
                "--advantage, --noise-multiplier, or --non-private"
            )
        if self.epsilon is not None and self.delta is None:
            raise ValueError("--epsilon needs --delta, the probability the guarantee may fail with (below 1/subjects)")
        return self

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if self.epochs is None:
            return self
        if self.model_fields_set & {"sampling_rate", "steps"} or self.batch_size is not None:
            raise ValueError(
                "--epochs chooses sampling rate, steps and with them the batch: leave out --sampling-rate, --steps and "
                "--batch-size"
            )
        if self.noise_multiplier is not None or self.non_private or self.noise == "banded":
            raise ValueError(
                "--epochs chooses for a target of --epsilon, --mu or --advantage and independent noise: say "
                "--sampling-rate and --steps"
            )
        return self

    @model_validator(mode="after")
    def _whole_noise(self) -> Self:
        if (self.noise == "banded") != (self.bands is not None):
            raise ValueError(
                "--noise banded and --bands (steps that the noise is correlated over) go together: say both or neither"
            )
        if self.bands is not None and self.bands > self.steps:
            raise ValueError(
                f"--bands {self.bands} is more than --steps {self.steps}: some never have a turn; lower --bands"
            )
        if self.noise == "banded" and self.non_private:
            raise ValueError(
                "--noise banded chooses how the noise is drawn; --non-private has none: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _whole_private_activations(self) -> Self:
        if self.private_activations and (self.non_private or self.bands is not None):
            raise ValueError(
                "--private-activations adds noise to features, once: leave out --non-private and --noise banded"
            )
        if not self.private_activations and (self.feature_dimension or self.label_epsilon):
            raise ValueError("--feature-dimension and --label-epsilon go with --private-activations: add it")
        return self

    @property
    def groups(self) -> int:
        """Groups of subjects that take turns, and steps that the noise is correlated over; 1 without bands."""
        return self.bands or 1

    @property
    def stated_delta(self) -> float:
        """The delta at which epsilon is stated; 1e-5 where the target itself needs none."""
        return self.delta if self.delta is not None else 1e-5


class ModelOptions(Options):
    """The network and its first weights."""

    name: str = "default"
    """"default", "smoothnet", "resnet9", "complex", "unet-encoder", "slices", "markers", "fusion", "mesh-sage",
    "pointnet", "ridge", "centre-detector", "monai:NAME" or "package.module:factory"."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of the network."""
    scale_norm: bool = False
    """One more GroupNorm behind every addition or concatenation of two paths (Klause et al. 2022)."""
    standardise_weights: bool = False
    """Convolutions use filters of mean 0 and variance 1 / fan-in (Qiao et al. 2019)."""
    init_from: Path | None = None
    init_origin: str | None = None
    """Where the public weights come from; goes on record."""
    fine_tune: Literal["all", "last", "biases", "lora"] = "all"
    """What of the public weights is trained, beside the head (`reticent.models.fine_tune`)."""
    lora_rank: Count = 4
    transfer_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of what starts from the public weights, as a share of the others'."""

    @model_validator(mode="after")
    def _starts_somewhere(self) -> Self:
        if self.init_from is not None and not self.init_origin:
            raise ValueError(
                "--init-from needs --init-origin: the declared public source of the weights goes on record"
            )
        if self.init_origin is not None and self.init_from is None:
            raise ValueError("--init-origin is the source of --init-from: say both, or leave it out")
        if self.fine_tune != "all" and self.init_from is None:
            raise ValueError(f"--fine-tune {self.fine_tune} keeps public weights: name them with --init-from")
        if self.transfer_rate != 1 and self.init_from is None:
            raise ValueError("--transfer-rate is of weights that start from a file: name it with --init-from")
        if self.transfer_rate != 1 and self.fine_tune in ("last", "lora"):
            raise ValueError(
                f"--fine-tune {self.fine_tune} keeps the weights that --transfer-rate is of: leave one out"
            )
        if self.fine_tune != "lora" and self.lora_rank != 4:
            raise ValueError("--lora-rank is for --fine-tune lora: say both, or leave it out")
        if self.fine_tune == "lora" and self.standardise_weights:
            raise ValueError("--fine-tune lora adds to the weights as they are: leave out --standardise-weights")
        return self


class TrainingOptions(Options):
    """The optimiser and its public schedule."""

    optimiser: Literal["sgd", "adam", "nadam", "langevin"] = "nadam"
    """"langevin": plain steps towards the posterior, with a constant rate and no average of weights."""
    learning_rate: Positive = 1e-2
    temperature: Positive | None = None
    """Of Langevin sampling; sets the learning rate. 1: the posterior."""
    prior_precision: Positive = 1.0
    """Of every weight in Langevin sampling."""
    posterior_samples: Count = 30
    """Weights kept from the second half of Langevin sampling, to predict with."""
    schedule: Literal["cosine", "constant"] = "cosine"
    augment: Literal["light", "none"] = "light"
    """Small random rotations, zooms, shifts and grey curves of the training images."""
    views: Count = 1
    """Augmented views of an image a step, averaged before clipping (De et al. 2022); with `patch_size` its patches."""
    foreground: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Chance of a patch to be centred on the foreground of its image."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.98
    clipping: Literal["flat", "automatic", "per-layer"] = "flat"
    """See `reticent.training.clipped_grad`; each bounds a subject by the clip norm."""
    bias_aware: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far each subject's gradient is taken up its own gradient (Knolle et al. 2023); reached after 5 % of steps."""
    class_weights: tuple[Positive, ...] | Literal["none", "counted"] = "none"
    """Declared weights by class, or "counted": class counts bought with noise and charged."""
    memory_mb: Count = 1024
    twin: bool = False
    mask_weight: Positive | None = None
    """Weight of the loss of masks beside that of labels; images with a mask and no label then train too."""
    loss: Literal["squared", "shrinkage"] = "squared"
    """Of a regression (`reticent.training.tasks.Regression`)."""
    shrinkage: tuple[Positive, Positive] | None = None
    """Slope and size of the errors that the shrinkage loss begins to count, in the targets' unit; None: 10 and 0.2."""

    @model_validator(mode="before")
    @classmethod
    def _langevin_defaults(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("optimiser") == "langevin":
            return {"schedule": "constant", "ema_decay": 0.0, **values}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.optimiser == "langevin" and (self.schedule != "constant" or self.ema_decay):
            raise ValueError(
                "--optimiser langevin samples at one temperature and predicts with its samples: leave out --schedule "
                "and --ema-decay"
            )
        sampling = {"temperature": None, "prior_precision": 1.0, "posterior_samples": 30}
        given = [f"--{name.replace('_', '-')}" for name, usual in sampling.items() if getattr(self, name) != usual]
        if self.optimiser != "langevin" and given:
            raise ValueError(f"{given[0]} is for --optimiser langevin: say both, or leave it out")
        if self.loss != "shrinkage" and self.shrinkage is not None:
            raise ValueError("--shrinkage is for --loss shrinkage: say both, or leave it out")
        return self
