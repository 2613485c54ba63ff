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
def temporary_database() -> Iterator[Database]:
    """Yield a database in a file without a name, which ends with the process: in `TMPDIR`, else in /var/tmp.

    Raises:
        OSError: The database cannot be written; names the folder.
    """
    folders = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")
    place = Path(next(folder for folder in folders if folder and os.access(folder, os.W_OK)))
    with _naming(place, "make room, or set TMPDIR to a folder on another disk"):
        database = sqlite3.connect("", isolation_level=None)
        try:
            database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            yield database
        finally:
            database.close()


@contextmanager
def _naming(place: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise OSError(f"{place}: the database there cannot be used ({error}); {remedy}") from error
