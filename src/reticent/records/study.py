"""The study: every option of a job in one validated, versioned configuration."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import tomli_w
from pydantic import Field, ValidationError, model_validator

from reticent.errors import InputError
from reticent.records.options import CohortOptions, ModelOptions, Options, PrivacyOptions, TrainingOptions
from reticent.records.part_options import has_scale
from reticent.records.ridge_options import RIDGE, ridge_conflict

STUDY_SCHEMA: Final = "reticent.study/1"
_PATCHES = 4
"""Patches of an image a step, unless `views` says otherwise."""
_LATER = {
    "cohort": (
        "spacing", "window", "patch_size", "markers", "acquisition", "fold", "targets", "faces", "reference", "length",
        "profile", "pretrain",
    ),
    "privacy": ("epochs", "private_activations", "feature_dimension", "label_epsilon"),
    "model": ("scale_norm", "standardise_weights", "fine_tune", "lora_rank", "transfer_rate"),
    "training": (
        "bias_aware", "temperature", "prior_precision", "posterior_samples", "views", "clipping",
        "foreground", "loss", "shrinkage", "mask_weight",
    ),
}  # fmt: skip
"""Options that came after the first ledgers: a digest is without those that are left at their defaults."""


class Study(Options):
    """Everything that defines a job; stored with the run, repeated by `reticent train study.toml`."""

    schema_: Literal["reticent.study/1"] = Field(default=STUDY_SCHEMA, alias="schema")
    cohort: CohortOptions
    privacy: PrivacyOptions
    model: ModelOptions = ModelOptions()
    training: TrainingOptions = TrainingOptions()

    @model_validator(mode="before")
    @classmethod
    def _one_view(cls, values: Any) -> Any:
        """With private activations each image is seen once, so that nothing is augmented unless asked for (refused)."""
        if isinstance(values, dict) and _section(values, "privacy").get("private_activations"):
            return {**values, "training": {"augment": "none", **_section(values, "training")}}
        return values

    @model_validator(mode="before")
    @classmethod
    def _several_patches(cls, values: Any) -> Any:
        if isinstance(values, dict) and _section(values, "cohort").get("patch_size"):
            return {**values, "training": {"views": _PATCHES, **_section(values, "training")}}
        return values

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        training, patches = self.training, self.cohort.patch_size is not None
        if training.views > 1 and training.augment == "none" and not patches:
            raise ValueError(
                f"--views {training.views} without augmentation would be the same image: leave --views out"
            )
        if training.foreground != 0.5 and not patches:
            raise ValueError("--foreground is about where patches lie: say --patch-size, or leave it out")
        return self

    @model_validator(mode="before")
    @classmethod
    def _ridge_defaults(cls, values: Any) -> Any:
        """A ridge regression is one release of all training subjects, of their own records as they are."""
        if isinstance(values, dict) and _name_of(values) == RIDGE:
            once = {"sampling_rate": 1.0, "steps": 1}
            plain = {"augment": "none", "ema_decay": 0.0}
            parts: dict[str, dict[str, Any]] = {"privacy": once, "training": plain}
            return values | {name: {**usual, **_section(values, name)} for name, usual in parts.items()}
        return values

    @model_validator(mode="after")
    def _ridge_fits(self) -> Self:
        if self.model.name != RIDGE:
            return self
        if option := ridge_conflict(self.privacy, self.model, self.training):
            raise ValueError(f"--model ridge is solved in one step, from sums that get noise once: leave out {option}")
        return self

    @model_validator(mode="after")
    def _private_activations_fit(self) -> Self:
        training = self.training
        if not self.privacy.private_activations:
            return self
        if self.model.init_from is None:
            raise ValueError(
                "--private-activations needs --init-from: what comes before the noise must be public, for training it "
                "would use the raw images"
            )
        for option, given, why in (
            ("--augment light", training.augment != "none", "each changed copy of an image would be one more release"),
            ("--bias-aware", training.bias_aware > 0, "no gradient is clipped"),
            ("--clipping", training.clipping != "flat", "no gradient is clipped"),
            ("--optimiser langevin", training.optimiser == "langevin", "no step has noise to sample with"),
            ("--fine-tune", self.model.fine_tune != "all", "its head alone is trained"),
            ("--epochs", self.privacy.epochs is not None, "steps on released features are free: say --steps"),
            ("--class-weights counted", training.class_weights == "counted", "declare the weights: 1,2.5"),
        ):
            if given:
                raise ValueError(f"--private-activations does not go with {option}: {why}")
        return self

    @model_validator(mode="after")
    def _declared_markers(self) -> Self:
        """Under privacy nothing may be taken from the training records' markers."""
        undeclared = [name for name, text in self.cohort.markers.items() if "|" not in text and not has_scale(text)]
        if undeclared and not self.privacy.non_private:
            raise ValueError(
                f"--marker {undeclared[0]} would be scaled by statistics of private patients; declare public "
                f"constants: --marker {undeclared[0]}=CENTRE,SCALE"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        noiseless = self.privacy.non_private or self.training.twin
        if self.training.optimiser == "langevin" and (noiseless or self.privacy.noise == "banded"):
            raise ValueError(
                "--optimiser langevin samples with the run's own independent noise: leave out --non-private, --twin "
                "and --noise banded"
            )
        for option, given in (
            ("--bias-aware", self.training.bias_aware),
            ("--clipping", self.training.clipping != "flat"),
        ):
            if given and self.privacy.non_private:
                raise ValueError(f"{option} is about clipping; --non-private clips nothing: leave one of them out")
        if self.privacy.budget and (self.training.twin or self.privacy.non_private):
            raise ValueError(
                "--budget admits no job without privacy: leave out --twin and --non-private, or the budget"
            )
        return self

    def to_toml(self) -> str:
        """The study as TOML, options left at None omitted."""
        return tomli_w.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True))

    def digest(self) -> str:
        """SHA-256 of all options but the cohort's location: what a resumed run must not have changed."""
        data = self.model_dump(mode="json")
        del data["cohort"]["uri"]
        if self.privacy.noise == "independent":  # as before there was a choice: ledgers hold such digests
            del data["privacy"]["noise"], data["privacy"]["bands"]
        for section, options in _LATER.items():
            usual = type(getattr(self, section)).model_fields
            for option in options:
                if data[section][option] in (usual[option].default, [], {}):
                    del data[section][option]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def public_part(self) -> dict[str, Any]:
        """What may leave with the model: no path, no location of the cohort, no column of its table."""
        data = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for name in ("uri", "columns", "labels", "acquisition", "fold", "targets"):
            data["cohort"].pop(name, None)
        if "reference" in data["cohort"]:
            data["cohort"]["reference"] = Path(data["cohort"]["reference"]).name  # of an ellipsoid, all of it
        if "init_from" in data["model"]:
            data["model"]["init_from"] = Path(data["model"]["init_from"]).name
        return data


def _name_of(values: Mapping[str, Any]) -> Any:
    model = values.get("model")
    return model.name if isinstance(model, ModelOptions) else _section(values, "model").get("name")


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


_WORDS = {"extra_forbidden": "no such option", "missing": "is missing"}


def make_study(values: Mapping[str, Any], source: str = "options") -> Study:
    """Validate nested option values.

    Raises:
        InputError: one line per wrong option, naming `source` and the option.
    """
    try:
        return Study.model_validate({"privacy": {}, **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = _WORDS.get(first["type"], first["msg"]).removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        where = f"{where}: " if where and first["type"] != "value_error" else ""
        raise InputError(f"{source}: {where}{message}{more}") from None


def read_study(path: Path) -> dict[str, Any]:
    """The option values of a study file, not yet validated (flags may add to them).

    Raises:
        InputError: the file is missing, is not TOML, or is of another schema.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such study file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
    schema = values.get("schema", STUDY_SCHEMA)
    if schema != STUDY_SCHEMA:
        raise InputError(f"{path}: schema {schema!r} is not {STUDY_SCHEMA!r}, which this version reads")
    return values
