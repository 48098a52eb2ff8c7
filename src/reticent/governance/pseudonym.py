"""The site key: what turns patient identifiers into pseudonyms that only this site can make again."""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from reticent.errors import InputError

KEY_BYTES = 32


@dataclass(frozen=True)
class SiteKey:
    """32 secret bytes, kept in a file of mode 0600 beside the ledger."""

    secret: bytes = field(repr=False)

    def pseudonym(self, subject: str) -> str:
        """HMAC-SHA256 of "subject", a zero byte and the identifier, in hexadecimal."""
        return self._mac(b"subject\0" + subject.encode()).hex()

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for one purpose, independent of the pseudonyms."""
        return self._mac(b"derive\0" + purpose.encode())

    def _mac(self, message: bytes) -> bytes:
        return hmac.digest(self.secret, message, hashlib.sha256)


def key_path(ledger: Path) -> Path:
    """Where the key of a ledger is kept."""
    return ledger.with_name(ledger.name + ".key")


def read_key(ledger: Path) -> SiteKey:
    """The key of an existing ledger.

    Raises:
        InputError: the key file is missing or damaged.
    """
    path = key_path(ledger)
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: the site key of this ledger is missing; restore it from your backup, nothing can replace it"
        ) from None
    if len(secret) != KEY_BYTES:
        raise InputError(f"{path}: not a site key ({KEY_BYTES} bytes); restore it from your backup")
    return SiteKey(secret)


def make_key(ledger: Path) -> SiteKey:
    """The key of a new ledger: the one that is there, or a fresh one.

    The key is written aside and linked into place, so that of two processes one wins and both read the same key.
    """
    path = key_path(ledger)
    if not path.exists():
        aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    return read_key(ledger)
