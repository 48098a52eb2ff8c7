"""Which series of a study or patient becomes its record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from reticent.data.dicom.address import Rules
from reticent.data.dicom.headers import Header
from reticent.data.dicom.series import FLAT, Series


@dataclass(frozen=True)
class Choice:
    """The series that become records, and those that could have been, with why they are not."""

    chosen: list[Series]
    passed_over: list[tuple[Series, str]]


def keep_wanted(series: Iterable[Series], rules: Rules) -> Choice:
    """The series that fit the declared modality, description, kernel and thickness."""
    wanted, others = [], []
    for each in series:
        reason = _unwanted(each.header, rules)
        if reason is None:
            wanted.append(each)
        else:
            others.append((each, reason))
    return Choice(wanted, others)


def choose(series: Iterable[Series], rules: Rules) -> Choice:
    """One volume of each study, or as `rules.per` says, the one with the most slices; flat images are all kept.

    Of equally many slices the thinner spacing wins, then the lower series number, then the first key: nothing that
    depends on the order of the files.
    """
    groups: defaultdict[tuple[str, ...], list[Series]] = defaultdict(list)
    for each in series:
        flat = each.header.modality in FLAT
        per = rules.per or ("series" if flat else "study")
        groups[_group(each, per)].append(each)
    chosen: list[Series] = []
    others: list[tuple[Series, str]] = []
    for group in groups.values():
        best, *rest = sorted(group, key=_rank)
        chosen.append(best)
        others.extend((each, f"another series of its {rules.per or 'study'} was chosen") for each in rest)
    return Choice(chosen, others)


def _unwanted(header: Header, rules: Rules) -> str | None:
    if rules.modality is not None and header.modality != rules.modality:
        return f"modality {header.modality}, not {rules.modality}"
    if rules.description is not None and not rules.description.search(header.description):
        return f"description {header.description!r} does not fit {rules.description.pattern}"
    if rules.exclude is not None and rules.exclude.search(header.description):
        return f"description {header.description!r} is excluded"
    if rules.kernel is not None and not rules.kernel.search(header.kernel):
        return f"kernel {header.kernel!r} does not fit {rules.kernel.pattern}"
    if rules.thickness is not None:
        low, high = rules.thickness
        if header.thickness is None or not low - 1e-6 <= header.thickness <= high + 1e-6:
            return f"slice thickness {header.thickness or 'missing'}, not {low:g} to {high:g} mm"
    return None


def _group(series: Series, per: str) -> tuple[str, ...]:
    header = series.header
    if per == "patient" and header.patient:
        return (header.patient,)
    return (header.patient, header.study) if per != "series" else (header.patient, header.study, series.key)


def _rank(series: Series) -> tuple[object, ...]:
    number = series.header.series_number
    spacing = 0.0 if series.affine is None else float((series.affine[:3, 2] ** 2).sum())
    return -len(series.slices), round(spacing, 4), int(number) if number.isdecimal() else 10**9, series.key
