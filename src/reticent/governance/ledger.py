"""The site ledger: one SQLite file in which every job is charged to its patients, under keyed pseudonyms."""

import json
import os
import secrets
import sqlite3
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from reticent.accounting import Composition, Mechanism, SubsampledGaussian, mechanism_from_dict
from reticent.errors import InputError
from reticent.governance.budget import Budget
from reticent.governance.chain import GENESIS, SALT_BYTES, Entry, commit, entry_hash, verify_chain
from reticent.governance.pseudonym import SiteKey, key_path, make_key, read_key
from reticent.governance.spending import Spending, by_relation, compose, effective_mechanisms, histories, require_room

SCHEMA = 1
APPLICATION_ID = 0x52544C31
BUSY_SECONDS = 60

TABLES = """
CREATE TABLE entries (
    number INTEGER PRIMARY KEY, uuid TEXT NOT NULL, schema INTEGER NOT NULL, time TEXT NOT NULL, event TEXT NOT NULL,
    run TEXT NOT NULL, cohort TEXT, fingerprint TEXT, scope TEXT, unit TEXT, mechanism TEXT NOT NULL,
    budget TEXT NOT NULL, details TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE TABLE subjects (
    entry INTEGER NOT NULL, position INTEGER NOT NULL, pseudonym TEXT, salt BLOB, commitment BLOB NOT NULL,
    PRIMARY KEY (entry, position)
) WITHOUT ROWID;
CREATE INDEX subjects_by_pseudonym ON subjects (pseudonym);
CREATE TABLE site (key_check BLOB NOT NULL);
"""


def ledger_path(option: Path | None = None) -> Path:
    """The ledger's file: the option, else $RETICENT_LEDGER, else reticent/ledger.sqlite in the data directory."""
    if option is not None:
        return option
    if named := os.environ.get("RETICENT_LEDGER"):
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "reticent" / "ledger.sqlite"


