"""A table of lesions by visit, and the category of response of every visit in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal, cast, get_args

from reticent.data.composite_response import Change, Composite, MarkerRule, composite_response
from reticent.data.recist import (
    MOST_IN_ORGAN,
    MOST_LESIONS,
    NON_TARGETS,
    NORMAL_NODE,
    SMALLEST_LESION,
    SMALLEST_NODE,
    Category,
    NonTarget,
    progressed,
    recist_response,
)
from reticent.data.table import read_table
from reticent.errors import InputError

COLUMNS = ("subject", "visit", "lesion", "organ", "node", "diameter", "new_lesion", "non_target", "ca19_9",
           "cholestasis", "clinical")  # fmt: skip
_NEEDED = ("subject", "visit", "lesion", "diameter")
Clinical = Literal["response", "progress"]


@dataclass(frozen=True)
class Lesion:
    """A target lesion at a visit: `diameter` in mm (nodes: short axis), None where it could not be measured."""

    name: str
    diameter: float | None
    organ: str | None = None
    node: bool = False


@dataclass(frozen=True)
class Visit:
    """What was found at a visit; `where` says in which row of which file."""

    subject: str
    when: str
    lesions: tuple[Lesion, ...]
    new_lesion: bool = False
    non_target: NonTarget | None = None
    ca19_9: float | None = None
    cholestasis: bool = False
    clinical: Clinical | None = None
    where: str = ""


@dataclass(frozen=True)
class Assessment:
    """The response at a visit after the baseline; sums in mm."""

    subject: str
    when: str
    baseline: float
    nadir: float
    total: float | None
    """None where a lesion was not measured."""
    recist: Category
    marker: Change | None
    composite: Composite


def read_visits(path: Path) -> list[Visit]:
    """Visits from a table with one row for each lesion and visit, in the order of subjects and then of time.

    Columns: `subject`, `visit` (numbers or ISO dates; the first is the baseline), `lesion`, `diameter`; if they are
    there `organ`, `node` (1: a lymph node) and, of a visit, in any of its rows, `new_lesion`, `non_target`, `ca19_9`,
    `cholestasis`, `clinical`. A row without a lesion tells of the visit alone.

    Raises:
        InputError: naming the row (the header is row 1), for everything that does not fit.
    """
    table = read_table(path)
    if missing := [name for name in _NEEDED if name not in table.columns]:
        raise InputError(f"{path}: no column {missing[0]!r}; it needs {', '.join(_NEEDED)}")
    if unknown := [name for name in table.columns if name not in COLUMNS]:
        raise InputError(f"{path}: unknown column {unknown[0]!r}; known are {', '.join(COLUMNS)}")
    columns = table.cells
    visits: dict[tuple[str, str], Visit] = {}
    for place in range(len(table)):
        row = {name: values[place] for name, values in columns.items()}
        where = f"{path}, row {place + 2}"
        read = _visit(row, where)
        key = (read.subject, read.when)
        visits[key] = read if key not in visits else _joined(visits[key], read)
    return sorted(visits.values(), key=lambda visit: (visit.subject, *_time(visit)))


def assess(visits: Sequence[Visit], rule: MarkerRule | None = None) -> list[Assessment]:
    """The response at every visit but the first, of the visits of one subject in order.

    Raises:
        InputError: fewer than two visits; a baseline without measurable target lesions, or with more than five, or
            more than two of an organ; or a later lesion that the baseline does not have.
    """
    first, *later = visits
    if not later:
        raise InputError(f"{first.where}: {first.subject} has one visit only; a response needs a baseline and another")
    baseline = _baseline(first)
    nadir, found, complete = baseline, [], False
    for visit in later:
        total, gone = _total(first, visit), _gone(first, visit)
        category = _category(visit, baseline, nadir, total, gone and total is not None)
        if complete and category != "PD" and any(not own.node and own.diameter for own in visit.lesions):
            category = "PD"  # a lesion that is back after a complete response
        marker = (rule or MarkerRule()).change(
            first.ca19_9, visit.ca19_9, cholestasis=first.cholestasis or visit.cholestasis
        )
        composite = composite_response(category, marker, visit.clinical)
        found.append(Assessment(visit.subject, visit.when, baseline, nadir, total, category, marker, composite))
        nadir = nadir if total is None else min(nadir, total)
        complete = complete or (gone and total is not None)
    return found


def by_subject(visits: Sequence[Visit]) -> Iterator[list[Visit]]:
    """The visits of each subject."""
    for name in dict.fromkeys(visit.subject for visit in visits):
        yield [visit for visit in visits if visit.subject == name]


def _category(visit: Visit, baseline: float, nadir: float, total: float | None, gone: bool) -> Category:
    if total is not None:
        return recist_response(baseline, nadir, total, visit.new_lesion, visit.non_target, gone=gone)
    measured = sum(lesion.diameter or 0.0 for lesion in visit.lesions)
    if visit.new_lesion or visit.non_target == "PD" or (nadir > 0 and progressed(nadir, measured)):
        return "PD"  # whatever the lesions that were not measured are
    return "NE"


def _baseline(visit: Visit) -> float:
    lesions = visit.lesions
    if not lesions:
        raise InputError(f"{visit.where}: no target lesion at the first visit of {visit.subject}; RECIST needs one")
    if len(lesions) > MOST_LESIONS:
        raise InputError(
            f"{visit.where}: {len(lesions)} target lesions; RECIST takes {MOST_LESIONS}, the others as non-target"
        )
    organs = Counter(lesion.organ for lesion in lesions if lesion.organ is not None)
    if crowded := [organ for organ, count in organs.items() if count > MOST_IN_ORGAN]:
        raise InputError(
            f"{visit.where}: {organs[crowded[0]]} target lesions in {crowded[0]}; RECIST takes {MOST_IN_ORGAN} of one"
        )
    for lesion in lesions:
        least = SMALLEST_NODE if lesion.node else SMALLEST_LESION
        if lesion.diameter is None or lesion.diameter < least:
            size = "not measured" if lesion.diameter is None else f"{lesion.diameter:g} mm"
            raise InputError(
                f"{visit.where}: {lesion.name} is {size} at the baseline, a target {'node' * lesion.node or 'lesion'} "
                f"has {least:g} mm or more; make it a non-target lesion"
            )
    return sum(lesion.diameter or 0.0 for lesion in lesions)


def _total(first: Visit, visit: Visit) -> float | None:
    names = {lesion.name for lesion in first.lesions}
    found = {lesion.name: lesion.diameter for lesion in visit.lesions}
    if unknown := sorted(found.keys() - names):
        raise InputError(
            f"{visit.where}: {unknown[0]} is no target lesion of the baseline; set new_lesion to 1 instead"
        )
    diameters = [found.get(name) for name in names]
    return None if None in diameters else sum(d for d in diameters if d is not None)


def _gone(first: Visit, visit: Visit) -> bool:
    nodes = {lesion.name for lesion in first.lesions if lesion.node}
    return all((own.diameter or 0.0) < (NORMAL_NODE if own.name in nodes else 1e-9) for own in visit.lesions)


def _visit(row: Mapping[str, str | None], where: str) -> Visit:
    subject, when = row["subject"], row["visit"]
    if subject is None or when is None:
        raise InputError(f"{where}: no {'subject' if subject is None else 'visit'}; fill it in")
    lesions: tuple[Lesion, ...] = ()
    if (name := row["lesion"]) is not None:
        lesions = (Lesion(name, _number(row, "diameter", where), row.get("organ"), _flag(row, "node", where)),)
    elif row["diameter"] is not None:
        raise InputError(f"{where}: a diameter without a lesion; name the lesion")
    non_target = cast("NonTarget | None", _one_of(row, "non_target", NON_TARGETS, where))
    clinical = cast("Clinical | None", _one_of(row, "clinical", get_args(Clinical), where))
    new_lesion, cholestasis = (_flag(row, name, where) for name in ("new_lesion", "cholestasis"))
    marker = _number(row, "ca19_9", where)
    return Visit(subject, when, lesions, new_lesion, non_target, marker, cholestasis, clinical, where)


def _joined(visit: Visit, row: Visit) -> Visit:
    """One more row of a visit; a value of the visit stands in one of its rows, or is the same in all."""
    known = {lesion.name for lesion in visit.lesions}
    if row.lesions and row.lesions[0].name in known:
        raise InputError(f"{row.where}: {row.lesions[0].name} is there twice at visit {row.when}; remove one row")
    for name in ("non_target", "ca19_9", "clinical"):
        mine, other = getattr(visit, name), getattr(row, name)
        if mine is not None and other is not None and mine != other:
            raise InputError(
                f"{row.where}: {name} is {other} here and {mine} in another row of this visit; correct one"
            )
    return replace(
        visit,
        lesions=visit.lesions + row.lesions,
        new_lesion=visit.new_lesion or row.new_lesion,
        cholestasis=visit.cholestasis or row.cholestasis,
        **{name: getattr(visit, name) if getattr(visit, name) is not None else getattr(row, name)
           for name in ("non_target", "ca19_9", "clinical")},
    )  # fmt: skip


def _time(visit: Visit) -> tuple[int, float]:
    try:
        return (0, float(visit.when))
    except ValueError:
        pass
    try:
        return (1, float(date.fromisoformat(visit.when).toordinal()))
    except ValueError:
        raise InputError(f"{visit.where}: visit {visit.when!r} is neither a number nor a date (2024-05-31)") from None


def _number(row: Mapping[str, str | None], name: str, where: str) -> float | None:
    text = row.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{where}: {name} is {text!r}; give a number of 0 or more, or leave it empty")
    return value


def _flag(row: Mapping[str, str | None], name: str, where: str) -> bool:
    return _one_of(row, name, ("0", "1"), where) == "1"


def _one_of(row: Mapping[str, str | None], name: str, allowed: Sequence[str], where: str) -> str | None:
    text = row.get(name)
    if text is not None and text not in allowed:
        raise InputError(f"{where}: {name} is {text!r}; use {', '.join(allowed)}, or leave it empty")
    return text
