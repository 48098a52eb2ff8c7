"""Series: the files of one SeriesInstanceUID, split where they are mixed, and each part read or refused."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reticent.data.dicom.address import Rules
from reticent.data.dicom.headers import Header
from reticent.data.dicom.stacking import UnevenStackError, stack

FLAT = {"CR", "DX", "MG", "IO", "PX", "DR", "RG", "RF", "XA", "US", "XC", "OP", "ES", "GM", "OT"}
"""Modalities whose every image is a record of its own."""
DEEP = {"CT", "MR", "PT", "NM"}
"""Modalities whose series are volumes."""
_SAME_PLANE = 0.01  # direction cosines
_SECONDARY = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(\.\d+)*")  # Secondary Capture storage, PS3.4 B.5
_SCOUT = re.compile(r"scout|locali[sz]er|topogram|surview|scanogram|scano\b", re.IGNORECASE)


@dataclass(frozen=True)
class Series:
    """Images that belong together; `slices` has the file and the frame (None: its only one) of each, in order.

    `affine` (4, 4) maps (column, row, slice) to RAS+ mm; None for a flat image. `key` is the SeriesInstanceUID, or the
    SOPInstanceUID of a flat image, with "#2" … for further parts of a mixed series.
    """

    key: str
    header: Header
    slices: tuple[tuple[str, int | None], ...]
    affine: np.ndarray | None

    @property
    def files(self) -> list[str]:
        """The files, each once."""
        return list(dict.fromkeys(path for path, _ in self.slices))


@dataclass(frozen=True)
class Refused:
    """Images that cannot be a record, and why."""

    key: str
    header: Header
    files: int
    reason: str


def find_series(headers: Iterable[Header], rules: Rules) -> list[Series | Refused]:
    """Every series of the files, and every flat image, read or refused, ordered by patient, study and key."""
    grouped: defaultdict[str, list[Header]] = defaultdict(list)
    for header in headers:
        flat = header.modality in FLAT
        grouped[(header.sop_uid if flat else header.series) or header.path].append(header)
    found = [part for key, group in grouped.items() for part in _parts(key, group, rules)]
    return sorted(found, key=lambda part: (part.header.patient, part.header.study, part.key))


def without_copies(headers: Iterable[Header]) -> tuple[list[Header], list[Header]]:
    """The headers without further files of the same instance, and those further files."""
    seen: set[str] = set()
    once: list[Header] = []
    copies: list[Header] = []
    for header in headers:
        (copies if header.sop_uid and header.sop_uid in seen else once).append(header)
        seen.add(header.sop_uid)
    return once, copies


def _parts(key: str, group: list[Header], rules: Rules) -> list[Series | Refused]:
    if len({header.patient for header in group}) > 1:
        return [Refused(key, group[0], len(group), "several PatientIDs in one series")]
    if len({header.study for header in group}) > 1:
        return [Refused(key, group[0], len(group), "several StudyInstanceUIDs in one series")]
    parts: defaultdict[tuple[object, ...], list[Header]] = defaultdict(list)
    planes: list[tuple[float, ...]] = []
    for header in group:
        parts[(_plane(header, planes), *_likeness(header))].append(header)
    ordered = sorted(
        (phase for part in parts.values() for phase in _phases(part)), key=lambda part: (-len(part), part[0].path)
    )
    result: list[Series | Refused] = []
    for number, part in enumerate(ordered, start=1):
        name = key if number == 1 else f"{key}#{number}"
        reason = _unfit(part, rules)
        mixed = f"mixed {_differing(parts)} in one series, {len(part)} of {len(group)} images here; "
        if reason is None and part[0].modality in FLAT:
            result.append(Series(name, part[0], ((part[0].path, None),), None))
            continue
        try:
            result.append(_volume(name, part, rules) if reason is None else Refused(name, part[0], len(part), reason))
        except UnevenStackError as error:
            result.append(Refused(name, part[0], len(part), mixed * (len(parts) > 1) + str(error)))
    return result


_LIKENESS = ("orientation", "size", "pixel spacing", "kernel", "echo time", "b-value", "frame of reference", "type")


def _phases(part: list[Header]) -> list[list[Header]]:
    """Images that lie at the same places, as those of several time points or acquisitions, taken apart by these."""
    if len({header.positions for header in part}) == len(part):
        return [part]
    for of in (lambda header: header.time_point, lambda header: header.acquisition):
        phases: defaultdict[str, list[Header]] = defaultdict(list)
        for header in part:
            phases[of(header)].append(header)
        if all(len({header.positions for header in phase}) == len(phase) for phase in phases.values()):
            return list(phases.values())
    return [part]


def _plane(header: Header, planes: list[tuple[float, ...]]) -> int:
    """The number of the image's orientation among those seen, to which it is added if it is new."""
    for number, plane in enumerate(planes):
        pairs = zip(plane, header.orientation, strict=False)
        if len(plane) == len(header.orientation) and all(abs(a - b) <= _SAME_PLANE for a, b in pairs):
            return number
    planes.append(header.orientation)
    return len(planes) - 1


