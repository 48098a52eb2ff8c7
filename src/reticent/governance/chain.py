"""The hash chain: every entry's keyed hash covers all its fields, its subjects and the entry before it."""

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from operator import itemgetter
from typing import Any

from reticent.errors import InputError

GENESIS = "0" * 64
SALT_BYTES = 16


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    `event` is reserve, settle, resume, release, forget or audit; `mechanism`, `budget` and `details` are JSON values;
    `scope` says how many units of what were touched; `time` is UTC, ISO 8601.
    """

    number: int
    uuid: str
    schema: int
    time: str
    event: str
    run: str
    cohort: str | None
    fingerprint: str | None
    scope: str | None
    unit: str | None
    mechanism: dict[str, Any] | None
    budget: dict[str, float] | None
    details: dict[str, Any]
    hash: str = ""


COLUMNS = tuple(field.name for field in fields(Entry))
JSON_COLUMNS = ("mechanism", "budget", "details")


def commit(salt: bytes, pseudonym: str) -> bytes:
    """SHA-256(salt || pseudonym): stays in the chain when salt and pseudonym are erased, and then reveals nothing."""
    return hashlib.sha256(salt + pseudonym.encode()).digest()


def entry_hash(key: bytes, previous: str, entry: Entry, commitments: Iterable[bytes]) -> str:
    """HMAC-SHA256 under the chain key of the previous hash, the entry as canonical JSON and its ordered commitments."""
    values = asdict(entry)
    del values["hash"]
    subjects = hashlib.sha256(b"".join(commitments)).hexdigest()
    text = json.dumps([previous, values, subjects], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def read_entries(connection: sqlite3.Connection) -> list[Entry]:
    """All entries in order.

    Raises:
        InputError: an entry cannot be read, naming the first.
    """
    entries = []
    for row in connection.execute("SELECT * FROM entries ORDER BY number"):
        try:
            values = dict(zip(COLUMNS, row, strict=True))
            entries.append(Entry(**values | {name: json.loads(values[name]) for name in JSON_COLUMNS}))
        except (ValueError, TypeError):
            raise _tampered(len(entries) + 1) from None
    return entries


def verify_chain(connection: sqlite3.Connection, key: bytes, anchors: Iterable[str] = ()) -> list[Entry]:
    """The entries, after checking that none was changed, added, reordered or removed before the last anchor.

    An erased subject must be named, by commitment, in a forget entry.

    Raises:
        InputError: names the first entry that does not fit, or the anchor that no entry has.
    """
    entries = read_entries(connection)
    erased = _erased(entries)
    rows = connection.execute("SELECT * FROM subjects ORDER BY entry, position")
    groups = groupby(rows, key=itemgetter(0))
    subjects_of, subjects = next(groups, (None, iter(())))
    head = GENESIS
    for number, entry in enumerate(entries, start=1):
        commitments: list[bytes] = []
        if subjects_of == number:
            try:
                commitments = [_checked(row, place, erased) for place, row in enumerate(subjects)]
            except (ValueError, TypeError, AttributeError):
                raise _tampered(number) from None
            subjects_of, subjects = next(groups, (None, iter(())))
        head = entry_hash(key, head, entry, commitments) if entry.number == number else ""
        if not isinstance(entry.hash, str) or not hmac.compare_digest(head, entry.hash):
            raise _tampered(number)
    if subjects_of is not None:
        raise InputError(f"the ledger has subjects for entry {subjects_of}, which does not exist: it was tampered with")
    hashes = {entry.hash for entry in entries} | {GENESIS}
    for anchor in anchors:
        if anchor not in hashes:
            raise InputError(
                f"the ledger does not contain the entry {anchor[:16]}… that a run is anchored in: it was rolled back "
                "or truncated; restore the newest backup"
            )
    return entries


def _erased(entries: Iterable[Entry]) -> set[tuple[int, str]]:
    """(entry number, commitment) of every subject row that a forget entry declares erased."""
    erased: set[tuple[int, str]] = set()
    for entry in entries:
        try:
            if entry.event == "forget":
                erased.update((number, commitment) for number, commitment in entry.details.get("erased", ()))
        except (ValueError, TypeError, AttributeError):
            raise _tampered(entry.number) from None
    return erased


def _checked(row: tuple[int, int, str | None, bytes | None, bytes], place: int, erased: set[tuple[int, str]]) -> bytes:
    """The commitment of a row; raises ValueError if the row does not fit it or is not in its place."""
    number, position, pseudonym, salt, commitment = row
    if position != place:
        raise ValueError
    if pseudonym is None and salt is None:
        if (number, commitment.hex()) not in erased:
            raise ValueError
    elif salt is None or pseudonym is None or commit(salt, pseudonym) != commitment:
        raise ValueError
    return commitment


def _tampered(number: int) -> InputError:
    return InputError(f"ledger entry {number} was tampered with or damaged; restore the ledger from a backup")
