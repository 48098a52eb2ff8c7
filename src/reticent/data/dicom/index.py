"""The headers of all files below a folder, read once and kept: an interrupted reading goes on where it was."""

import json
import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NoReturn

from reticent.data.dicom.headers import UNREACHABLE, Header, read_header
from reticent.data.opening import Progress
from reticent.errors import InputError

Found = Header | str
_LAYOUT = 2
_AT_ONCE = 8  # reading is slow where the archive is on a network
_NEVER = (-1, -1)  # size and time of no file: it is read again next time
_BATCH = 256  # files between two commits: what a kill may lose


def index_headers(root: Path, progress: Progress | None = None) -> dict[str, Found]:
    """The header of every file below `root` by relative path, or why it is no image; hidden files are left out.

    Headers are kept in an index of the user's cache folder (`$RETICENT_CACHE`, else `$XDG_CACHE_HOME/reticent`),
    readable by its owner only, in batches; a file is read again if its size, modification time or status changed,
    or if it could not be read. Raises InputError if a folder cannot be read or the index cannot be written.
    """
    files = dict(_files(root))
    path = index_path(root)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with closing(sqlite3.connect(path, timeout=60)) as base:
            return _up_to_date(base, root, files, progress)
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"{path}: the index of DICOM headers cannot be used ({error}); delete it, or name another folder in "
            "$RETICENT_CACHE"
        ) from error


def index_path(root: Path) -> Path:
    """Where the index of this folder is kept."""
    named = os.environ.get("RETICENT_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reticent"
    name = sha256(str(root.resolve()).encode()).hexdigest()[:24]
    return Path(named or usual) / "dicom" / f"{name}-{_LAYOUT}.sqlite"


def _up_to_date(
    base: sqlite3.Connection, root: Path, files: dict[str, tuple[int, int]], progress: Progress | None
) -> dict[str, Found]:
    base.execute("CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, size INT, mtime INT, header TEXT)")
    kept = {path: (size, mtime) for path, size, mtime in base.execute("SELECT path, size, mtime FROM file")}
    with base:
        base.executemany("DELETE FROM file WHERE path = ?", [(path,) for path in kept if path not in files])
    stale = [path for path, stamp in files.items() if kept.get(path) != stamp]
    done = len(files) - len(stale)
    with warnings.catch_warnings(), ThreadPoolExecutor(_AT_ONCE) as pool:
        warnings.simplefilter("ignore")
        for batch in _batches(stale):
            found = pool.map(lambda path: read_header(root, path), batch)
            rows = [
                (path, *(_NEVER if _unreachable(header) else files[path]), _to_text(header))
                for path, header in zip(batch, found, strict=True)
            ]
            with base:
                base.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", rows)
            done += len(batch)
            if progress is not None:
                progress("Indexing DICOM headers", done, len(files))
    return {path: _from_text(text) for path, text in base.execute("SELECT path, header FROM file ORDER BY path")}


def _unreachable(found: Found) -> bool:
    return isinstance(found, str) and found.startswith(UNREACHABLE)


def _files(root: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Relative path, and size and time of the last change, of each file that is not hidden; raises InputError."""
    for folder, names, files in os.walk(root, onerror=_refuse):
        names[:] = sorted(name for name in names if not name.startswith((".", "__")))
        for name in sorted(files):
            path = Path(folder) / name
            try:
                if name.startswith(".") or not path.is_file():
                    continue
                status = path.stat()
            except OSError as error:
                _refuse(error)
            relative = path.relative_to(root).as_posix()
            try:
                relative.encode()
            except UnicodeEncodeError:
                raise InputError(f"{root}: the file name {relative!r} is not UTF-8; rename it") from None
            # Anonymisers often put times back, and leave sizes: what the system notes of a change cannot be put back.
            yield relative, (status.st_size, max(status.st_mtime_ns, status.st_ctime_ns))


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions, or leave it out")


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(paths)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _to_text(found: Found) -> str:
    return json.dumps(found if isinstance(found, str) else asdict(found))


def _from_text(text: str) -> Found:
    found = json.loads(text)
    return found if isinstance(found, str) else Header.from_json(found)
