"""From an annotation to a cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from reticent.data.cohort import Cohort, Entry, LeftOut
from reticent.data.detection.address import Rules, kind_of, parse_address
from reticent.data.detection.annotation import Annotation, AnnotationSet, Problem
from reticent.data.detection.checking import checked
from reticent.data.detection.coco import read_coco
from reticent.data.detection.native import OKTOBERFEST_CLASSES, clip_time, read_native
from reticent.data.detection.reader import BoxLocator, BoxReader
from reticent.data.detection.table import ImageTable, read_image_table
from reticent.data.detection.voc import read_voc
from reticent.data.files import read_header
from reticent.data.opening import Opening
from reticent.data.splits import split_by_time
from reticent.errors import InputError

_TITLES = {
    "dropped": "boxes dropped",
    "clipped": "boxes clipped to their image",
    "scaled": "images stored in another size than annotated (boxes scaled)",
    "cut": "images with more objects than the declared maximum (the first are kept)",
    "kept": "names that other tools may fail over",
}


def open_detection(uri: str, opening: Opening) -> Cohort:
    """Open images with boxes: a VOC folder, a COCO file or folder, or class folders with `files.txt`.

    Every box is in the pixels of its stored image, 0-based and half-open, clipped to it. What is wrong is no error but
    listed: whole images in `left_out`, boxes in `remarks`. The table of `table=` is read unless the cohort is to be
    predicted on. Raises InputError for an address or a table that does not fit, or if no image is left.
    """
    path, rules = parse_address(uri)
    if opening.columns and rules.table is None:
        raise InputError(f"{uri}: --column names columns of a table; say boxes:{path}?table=FILE.csv, or leave it out")
    found = read_detection(path, rules)
    if not found.images:
        reason = f" (first: {found.problems[0].where}: {found.problems[0].reason})" if found.problems else ""
        raise InputError(f"{uri}: no image with boxes that could be read{reason}")
    if not found.classes:
        raise InputError(f"{uri}: no object in any image; check the annotations, or name the classes=… that count")
    problems = list(found.problems)
    keys = _keys(found.images, path)
    table = None
    if rules.table is not None and not opening.predicting:
        names = [(key, image.name) for key, image in zip(keys, found.images, strict=True)]
        table = read_image_table(rules.table, opening.columns, names, strict=opening.strict)
    subjects, splits = _subjects(uri, found.images, rules, table), _splits(uri, found.images, rules, table)
    attributes: Sequence[Mapping[str, str]] = [{}] * len(keys) if table is None else table.attributes
    locators = [_locator(image, found.classes, rules.most, problems) for image in found.images]
    rows = zip(keys, subjects, splits, [None] * len(keys), attributes, locators, strict=True)
    channels = read_header(locators[0].image)[1]
    name, has_subjects = path.resolve().name if path.is_dir() else path.stem, set(subjects) != {None}
    return Cohort(
        uri, name, "detection", found.classes, [Entry(*row) for row in rows], {"image": channels}, 2, has_subjects,
        BoxReader(channels, rules.most),
        left_out=[LeftOut(p.image, p.reason, {"where": p.where}) for p in problems if p.effect == "left out"],
        remarks=_remarks(problems) | ({} if table is None else dict(table.remarks)),
        subject_remedy=_remedy(path, table),
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


def _keys(images: Sequence[Annotation], root: Path) -> list[str]:
    """The images' paths below the root; their names, where they do not lie below it."""
    top = root if root.is_dir() else root.parent
    return [each.image.relative_to(top).as_posix() if each.image.is_relative_to(top) else each.name for each in images]


def _subjects(uri: str, images: Sequence[Annotation], rules: Rules, table: ImageTable | None) -> Sequence[str | None]:
    named = None if table is None else table.subjects
    if named is not None and rules.subject_pattern is not None:
        raise InputError(
            f"{uri}: subjects come from a column of {rules.table} or from subject-pattern; say one of the two"
        )
    if rules.subject_pattern is not None:
        found = [rules.subject_pattern.search(Path(image.name).name) for image in images]
        return [match[1] if match else None for match in found]
    return [image.subject for image in images] if named is None else named


def _remedy(path: Path, table: ImageTable | None) -> str:
    if table is not None and table.subjects is not None:
        return f"give each image a row with its subject in {table.path}"
    named = f"boxes:{path}?table=FILE.csv (columns file and subject)" if table is None else str(table.path)
    return f"name them in a column subject of {named}, or take them from the file names with subject-pattern=REGEX"


def _splits(uri: str, images: Sequence[Annotation], rules: Rules, table: ImageTable | None) -> Sequence[str | None]:
    named = None if table is None else table.splits
    if named is not None and rules.test_from is not None:
        raise InputError(f"{uri}: splits come from a column of {rules.table} or from test-from; say one of the two")
    if rules.test_from is None:
        return [image.split for image in images] if named is None else named
    times = []
    for image in images:
        if (time := image.time or clip_time(image.name)) is None:
            raise InputError(
                f"{uri}: the time of {image.name} is not known, which test-from splits by; leave the rule out"
            )
        times.append(time)
    return split_by_time(times, test_from=rules.test_from, val_from=rules.val_from)


def _remarks(problems: Sequence[Problem]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for problem in problems:
        if problem.effect in _TITLES:
            found[_TITLES[problem.effect]].append(f"{problem.where}: {problem.image}: {problem.reason}")
    return {title: found[title] for title in _TITLES.values() if title in found}
