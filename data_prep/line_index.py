"""Finding the rows of a large JSON Lines file by a key, in memory that does not grow with the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from data_prep.files import Row, read_jsonl_with_offsets
from pcclip.database import temporary_database


class LineIndex:
    """Line numbers and offsets of a file's rows by the value of one key, kept in a temporary database on disk.

    Use it as a context manager; the database goes with it.

    Args:
        path: A JSON Lines file, which must not change meanwhile.
        required: Keys that every row must have, and their types; see `read_jsonl`.
        key: The key to find rows by; its values are strings.
        unique: Whether a value may occur once only.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: A bad row, or with `unique` a value that occurs twice.
        OSError: The temporary folder is full.
    """

    def __init__(self, path: Path, required: Mapping[str, type], key: str, *, unique: bool = False) -> None:
        self.path = path
        self._key = key
        with ExitStack() as stack:
            self._database = stack.enter_context(temporary_database())
            self._fill(required, unique)
            self._stream = stack.enter_context(path.open("rb"))
            self._open = stack.pop_all()

    def _fill(self, required: Mapping[str, type], unique: bool) -> None:
        run = self._database.execute
        run("CREATE TABLE lines (value TEXT, number INTEGER, offset INTEGER)")
        run("BEGIN")
        self._database.executemany(
            "INSERT INTO lines VALUES (?, ?, ?)",
            ((row[self._key], number, offset) for number, offset, row in read_jsonl_with_offsets(self.path, required)),
        )
        run("CREATE INDEX by_value ON lines (value, number)")
        run("COMMIT")
        if unique:
            twice = run("SELECT value, MIN(number), MAX(number) FROM lines GROUP BY value HAVING COUNT(*) > 1 LIMIT 1")
            for value, earlier, number in twice:
                raise ValueError(
                    f"{self.path}, line {number}: `{self._key}` {value!r} was already used in line {earlier}; "
                    "it must be unique"
                )

    def __enter__(self) -> LineIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def rows(self, value: str) -> list[tuple[int, Row]]:
        """(Line number, row) of the rows with a value, in the order of the file; none for an unknown value."""
        places = self._database.execute("SELECT number, offset FROM lines WHERE value = ? ORDER BY number", (value,))
        return [(number, self._read(offset)) for number, offset in places.fetchall()]

    def get(self, value: str) -> Row | None:
        """The first row with a value, or None."""
        place = self._database.execute(
            "SELECT offset FROM lines WHERE value = ? ORDER BY number LIMIT 1", (value,)
        ).fetchone()
        return None if place is None else self._read(place[0])

    def _read(self, offset: int) -> Row:
        self._stream.seek(offset)
        row: Row = json.loads(self._stream.readline())
        return row
