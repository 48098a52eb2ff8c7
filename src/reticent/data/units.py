"""Record-level privacy: every record becomes its own subject, named by its content."""

from collections import Counter
from dataclasses import replace

from reticent.data.cohort import Cohort


def with_record_subjects(cohort: Cohort, *, hashed: bool) -> Cohort:
    """The cohort with each record's subject set to "record:" and the hexadecimal digest of its stored bytes.

    The second, third … exact duplicate gets "#2", "#3" … appended, so that the names are unique, yet survive copying
    and subsetting the cohort. Not `hashed`, the record's key stands for the digest, and no image is read.
    """
    if not hashed:
        return replace(cohort, entries=[replace(entry, subject=f"record:{entry.key}") for entry in cohort.entries])
    copies: Counter[str] = Counter()
    entries = []
    for i, entry in enumerate(cohort.entries):
        digest = cohort.digest(i).hex()
        copies[digest] += 1
        suffix = f"#{copies[digest]}" if copies[digest] > 1 else ""
        entries.append(replace(entry, subject=f"record:{digest}{suffix}"))
    return replace(cohort, entries=entries)
