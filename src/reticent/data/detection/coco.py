"""COCO annotation files (Lin et al. 2014): one JSON file of images, annotations and categories."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reticent.data.cohort import canonical_split
from reticent.data.detection.annotation import Annotation, AnnotationSet, Box, Problem
from reticent.errors import InputError

_SUBJECTS = ("subject", "subject_id", "patient", "patient_id")


def coco_files(path: Path) -> list[tuple[str | None, Path]]:
    """The annotation files of an address with the split that each is: the file itself, or those of a folder.

    A folder has `annotations/NAME_SPLIT.json` (a year may follow), or `SPLIT/_annotations.coco.json`.
    """
    if path.is_file():
        return [(None, path)] if path.suffix.lower() == ".json" and _looks_like_coco(path) else []
    inner = sorted(path.glob("*/_annotations.coco.json"))
    if inner:
        return [(canonical_split(found.parent.name), found) for found in inner]
    return [
        (split, found)
        for found in sorted((path / "annotations").glob("*.json"))
        if (split := canonical_split(found.stem.rpartition("_")[2].rstrip("0123456789"))) and _looks_like_coco(found)
    ]


def read_coco(path: Path) -> AnnotationSet:
    """Read an annotation file, or those of a folder (`coco_files`), whose categories must be the same.

    Boxes are `[x, y, width, height]` from the top-left corner, 0-based. An image's subject is its field "subject",
    "subject_id", "patient" or "patient_id", its time "date_captured"; a "split" of its own replaces the file's. Regions
    of a crowd are dropped. Images are looked up beside the file, in its folder's `images`, and one folder up.
    Raises InputError for a file of another form.
    """
    files = coco_files(path)
    if not files:
        raise InputError(f"{path}: no COCO annotation file; it needs images, annotations and categories")
    classes: tuple[str, ...] | None = None
    images: list[Annotation] = []
    problems: list[Problem] = []
    for split, file in files:
        content = _content(file)
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        own = tuple(names[number] for number in sorted(names))
        if classes not in (None, own):
            raise InputError(f"{file}: other categories than {files[0][1].name}; use the same in all files")
        classes = own
        images += _images(file, content, split, names, problems)
    return AnnotationSet(classes or (), images, problems)


def category_numbers(path: Path) -> dict[str, int]:
    """The number of each category by its name; none if the path has no COCO file."""
    files = coco_files(path)
    return {str(row["name"]): int(row["id"]) for row in _content(files[0][1])["categories"]} if files else {}


def write_coco(annotations: AnnotationSet) -> dict[str, Any]:
    """A COCO data set: images numbered from 1 (or by their own ids), categories from 1 in the order of the classes.

    Raises InputError for an image whose shape is not known.
    """
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, image in enumerate(annotations.images, start=1):
        if image.shape is None:
            raise InputError(f"{image.name}: COCO needs the size of the image, which was not read")
        identity = number if image.id is None else image.id
        height, width = image.shape
        own = {"id": identity, "file_name": image.name, "width": width, "height": height}
        images.append(own if image.subject is None else {**own, "subject": image.subject})
        for (x0, y0, x1, y1), label in zip(image.boxes, image.labels, strict=True):
            objects.append({
                "id": len(objects) + 1, "image_id": identity, "category_id": annotations.classes.index(label) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0,
            })  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(annotations.classes, start=1)]
    return {"images": images, "annotations": objects, "categories": categories}


def _looks_like_coco(path: Path) -> bool:
    content = path.read_bytes()
    return all(f'"{section}"'.encode() in content for section in ("images", "annotations", "categories"))


def _content(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        for section, field in (("images", "file_name"), ("images", "id"), ("categories", "id"), ("categories", "name")):
            for place, row in enumerate(content[section]):
                if field not in row:
                    raise InputError(f"{path}: {section}[{place}] has no {field}; add it")
        if not isinstance(content["annotations"], list):
            raise InputError(f"{path}: annotations is no list")
        for section in ("images", "categories"):
            _require_numbers(path, section, [row["id"] for row in content[section]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not of the COCO form ({error!r})") from error
    return content


def _require_numbers(path: Path, section: str, numbers: list[Any]) -> None:
    seen: set[int] = set()
    for place, number in enumerate(numbers):
        if not isinstance(number, int) or number in seen:
            raise InputError(f"{path}: {section}[{place}] has the id {number!r}; each needs a whole number of its own")
        seen.add(number)


def _images(
    file: Path, content: dict[str, Any], split: str | None, names: dict[Any, str], problems: list[Problem]
) -> Iterator[Annotation]:
    by_image: dict[Any, list[tuple[str, Any]]] = defaultdict(list)
    for number, thing in enumerate(content["annotations"]):
        identity = thing.get("image_id") if isinstance(thing, dict) else None
        by_image[identity].append((f"annotations[{number}]", thing))
    for index, row in enumerate(content["images"]):
        name = str(row["file_name"])
        boxes: list[Box] = []
        labels, places = [], []
        for place, thing in by_image.pop(row["id"], ()):
            if thing.get("iscrowd"):
                problems.append(Problem(file, place, name, "a region of a crowd", "dropped"))
            elif (box := _box(thing.get("bbox"))) is None:
                problems.append(Problem(file, place, name, f"bbox is {thing.get('bbox')!r}", "dropped"))
            else:
                boxes.append(box)
                labels.append(names.get(thing.get("category_id"), str(thing.get("category_id"))))
                places.append(place)
        subject = next((str(row[field]) for field in _SUBJECTS if row.get(field) not in (None, "")), None)
        own = canonical_split(str(row.get("split", ""))) or split
        yield Annotation(
            name, _image(file, name), tuple(boxes), tuple(labels), file, tuple(places), f"images[{index}]",
            _shape(row), subject, own, _time(row.get("date_captured")), row["id"],
        )  # fmt: skip
    for identity, rest in by_image.items():
        problems += [
            Problem(file, place, str(identity), "of an image that is not listed", "dropped") for place, _ in rest
        ]


def _box(value: Any) -> Box | None:
    try:
        x, y, width, height = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return x, y, x + width, y + height


def _shape(row: dict[str, Any]) -> tuple[int, int] | None:
    height, width = row.get("height"), row.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 else None


def _time(text: Any) -> float | None:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _image(file: Path, name: str) -> Path:
    folder, stem = file.parent, file.stem.rpartition("_")[2]
    places = [folder, folder / "images", folder.parent, folder.parent / "images", folder.parent / stem]
    return next((place / name for place in places if (place / name).is_file()), folder / name)
