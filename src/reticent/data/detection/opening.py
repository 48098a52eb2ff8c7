"""From an annotation to a cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reticent.data.cohort import Cohort, Entry, LeftOut
from reticent.data.detection.address import Rules, kind_of, parse_address
from reticent.data.detection.annotation import Annotation, AnnotationSet, Problem
from reticent.data.detection.checking import checked
from reticent.data.detection.coco import read_coco
from reticent.data.detection.native import OKTOBERFEST_CLASSES, clip_time, read_native
from reticent.data.detection.reader import BoxLocator, BoxReader
from reticent.data.detection.voc import read_voc
from reticent.data.files import read_header
from reticent.data.manifest import find_column, find_file_column, read_table, texts
from reticent.data.splits import split_by_time
from reticent.errors import InputError

_TITLES = {
    "dropped": "boxes dropped",
    "clipped": "boxes clipped to their image",
    "scaled": "images stored in another size than annotated (boxes scaled)",
    "cut": "images with more objects than the declared maximum (the first are kept)",
    "kept": "names that other tools may fail over",
}


def open_detection(uri: str) -> Cohort:
    """Open images with boxes: a VOC folder, a COCO file or folder, or class folders with `files.txt`.

    Every box is in the pixels of its stored image, 0-based and half-open, clipped to it. What is wrong is no error but
    listed: whole images in `left_out`, boxes in `remarks`. Raises InputError for an address that does not fit, or if no
    image is left.
    """
    path, rules = parse_address(uri)
    found = read_detection(path, rules)
    if not found.images:
        reason = f" (first: {found.problems[0].where}: {found.problems[0].reason})" if found.problems else ""
        raise InputError(f"{uri}: no image with boxes that could be read{reason}")
    if not found.classes:
        raise InputError(f"{uri}: no object in any image; check the annotations, or name the classes=… that count")
    problems = list(found.problems)
    subjects = _subjects(found.images, rules)
    splits = _splits(uri, found.images, rules)
    entries = [
        Entry(image.name, subject, split, None, {}, _locator(image, found.classes, rules.most, problems))
        for image, subject, split in zip(found.images, subjects, splits, strict=True)
    ]
    channels = read_header(entries[0].locator.image)[1]
    name, has_subjects = path.resolve().name if path.is_dir() else path.stem, set(subjects) != {None}
    return Cohort(
        uri, name, "detection", found.classes, _named(entries, path), {"image": channels}, 2, has_subjects,
        BoxReader(channels, rules.most),
        left_out=[LeftOut(p.image, p.reason, {"where": p.where}) for p in problems if p.effect == "left out"],
        remarks=_remarks(problems),
        subject_remedy=f"say boxes:{path}?subjects=TABLE.csv, or ?subject-pattern=REGULAR-EXPRESSION for file names",
    )  # fmt: skip


def read_detection(path: Path, rules: Rules | None = None) -> AnnotationSet:
    """The annotations at `path`, compared with their images: clipped, of known shape, without what was left out.

    Raises InputError for a path without boxes.
    """
    rules = rules or Rules()
    kind = kind_of(path)
    if kind == "voc":
        found = read_voc(path, one_based=rules.one_based)
    elif kind == "coco":
        found = read_coco(path)
    else:
        found = read_native(path, rules.classes or OKTOBERFEST_CLASSES)
    classes = rules.classes or found.classes
    problems = list(found.problems)
    once = _without_repeats(found.images, problems)
    images = [inside for image in once if (inside := checked(image, set(classes), problems)) is not None]
    problems += [Problem(path, None, name, "class name beyond ASCII", "kept") for name in classes if not name.isascii()]
    return AnnotationSet(classes, images, problems)


def _without_repeats(images: Sequence[Annotation], problems: list[Problem]) -> list[Annotation]:
    found: dict[Path, Annotation] = {}
    for image in images:
        if found.setdefault(image.image, image) is not image:
            problems.append(Problem(image.file, image.place, image.name, "annotated twice", "left out"))
    return list(found.values())


def _locator(image: Annotation, classes: Sequence[str], most: int, problems: list[Problem]) -> BoxLocator:
    if len(image.boxes) > most:
        problems.append(Problem(image.file, image.place, image.name, f"{len(image.boxes)} objects", "cut"))
    objects = tuple(classes.index(label) for label in image.labels[:most])
    return BoxLocator(image.image, image.boxes[:most], objects, image.id)


def _named(entries: Sequence[Entry], root: Path) -> list[Entry]:
    """Keys are the images' paths below the root, where they lie below it."""
    top = root if root.is_dir() else root.parent
    return [
        replace(e, key=e.locator.image.relative_to(top).as_posix()) if e.locator.image.is_relative_to(top) else e
        for e in entries
    ]


def _subjects(images: Sequence[Annotation], rules: Rules) -> list[str | None]:
    if rules.subjects is not None:
        known = _table(rules.subjects)
        return [known.get(image.name, known.get(Path(image.name).stem)) for image in images]
    if rules.subject_pattern is not None:
        found = [rules.subject_pattern.search(Path(image.name).name) for image in images]
        return [match[1] if match else None for match in found]
    return [image.subject for image in images]


def _table(path: Path) -> Mapping[str, str | None]:
    """Subject by file name."""
    table = read_table(path)
    present = [str(name) for name in table.columns]
    subject = find_column(path, present, {}, "subject")
    if subject is None:
        raise InputError(f"{path}: no subject column among {', '.join(present)}; call it subject")
    files = texts(table, find_file_column(path, present, {}))
    return {name: value for name, value in zip(files, texts(table, subject), strict=True) if name is not None}


def _splits(uri: str, images: Sequence[Annotation], rules: Rules) -> list[str | None]:
    if rules.test_from is None:
        return [image.split for image in images]
    times = []
    for image in images:
        if (time := image.time or clip_time(image.name)) is None:
            raise InputError(
                f"{uri}: the time of {image.name} is not known, which test-from splits by; leave the rule out"
            )
        times.append(time)
    return list(split_by_time(times, test_from=rules.test_from, val_from=rules.val_from))


def _remarks(problems: Sequence[Problem]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for problem in problems:
        if problem.effect in _TITLES:
            found[_TITLES[problem.effect]].append(f"{problem.where}: {problem.image}: {problem.reason}")
    return {title: found[title] for title in _TITLES.values() if title in found}
