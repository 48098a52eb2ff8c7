"""Splits by subject that depend on a key and on the subject alone."""

import hashlib
import hmac
from collections.abc import Sequence

from reticent.data.cohort import Cohort
from reticent.errors import InputError


def assign_splits(cohort: Cohort, key: bytes, *, val: float = 0.15, test: float = 0.15) -> list[str]:
    """The split of every record: the given one, else one drawn for its subject.

    With u = HMAC-SHA256(key, subject) as a fraction of 2^256, the subject goes to "val" if u < val, to "test" if
    u < val + test, and else to "train": no subject's split depends on the others. A record without a split follows the
    given split of its subject's other records. Raises InputError if no record is left for training, or if splits were
    drawn and validation is empty.
    """
    given = {
        entry.subject: entry.split for entry in cohort.entries if entry.subject is not None and entry.split is not None
    }
    splits = []
    for entry in cohort.entries:
        subject = entry.subject or entry.key
        splits.append(entry.split or given.get(subject) or _drawn(subject, key, val, test))
    drawn = any(entry.split is None for entry in cohort.entries)
    for split in ("train", "val") if drawn and val > 0 else ("train",):
        if split not in splits:
            raise InputError(
                f"{cohort.uri}: the split {split} came out empty; "
                f"the cohort is too small for shares of {val:g} and {test:g}: "
                "give a split column or other shares"
            )
    return splits


def split_by_time(times: Sequence[float], *, test_from: float, val_from: float | None = None) -> list[str]:
    """ "test" from `test_from` on, "val" from `val_from` on, "train" before: as a model meets what comes after it."""
    first = test_from if val_from is None else val_from
    return ["test" if time >= test_from else "val" if time >= first else "train" for time in times]


def _drawn(subject: str, key: bytes, val: float, test: float) -> str:
    digest = hmac.digest(key, subject.encode(), hashlib.sha256)
    u = int.from_bytes(digest[:8], "big") / 2**64
    if u < val:
        return "val"
    return "test" if u < val + test else "train"
