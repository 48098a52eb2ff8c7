"""The text form of the Oktoberfest Food data set (Ziller et al. 2019): one `files.txt` in each class folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from reticent.data.detection.annotation import Annotation, AnnotationSet, Problem
from reticent.errors import InputError

LIST = "files.txt"
OKTOBERFEST_CLASSES = (
    "Bier", "Bier Mass", "Weissbier", "Cola", "Wasser", "Curry-Wurst", "Weisswein", "A-Schorle", "Jaegermeister",
    "Pommes", "Burger", "Williamsbirne", "Alm-Breze", "Brotzeitkorb", "Kaesespaetzle",
)  # fmt: skip
_FRAME = re.compile(r"(?P<clip>.+)_(?P<frame>\d+)")
_TIMES = (1e12, 4e12)  # milliseconds, the years 2001 to 2096: clips named by other numbers tell no time


def lists_in(root: Path) -> list[Path]:
    """The lists of a folder: its own, or those of its sub-folders."""
    own = root / LIST
    return [own] if own.is_file() else sorted(root.glob(f"*/{LIST}"))


def read_native(root: Path, classes: Sequence[str] = OKTOBERFEST_CLASSES) -> AnnotationSet:
    """Read lines `<file name> <n> (<class> <x> <y> <width> <height>)*`, in whole pixels from the top-left corner.

    The class folder is what was searched for and no label. An image named in several folders counts once, as it stands
    in the first. The subject is the clip, the file name before its last "_" (`<clip start in ms>_<frame>.jpg`); n = 0
    is an image without objects. Raises InputError if the folder has no list, or a list cannot be read.
    """
    found: dict[str, Annotation] = {}
    problems: list[Problem] = []
    lists = lists_in(root)
    if not lists:
        raise InputError(f"{root}: no {LIST} in it or in its sub-folders")
    for path in lists:
        for number, line in _lines(path):
            read = _parse(path, number, line, classes)
            if isinstance(read, Problem):
                problems.append(read)
                continue
            earlier = found.setdefault(read.name, read)
            if earlier is not read:
                same = (earlier.boxes, earlier.labels) == (read.boxes, read.labels)
                reason = "named in an earlier list too" if same else "named in an earlier list too, with other boxes"
                problems.append(Problem(path, number, read.name, reason, "left out"))
            elif not read.name.isascii():
                problems.append(Problem(path, number, read.name, "file name beyond ASCII", "kept"))
    return AnnotationSet(tuple(classes), list(found.values()), problems)


def write_native(annotations: AnnotationSet) -> str:
    """All images as lines, in their order.

    Raises InputError for a box that is not of whole pixels and a name with spaces, which the form cannot hold.
    """
    lines = []
    for image in annotations.images:
        if " " in image.name:
            raise InputError(f"{image.name!r}: the text form separates by spaces; rename the file")
        fields = [image.name, str(len(image.boxes))]
        for (x0, y0, x1, y1), label in zip(image.boxes, image.labels, strict=True):
            numbers = (x0, y0, x1 - x0, y1 - y0)
            if any(value != int(value) for value in numbers):
                raise InputError(f"{image.name}: a box of {numbers} pixels; the text form has whole pixels: round it")
            fields += [str(annotations.classes.index(label)), *(str(int(value)) for value in numbers)]
        lines.append(" ".join(fields))
    return "\n".join(lines) + "\n"


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            yield number, line


def _parse(path: Path, number: int, line: bytes, classes: Sequence[str]) -> Annotation | Problem:
    def wrong(reason: str) -> Problem:
        return Problem(path, number, line.split()[0].decode("utf-8", "replace"), reason, "left out")

    try:
        name, *fields = line.decode().split()
    except UnicodeDecodeError:
        return wrong("not UTF-8 text")
    try:
        count, *values = (int(field) for field in fields)
    except ValueError:
        return wrong("no number of objects, or something that is no whole number")
    if len(values) != 5 * count:
        return wrong("another number of objects than the line announces")
    rows = [values[start : start + 5] for start in range(0, len(values), 5)]
    clip = _FRAME.fullmatch(Path(name).stem)
    return Annotation(
        name=name,
        image=path.parent / name,
        boxes=tuple((float(x), float(y), float(x + w), float(y + h)) for _, x, y, w, h in rows),
        labels=tuple(classes[row[0]] if 0 <= row[0] < len(classes) else str(row[0]) for row in rows),
        file=path,
        places=(number,) * len(rows),
        place=number,
        subject=clip["clip"] if clip else None,
        time=clip_time(name),
    )


def clip_time(name: str) -> float | None:
    """When the clip of a frame began (seconds since 1970), if the file is named as those of the set are."""
    clip = _FRAME.fullmatch(Path(name).stem)
    start = int(clip["clip"]) if clip and clip["clip"].isdecimal() else 0
    return start / 1000 if _TIMES[0] <= start <= _TIMES[1] else None
