"""What of the files themselves would tell who the patients are."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from reticent.data.dicom.headers import Header

Remarks = dict[str, list[str]]


def personal_remarks(headers: Sequence[Header], copies: Sequence[Header]) -> Remarks:
    """Identifying attributes that hold values, declared burnt-in text, and identifiers that seem shared or double.

    `copies` are further files of images among `headers`. Values are not told, but for PatientIDs and paths.
    """
    owners = {header.sop_uid: header.patient for header in headers}
    counts = Counter(keyword for header in headers for keyword in header.identifying)
    people, identifiers = defaultdict(set), defaultdict(set)
    for header in headers:
        if header.person and header.patient:
            people[header.patient].add(header.person)
            identifiers[header.person].add(header.patient)
    return {
        "identifying attributes in the files": [
            f"{name}: {n:,} of {len(headers):,}" for name, n in counts.most_common()
        ],
        "BurnedInAnnotation YES": [header.path for header in headers if header.burned_in.upper() == "YES"],
        "PatientIDs with several names or birth dates": [
            f"{patient}: {len(each)} (two people? give them subjects of their own with subjects=FILE)"
            for patient, each in people.items()
            if len(each) > 1
        ],
        "one name and birth date under several PatientIDs": [
            f"{', '.join(sorted(each))} (one person? give them one subject with subjects=FILE)"
            for each in identifiers.values()
            if len(each) > 1
        ],
        "further copies of an image": [header.path for header in copies],
        "copies under another PatientID": [
            f"{header.path}: {header.patient or 'none'}, read as {owners[header.sop_uid] or 'none'}'s"
            for header in copies
            if header.patient != owners[header.sop_uid]
        ],
    }
