"""A generated cohort of chest radiographs, for demonstrations without data: several images per patient."""

import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qsl

import numpy as np

from reticent.data.cohort import Cohort, Entry
from reticent.errors import InputError

SIZE = 32
_SEED = 20240601
_VERSION = "phantom:chest 1"
_MOST_IMAGES = 4
_VISIBLE = 0.9  # share of such a patient's images that show the consolidation
_ANATOMY = 36  # uniform numbers that fix one patient


@dataclass(frozen=True)
class PhantomReader:
    """Draws an image from its patient's and its own stream of random numbers."""

    def shape(self, locator: tuple[int, int]) -> tuple[int, ...]:
        return (SIZE, SIZE)

    def spacing(self, locator: tuple[int, int]) -> None:
        return None

    def decode(self, locator: tuple[int, int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return {"image": _image(*locator)[None].astype(np.float32) / 255}, {}

    def digest(self, locator: tuple[int, int]) -> bytes:
        return hashlib.sha256(_image(*locator).tobytes()).digest()

    def stamp(self, locator: tuple[int, int]) -> str:
        return _VERSION


def open_phantom(uri: str) -> Cohort:
    """Open `phantom:chest` or `phantom:chest?subjects=N` (default 2000 patients, 1 to 4 images of 32 x 32 each).

    Body, lungs, heart and spine are soft ellipses drawn once per patient. Half the patients have a consolidation, the
    label; it shows in nine tenths of their images, so that no classifier is perfect. Position, intensity and noise vary
    per image. Sex and age say nothing of the label. A patient is the same in cohorts of every size. Raises InputError
    for another name or option.
    """
    name, _, query = uri.removeprefix("phantom:").partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    count = options.pop("subjects", "2000")
    if name != "chest" or options or not count.isdecimal() or int(count) < 1:
        raise InputError(
            f"{uri}: no such phantom cohort; use phantom:chest or phantom:chest?subjects=N with N from 1 up"
        )
    entries = [entry for patient in range(int(count)) for entry in _entries(patient)]
    return Cohort(
        uri, "phantom-chest", "binary", ("normal", "consolidation"), entries, {"image": 1}, 2, True, PhantomReader(),
        licence="generated; no patient data",
    )  # fmt: skip


def _entries(patient: int) -> list[Entry]:
    sex, age, label, images = _uniform(_ANATOMY, patient)[:4]
    decade = 10 * int(2 + 7 * age)
    attributes = {"sex": "f" if sex < 0.5 else "m", "age": f"{decade}-{decade + 9}"}
    subject = f"phantom-{patient:05d}"
    return [
        Entry(f"{subject}/{image}", subject, None, int(label < 0.5), attributes, (patient, image))
        for image in range(1 + int(_MOST_IMAGES * images))
    ]


def _uniform(count: int, *stream: int) -> np.ndarray:
    return np.random.default_rng((_SEED, *stream)).random(count)


def _image(patient: int, number: int) -> np.ndarray:
    """The uint8 image (32, 32) of one patient."""
    anatomy = iter(_uniform(_ANATOMY, patient))
    nuisance = np.random.default_rng((_SEED, patient, 1 + number))
    consolidated = [next(anatomy) for _ in range(4)][2] < 0.5

    def u(low: float, high: float) -> float:
        return float(low + (high - low) * next(anatomy))

    dx, dy = nuisance.uniform(-0.08, 0.08, 2)
    image = u(0.55, 0.8) * _ellipse(dx, dy, u(0.75, 0.95), u(0.8, 1), u(-0.1, 0.1))
    air = u(0.35, 0.6)
    for side in (-1, 1):
        x, y, tilt = dx + side * u(0.33, 0.42), dy + u(-0.08, 0.05), side * u(-0.05, 0.2)
        image -= air * _ellipse(x, y, u(0.2, 0.3), u(0.45, 0.62), tilt)
    image += u(0.2, 0.4) * _ellipse(dx + u(0.05, 0.18), dy + u(0.15, 0.3), u(0.15, 0.3), u(0.15, 0.28), u(-0.6, 0.6))
    image += u(0.1, 0.25) * _ellipse(dx, dy, u(0.05, 0.09), u(0.9, 1), u(-0.05, 0.05))
    side = 1 if u(-1, 1) > 0 else -1
    x, y = dx + side * u(0.25, 0.45), dy + u(-0.35, 0.35)
    spot = u(0.25, 0.45) * _ellipse(x, y, u(0.14, 0.26), u(0.14, 0.26), u(0, 1))
    if consolidated and nuisance.random() < _VISIBLE:
        image += spot
    image = image * nuisance.uniform(0.9, 1.1) + nuisance.normal(0, 0.01, image.shape)
    grey: np.ndarray = np.rint(255 * image.clip(0, 1)).astype(np.uint8)
    return grey


def _ellipse(x: float, y: float, a: float, b: float, angle: float) -> np.ndarray:
    """A soft ellipse on [-1, 1]^2: 1 / (1 + exp(0.6 SIZE min(a, b) (d - 1))) at the elliptical radius d."""
    axis = np.linspace(-1, 1, SIZE)
    right, down = axis[None, :] - x, axis[:, None] - y
    cos, sin = np.cos(angle), np.sin(angle)
    d = np.hypot((cos * right + sin * down) / a, (cos * down - sin * right) / b)
    soft: np.ndarray = 1 / (1 + np.exp(np.minimum(0.6 * SIZE * min(a, b) * (d - 1), 60)))
    return soft