def _likeness(header: Header) -> tuple[object, ...]:
    """What else images of one stack have in common, in the order of `_LIKENESS`."""
    return (
        (header.rows, header.columns, header.samples),
        tuple(round(spacing, 4) for spacing in header.spacing),
        header.kernel,
        header.echo_time,
        header.b_value,
        header.frame_of_reference,
        header.image_type[:3],
    )


def _differing(parts: Iterable[tuple[object, ...]]) -> str:
    values = zip(*parts, strict=True)
    return " and ".join(name for name, each in zip(_LIKENESS, values, strict=True) if len(set(each)) > 1)


def _unfit(part: Sequence[Header], rules: Rules) -> str | None:
    """Why these images are no record, whatever their geometry."""
    first = part[0]
    if not first.sop_uid or not first.series or not first.study:
        return "no StudyInstanceUID, SeriesInstanceUID or SOPInstanceUID"
    if first.modality not in FLAT | DEEP:
        return f"modality {first.modality or 'missing'}: no image that is read"
    if "LOCALIZER" in first.image_type or (first.modality in DEEP and _SCOUT.search(first.description)):
        return "localiser (scout)"
    derived = first.modality in DEEP and first.image_type[:1] == ("DERIVED",)
    if (derived or _SECONDARY.fullmatch(first.sop_class)) and not rules.derived:
        return "derived image or secondary capture; derived=keep takes it"
    if first.modality in FLAT and first.frames > 1:
        return f"{first.frames} frames in one file (a film)"
    if first.modality in DEEP and first.samples > 1:
        return "a volume in colour"
    return _undecodable(Counter(header.transfer_syntax for header in part))


def _undecodable(syntaxes: Iterable[str]) -> str | None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    for syntax in syntaxes:
        uid = UID(syntax)
        try:
            if not uid.is_compressed or get_decoder(uid).is_available:
                continue
        except (NotImplementedError, ValueError):  # no decoder is known, or the identifier is a private one
            return f"unsupported transfer syntax {uid.name}"
        return f"unsupported transfer syntax {uid.name}; a decoder is missing: pip install pylibjpeg-libjpeg (GPL-3.0)"
    return None


def _volume(key: str, part: Sequence[Header], rules: Rules) -> Series:
    """Raises UnevenStackError if these are no volume."""
    several = [header for header in part if header.frames > 1]
    if several and len(part) > 1:
        raise UnevenStackError("several files of several frames each")
    first = part[0]
    if first.mixed:
        raise UnevenStackError("mixed orientation: the frames of the file lie in different planes")
    if not first.orientation or not first.spacing:
        raise UnevenStackError("no ImageOrientationPatient or no PixelSpacing")
    if any(len(header.positions) != header.frames for header in part):
        raise UnevenStackError("slices without ImagePositionPatient")
    slices: list[tuple[str, int | None]] = (
        [(first.path, frame) for frame in range(first.frames)] if several else [(header.path, None) for header in part]
    )
    places = first.positions if several else [header.positions[0] for header in part]
    stacked = stack(places, first.orientation, first.spacing)
    if len(slices) < rules.slices:
        raise UnevenStackError(f"{len(slices)} slices; slices={len(slices)} takes it")
    return Series(key, first, tuple(slices[i] for i in stacked.order), stacked.affine)
