"""Boxes of a detector's run as a COCO results file, with pictures if asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reticent.cli.console import console, print_json
from reticent.cli.predict import records, require_new, stem
from reticent.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from reticent.training import Predictor

_Image = tuple[str, int | None, "Mapping[str, np.ndarray]", tuple[float, ...] | None]


def write_boxes(
    predictor: Predictor, addresses: Sequence[str], columns: Mapping[str, str], out: Path | None, pictures: Path | None
) -> None:
    """Write what is found in every image to `out` (None: on the screen), and each image with its boxes to `pictures`.

    Images are numbered as in the one COCO file that is predicted on, else from 1; so are categories.
    Raises InputError for files that cannot be written, before anything is read.
    """
    import numpy as np

    from reticent.records import DetectionExample, whole_folder, write_json
    from reticent.report import save_box_figure
    from reticent.training.evaluation import COUNTED_FROM

    if out is not None and out.suffix != ".json":
        raise InputError(f"{out}: boxes are written as COCO JSON; name a .json file")
    require_new(out, pictures)
    names = predictor.task.classes
    numbers = _numbers(addresses, names)
    rows: list[dict[str, Any]] = []
    count = 0
    with nullcontext() if pictures is None else whole_folder(pictures, "--explain") as aside:
        for address in addresses:
            for name, identity, inputs, spacing in _images(predictor, address, columns):
                count += 1
                found = predictor.objects(inputs, spacing)
                own = identity if identity is not None and len(addresses) == 1 else count
                rows += found.to_coco(own, name, names, numbers)
                if aside is not None:
                    path = aside / f"{count:04d}_{stem(name)}.png"
                    image, seen = next(iter(inputs.values())), found.above(COUNTED_FROM)
                    save_box_figure(DetectionExample(image, seen, seen.above(np.inf), names), path)
    if out is None:
        print_json(rows)
        return
    write_json(out, rows, mode=0o600)
    console.print(f"{len(rows)} boxes in {count} images -> {out}", highlight=False, markup=False, soft_wrap=True)


def _numbers(addresses: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Of the classes: those of the one COCO file, if it has all of them."""
    from reticent.data import category_numbers

    given = category_numbers(Path(addresses[0])) if len(addresses) == 1 else {}
    return given if set(names) <= given.keys() else {name: number for number, name in enumerate(names, start=1)}


def _images(predictor: Predictor, address: str, columns: Mapping[str, str]) -> Iterator[_Image]:
    from reticent.data import is_detection, open_cohort

    if not is_detection(address):
        for found in records(predictor, address, columns):
            yield found.name, None, found.inputs, found.spacing
        return
    cohort = open_cohort(address, unit="record", predicting=True, hashed=False)
    for i, entry in enumerate(cohort.entries):
        record = cohort.load(i)
        yield entry.key, entry.locator.id, record.inputs, record.spacing