class Ledger:
    """The ledger of one site, open for reading and appending; every method is one atomic transaction.

    Every method that reads entries checks the hash chain first and raises `InputError` if it is broken.
    """

    def __init__(self, connection: sqlite3.Connection, key: SiteKey) -> None:
        self._connection = connection
        self._key = key
        self._chain_key = key.derive("ledger chain")

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Open the ledger at `path`; a new one and its key are made where there is none.

        Raises:
            InputError: the file is no ledger of this version or cannot be made, or its key is missing or another's.
        """
        try:
            new = not path.exists() or path.stat().st_size == 0
            if new:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists() and key_path(path).exists():
                    raise InputError(
                        f"{path}: the ledger is gone, but its key is there; restore it from your backup, or everything "
                        "that its patients have spent is forgotten"
                    )
                path.touch(mode=0o600)
            key = make_key(path) if new else read_key(path)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be opened or made ({error.strerror}); name another ledger with --ledger"
            ) from error
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        ledger = cls(connection, key)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # erased pseudonyms are overwritten, not just unlinked
            with ledger._transaction():
                ledger._prepare(path)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise InputError(f"{path}: not a readable ledger ({error})") from None
        except InputError:
            connection.close()
            raise
        if new:
            warnings.warn(
                f"made a new ledger, {path}, and its key, {key_path(path).name}: back up both, apart from each other",
                stacklevel=2,
            )
        return ledger

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pseudonym(self, subject: str) -> str:
        """The pseudonym of a subject identifier: the same in every copy, subset or conversion of a cohort."""
        return self._key.pseudonym(subject)

    def derive_key(self, purpose: str) -> bytes:
        """A 32-byte secret of this site for one purpose, for instance keyed splits."""
        return self._key.derive(purpose)

    @property
    def head(self) -> str:
        """Hash of the last entry; a run that keeps it is anchored."""
        row = self._connection.execute("SELECT hash FROM entries ORDER BY number DESC LIMIT 1").fetchone()
        return str(row[0]) if row else GENESIS

    def verify(self, anchors: Iterable[str] = ()) -> None:
        """Check every entry and subject row against the hash chain, and that no anchored entry is missing.

        Raises:
            InputError: names the first bad entry, or the anchor that is missing after a rollback or truncation.
        """
        with self._transaction():
            verify_chain(self._connection, self._chain_key, anchors)

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        with self._transaction():
            return verify_chain(self._connection, self._chain_key)

    def reserve(
        self,
        *,
        run: str,
        cohort: str,
        fingerprint: str,
        subjects: Sequence[str],
        unit: Literal["subject", "record"],
        mechanism: Mechanism,
        budget: Budget | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> str:
        """Charge a whole job to its subjects before it starts, and return the new head.

        Subjects are identifiers, not pseudonyms; repeated ones count once. The job is refused if the filter of its
        budget, or of a budget under which one of its subjects was used before, does not admit it on top of what every
        subject has spent in all earlier jobs, settled or crashed. `details` are JSON values that go on record.

        Raises:
            InputError: a budget would be exceeded, the run is already reserved, or there are no subjects.
        """
        if mechanism.unit != unit:
            raise InputError(f"the mechanism protects one {mechanism.unit}, the job asks for unit {unit}")
        pseudonyms = list(dict.fromkeys(self.pseudonym(subject) for subject in subjects))
        if not pseudonyms:
            raise InputError(f"run {run}: no subjects to charge")
        with self._transaction():
            entries = verify_chain(self._connection, self._chain_key)
            if any(entry.event == "reserve" and entry.run == run for entry in entries):
                raise InputError(f"run {run} is already reserved in the ledger; choose another run name")
            require_room(budget, mechanism, histories(self._connection, pseudonyms), entries)
            return self._append(
                "reserve",
                run,
                cohort=cohort,
                fingerprint=fingerprint,
                scope=f"{len(pseudonyms)} {unit}s",
                unit=unit,
                mechanism=mechanism.to_dict(),
                budget=budget.to_dict() if budget is not None else None,
                details=details,
                pseudonyms=pseudonyms,
            )

    def settle(self, run: str, mechanism: Mechanism | None, details: Mapping[str, Any] | None = None) -> str:
        """Replace a reservation by what was really spent, and return the new head; None if no step was started.

        Raises:
            InputError: the run is not reserved, or already settled.
            ValueError: what was spent is not the reserved mechanism, one of its parts or fewer of its steps.
        """
        with self._transaction():
            events = {e.event: e for e in verify_chain(self._connection, self._chain_key) if e.run == run}
            if "reserve" not in events or "settle" in events:
                state = "already settled" if "settle" in events else "not reserved"
                raise InputError(f"run {run} is {state} in the ledger")
            reserved = mechanism_from_dict(events["reserve"].mechanism or {})
            if mechanism is not None and not _is_part(mechanism, reserved):
                raise ValueError(f"run {run} spent something else than it had reserved")
            spent = mechanism.to_dict() if mechanism is not None else None
            return self._append("settle", run, mechanism=spent, details=details)

    def record(
        self, event: Literal["resume", "release", "forget", "audit"], run: str, details: Mapping[str, Any]
    ) -> str:
        """Append an event that spends nothing, with JSON details, and return the new head."""
        with self._transaction():
            verify_chain(self._connection, self._chain_key)
            return self._append(event, run, details=details)

    def erase(self, subject: str) -> int:
        """Erase a subject from all rows and append a forget event; returns the number of rows.

        Commitments stay, so the chain stays valid. What the subject had spent is forgotten with it: keep erased
        patients out of later cohorts.
        """
        with self._transaction():
            verify_chain(self._connection, self._chain_key)
            query = "SELECT entry, commitment FROM subjects WHERE pseudonym = ? ORDER BY entry"
            pseudonym = self.pseudonym(subject)
            erased = [[entry, bytes(value).hex()] for entry, value in self._connection.execute(query, (pseudonym,))]
            self._connection.execute(
                "UPDATE subjects SET pseudonym = NULL, salt = NULL WHERE pseudonym = ?", (pseudonym,)
            )
            if erased:
                self._append("forget", "", details={"erased": erased})
        return len(erased)

    def spent(self, subject: str) -> Composition | None:
        """Everything one subject was exposed to; None if nothing.

        Raises:
            InputError: under several neighbouring relations, which do not compose; see `spent_by_relation`.
        """
        mechanisms, history = self._history(subject)
        return compose(history, mechanisms)

    def spent_by_relation(self, subject: str) -> list[Composition]:
        """Everything one subject was exposed to, one composition for each neighbouring relation."""
        mechanisms, history = self._history(subject)
        parts = (compose(part, mechanisms) for part in by_relation(history, mechanisms).values())
        return [part for part in parts if part is not None]

    def _history(self, subject: str) -> tuple[dict[int, Mechanism | None], tuple[int, ...]]:
        with self._transaction():
            mechanisms = effective_mechanisms(verify_chain(self._connection, self._chain_key))
            (history,) = histories(self._connection, [self.pseudonym(subject)])
        return mechanisms, history

    def runs(self, subject: str) -> list[str]:
        """The runs that a subject was reserved for."""
        with self._transaction():
            entries = verify_chain(self._connection, self._chain_key)
            counts = histories(self._connection, [self.pseudonym(subject)])
        return [entries[number - 1].run for history in counts for number in history]

    def spending(self) -> list[Spending]:
        """Groups of subjects with the same history, the largest first; one for each neighbouring relation in it."""
        with self._transaction():
            entries = verify_chain(self._connection, self._chain_key)
            counts = histories(self._connection)
        mechanisms = effective_mechanisms(entries)
        return [
            Spending(subjects, tuple(entries[number - 1].run for number in part), compose(part, mechanisms))
            for history, subjects in counts.most_common()
            for part in by_relation(history, mechanisms).values()
        ]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):  # a full or read-only disk, a lock that is not released
                raise InputError(
                    f"the ledger could not be written ({error}); it is as it was before. Make room, or see who uses it"
                ) from error
            raise

    def _prepare(self, path: Path) -> None:
        """Make the tables of a new ledger, or check that an existing file is one and that the key belongs to it."""
        key_check = self._key.derive("key check")
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in TABLES.split(";")[:-1]:
                self._connection.execute(statement)
            self._connection.execute("INSERT INTO site VALUES (?)", (key_check,))
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {SCHEMA}")
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (schema,) = self._connection.execute("PRAGMA user_version").fetchone()
        if (application, schema) != (APPLICATION_ID, SCHEMA):
            raise InputError(f"{path}: not a ledger of version {SCHEMA}; name the right file with --ledger")
        if self._connection.execute("SELECT key_check FROM site").fetchall() != [(key_check,)]:
            raise InputError(f"{path}: the site key beside it belongs to another ledger; restore the right key file")

    def _append(
        self,
        event: str,
        run: str,
        *,
        cohort: str | None = None,
        fingerprint: str | None = None,
        scope: str | None = None,
        unit: str | None = None,
        mechanism: dict[str, Any] | None = None,
        budget: dict[str, float] | None = None,
        details: Mapping[str, Any] | None = None,
        pseudonyms: Sequence[str] = (),
    ) -> str:
        (last,) = self._connection.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()
        time = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Entry(
            last + 1, str(uuid.uuid4()), SCHEMA, time, event, run, cohort, fingerprint, scope, unit, mechanism, budget,
            json.loads(json.dumps(dict(details or {}))),
        )  # fmt: skip
        salts = [secrets.token_bytes(SALT_BYTES) for _ in pseudonyms]
        commitments = [commit(salt, pseudonym) for salt, pseudonym in zip(salts, pseudonyms, strict=True)]
        head = entry_hash(self._chain_key, self.head, entry, commitments)
        plain = (entry.number, entry.uuid, entry.schema, time, event, run, cohort, fingerprint, scope, unit)
        texts = tuple(json.dumps(value, sort_keys=True) for value in (mechanism, budget, entry.details))
        self._connection.execute(f"INSERT INTO entries VALUES ({','.join('?' * 14)})", (*plain, *texts, head))
        self._connection.executemany(
            "INSERT INTO subjects VALUES (?, ?, ?, ?, ?)",
            (
                (entry.number, position, *row)
                for position, row in enumerate(zip(pseudonyms, salts, commitments, strict=True))
            ),
        )
        return head


def _is_part(spent: Mechanism, reserved: Mechanism) -> bool:
    parts = reserved.mechanisms if isinstance(reserved, Composition) else ()
    if isinstance(spent, SubsampledGaussian) and isinstance(reserved, SubsampledGaussian):
        return spent.steps <= reserved.steps and replace(spent, steps=reserved.steps) == reserved
    return spent == reserved or spent in parts
