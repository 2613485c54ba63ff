"""SQLite, for look-ups by key: it finds a row in some 10 microseconds, where DuckDB, made for whole tables, takes 500."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Database = sqlite3.Connection


@contextmanager
def kept_database(file: Path, remedy: str) -> Iterator[Database]:
    """Yield a database that is kept. The block is one transaction, which an error takes back.

    Args:
        file: The database, which several processes may use.
        remedy: What to do about an error.

    Raises:
        OSError: It cannot be read or written; names the file.
    """
    with _naming(file, remedy):
        database = sqlite3.connect(file, timeout=60)
        try:
            with database:
                database.execute("PRAGMA synchronous = NORMAL")
                yield database
        finally:
            database.close()


@contextmanager
def temporary_database(file: Path | None = None) -> Iterator[Database]:
    """Yield a database that is not kept: nothing protects it from a power cut.

    Args:
        file: Where to make it. None: in `TMPDIR`, else /var/tmp; that file has no name and goes with the process.

    Raises:
        OSError: The database cannot be written; names the folder.
    """
    if file is None:
        folders = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")
        place = Path(next(folder for folder in folders if folder and os.access(folder, os.W_OK)))
        remedy = "make room, or set TMPDIR to a folder on another disk"
    else:
        place, remedy = file.parent.parent, "make room"
    with _naming(place, remedy):
        database = sqlite3.connect(file or "", isolation_level=None)
        try:
            database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            yield database
        finally:
            database.close()


def finished_database(file: Path) -> Database:
    """Open a database that no process changes any more."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


@contextmanager
def _naming(place: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise OSError(f"{place}: the database there cannot be used ({error}); {remedy}") from error
