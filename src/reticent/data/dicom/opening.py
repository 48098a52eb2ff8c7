"""Opens a tree of DICOM files as a cohort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reticent.data.attributes import attribute_rows, decades
from reticent.data.cohort import Cohort, Entry, LeftOut, Task
from reticent.data.dicom.address import Rules, parse_address
from reticent.data.dicom.headers import NOT_DICOM, Header
from reticent.data.dicom.index import Found, index_headers
from reticent.data.dicom.personal import personal_remarks
from reticent.data.dicom.reader import DicomLocator, DicomReader
from reticent.data.dicom.selection import choose, keep_wanted
from reticent.data.dicom.series import Refused, Series, find_series, without_copies
from reticent.data.dicom.tables import KEYS, Joined, is_identifier, join_table, subject_column, subjects_of
from reticent.data.lookup import find_mask
from reticent.data.markers import measurements, with_markers
from reticent.data.opening import Opening
from reticent.data.roles import Roles, find_roles, find_splits, read_labels, refuse_marked_labels
from reticent.data.table import read_table
from reticent.errors import InputError


@dataclass(frozen=True)
class _Labels:
    """What the table of labels says, by position of its rows."""

    joined: Joined
    task: Task
    classes: tuple[str, ...]
    labels: Sequence[int | tuple[float, ...] | None]
    splits: Sequence[str | None]
    masks: Sequence[str | None]
    attributes: Sequence[Mapping[str, str]]


def open_dicom(uri: str, opening: Opening) -> Cohort:
    """Open the folder of an address `dicom:FOLDER?rule=value&…`, or a folder alone, by its headers.

    A volume is made of each series of CT, MR or PET that is an even stack, and an image of each file of other
    modalities; of every study one volume is kept (`Rules`, `choose`). What is not kept is told in `left_out`. Labels
    come from the table of `labels=`, joined by an identifier; its columns are found as those of a manifest, and columns
    of `markers` become vectors beside the images. The subject is the PatientID, or what the table of `subjects=` says.

    Not `strict` or not `labelled`, a cohort without labels is opened too; with neither, to predict, the table is asked
    for markers alone. Raises InputError if nothing is left, if what is left is of several modalities, and for tables
    that do not fit.
    """
    root, rules = parse_address(uri)
    rules = replace(rules, subjects=None) if opening.predicting else rules
    labelled = _labels(root, rules, opening)
    found = index_headers(root, opening.progress)
    headers, copies = without_copies(each for each in found.values() if isinstance(each, Header))
    parts = find_series(headers, rules)
    readable = [part for part in parts if isinstance(part, Series)]
    wanted = keep_wanted(readable, rules)
    without_images = [] if labelled is None else labelled.joined.unmatched(headers)
    with_rows = [s for s in wanted.chosen if labelled is None or labelled.joined.row(s.header) is not None]
    if labelled is not None:
        _refuse_rows_of_slices(labelled.joined, with_rows)
    choice = choose(with_rows, rules)
    left_out = [_refused(part) for part in parts if isinstance(part, Refused)]
    left_out += [_passed(series, reason) for series, reason in (*wanted.passed_over, *choice.passed_over)]
    if labelled is not None:
        there = {series.key for series in with_rows}
        left_out += [
            _passed(s, f"no row in {labelled.joined.table.path.name}") for s in wanted.chosen if s.key not in there
        ]
    left_out += _unread(found)
    if not choice.chosen:
        raise InputError(f"{uri}: {_why_nothing(found, left_out)}")
    modalities = Counter(series.header.modality for series in choice.chosen).most_common()
    counted = ", ".join(f"{name} ({n})" for name, n in modalities)
    if opening.strict and len(modalities) > 1:
        raise InputError(f"{uri}: several modalities: {counted}; choose one: dicom:{root}?modality={modalities[0][0]}")
    remarks = personal_remarks(headers, copies)
    remarks["modalities beside each other (choose one with modality=)"] = [counted] * (len(modalities) > 1)
    if labelled is not None:
        remarks[f"rows of {labelled.joined.table.path.name} without images"] = without_images
    split = None if opening.strict else "unlabelled"
    entries = _entries(choice.chosen, labelled, rules, split)
    cohort = _cohort(uri, root, rules, choice.chosen, labelled, entries, left_out, remarks)
    if labelled is None or not opening.markers:
        return cohort
    joined = labelled.joined
    return with_markers(cohort, joined.table, opening.markers, _rows(joined, choice.chosen))


def _cohort(
    uri: str,
    root: Path,
    rules: Rules,
    chosen: Sequence[Series],
    labelled: _Labels | None,
    entries: Sequence[Entry],
    left_out: Sequence[LeftOut],
    remarks: Mapping[str, Sequence[str]],
) -> Cohort:
    first = chosen[0]
    channels = 3 if first.header.samples > 1 or first.header.photometric == "PALETTE COLOR" else 1
    return Cohort(
        uri,
        root.resolve().name,
        "multi-class" if labelled is None else labelled.task,
        () if labelled is None else labelled.classes,
        entries,
        {"image": channels},
        2 if first.affine is None else 3,
        True,
        DicomReader(root, channels, rules.voi),
        left_out=left_out,
        remarks=remarks,
        subject_remedy="map them to subjects with dicom:FOLDER?subjects=FILE (columns StudyInstanceUID and subject)",
    )


def _rows(joined: Joined, chosen: Sequence[Series]) -> list[int]:
    rows = [joined.row(series.header) for series in chosen]
    return [row for row in rows if row is not None]  # series without a row are left out


def _entries(chosen: Sequence[Series], labelled: _Labels | None, rules: Rules, split: str | None) -> list[Entry]:
    """A record for each series; without labels in this split."""
    mapping, subjects = subjects_of(rules.subjects)
    if mapping is not None:
        _refuse_rows_of_slices(mapping, chosen)
    entries = []
    ages = decades([_years(series.header.age) for series in chosen])
    for series, age in zip(chosen, ages, strict=True):
        header = series.header
        subject: str | None = header.patient or None
        if mapping is not None:
            row = mapping.row(header)
            if row is None:
                value = getattr(header, KEYS[mapping.key]) or "an empty one"
                raise InputError(
                    f"{mapping.table.path}: no row for {mapping.key} {value} ({header.path}); add its subject"
                )
            subject = subjects[row]
        attributes = {k: v for k, v in (("sex", header.sex), ("age", age)) if v}
        if labelled is None:
            entries.append(Entry(series.key, subject, split, None, attributes, DicomLocator(series)))
            continue
        row = labelled.joined.row(header)
        assert row is not None, "series without a row are left out"
        mask = labelled.masks[row]
        path = None if mask is None else find_mask(labelled.joined.table.path, row + 2, mask, Path(header.path))
        entries.append(
            Entry(
                series.key, subject, labelled.splits[row], labelled.labels[row],
                attributes | dict(labelled.attributes[row]), DicomLocator(series, path),
            )
        )  # fmt: skip
    return entries


def _refuse_rows_of_slices(joined: Joined, series: Sequence[Series]) -> None:
    """Raise InputError if a volume of several files is joined by one of them: which one would be chance."""
    volume = next((each for each in series if len(each.files) > 1), None)
    if joined.key == "SOPInstanceUID" and volume is not None:
        raise InputError(
            f"{joined.table.path}: its rows are of single images, but series {volume.key} is a volume of "
            f"{len(volume.files)}; name its rows by SeriesInstanceUID or StudyInstanceUID"
        )


def _years(age: str) -> str | None:
    """Years of an age such as 067Y; months, weeks and days are none."""
    return age[:-1] if age[-1:] == "Y" and age[:-1].isdecimal() else None


def _labels(root: Path, rules: Rules, opening: Opening) -> _Labels | None:
    columns, labels, targets, markers = opening.columns, opening.labels, opening.targets, opening.markers
    if rules.labels is None:
        wanted = labels or targets or markers or (columns and not opening.predicting)
        if wanted or (opening.strict and opening.labelled):
            raise InputError(
                f"{root}: no {'markers' if opening.predicting else 'labels'}; join a table with a column "
                f"{', '.join(list(KEYS)[2:])}: dicom:{root}?labels=FILE.csv"
            )
        return None
    path, table = rules.labels, read_table(rules.labels)
    if opening.predicting:
        present = {role: column for role, column in columns.items() if column in table.columns}
        return _unlabelled(join_table(table, present))
    for role in ("file", "subject"):
        if role in columns:
            raise InputError(
                f"{path}: --column {role}={columns[role]} is for manifests; name the identifier that joins images with "
                "--column PatientID=NAME, and the subjects with subjects=FILE"
            )
    joined = join_table(table, columns)
    if rules.subjects is None and (own := subject_column(table)) is not None:
        raise InputError(
            f"{path}: has a column {own}, but subjects are the PatientID unless subjects= says otherwise; "
            f"add subjects={path} to use the column, or rename it"
        )
    others = {role: column for role, column in columns.items() if role not in KEYS}
    known = {"file": joined.column, "subject": joined.column}
    roles = find_roles(table, others | known, labels, targets, labelled=opening.labelled)
    refuse_marked_labels(table, roles, (marker.name for marker in markers))
    splits = find_splits(table, roles.split)
    unlabelled = [split == "unlabelled" for split in splits]
    task, classes, values = read_labels(table, roles, unlabelled)
    masks = table.column(roles.mask)
    for row, (mask, split) in enumerate(zip(masks, splits, strict=True), start=2):
        if roles.mask is not None and not roles.labels and mask is None and split != "unlabelled":
            raise InputError(f"{path}, row {row}: no mask in column {roles.mask}; add it, or give the split unlabelled")
    free = _free(joined, roles, measurements(markers))
    attributes = attribute_rows(table, free, {c: role for role, c in others.items()})
    return _Labels(joined, task, classes, values, splits, masks, attributes)


def _unlabelled(joined: Joined) -> _Labels:
    count = len(joined.table)
    return _Labels(joined, "multi-class", (), [None] * count, ["unlabelled"] * count, [None] * count, [{}] * count)


def _free(joined: Joined, roles: Roles, without: Collection[str]) -> list[str]:
    """The columns that are attributes: neither roles nor identifiers, nor `without`."""
    used = {roles.file, roles.split, roles.mask, *roles.labels, *roles.targets, *without}
    return [name for name in joined.table.columns if name not in used and not is_identifier(name)]


def _refused(part: Refused) -> LeftOut:
    return LeftOut(part.key, part.reason, _details(part.header, part.files))


def _passed(series: Series, reason: str) -> LeftOut:
    return LeftOut(series.key, reason, _details(series.header, len(series.files)))


def _details(header: Header, files: int) -> dict[str, str]:
    return {
        "patient": header.patient, "study": header.study, "modality": header.modality,
        "description": header.description, "files": str(files), "first file": header.path,
    }  # fmt: skip


def _unread(found: Mapping[str, Found]) -> list[LeftOut]:
    foreign = [path for path, each in found.items() if each == NOT_DICOM]
    broken = [(path, each) for path, each in found.items() if isinstance(each, str) and each != NOT_DICOM]
    left_out = [LeftOut(path, reason, {"files": "1", "first file": path}) for path, reason in broken]
    if foreign:
        details = {"files": str(len(foreign)), "first file": foreign[0]}
        left_out.append(LeftOut("(other files)", NOT_DICOM, details))
    return left_out


def _why_nothing(found: Mapping[str, Found], left_out: Sequence[LeftOut]) -> str:
    if not any(isinstance(each, Header) for each in found.values()):
        return "no DICOM images in this folder; check the path"
    reasons = Counter(each.reason for each in left_out if each.reason != NOT_DICOM).most_common(3)
    return "none of its series can be used: " + "; ".join(f"{reason} ({number})" for reason, number in reasons)
