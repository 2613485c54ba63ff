"""Random access to the rows of JSON Lines files."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from data_prep.files import Row, read_jsonl_with_offsets
from data_prep.parts import hash64

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
L = TypeVar("L", bound="Lines")


class Lines:
    """Rows of JSON Lines files by their place: the byte at which they begin, counted over all files. Use as a context manager.

    Args:
        files: The files. They must not change meanwhile.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self._ends = list(accumulate(file.stat().st_size for file in files))
        self._streams = [file.open("rb") for file in files]

    def __enter__(self: L) -> L:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.close()

    def at(self, place: int) -> tuple[Path, Row]:
        """Return the row at a place, and its file."""
        number, offset = self._locate(place)
        self._streams[number].seek(offset)
        row: Row = json.loads(self._streams[number].readline())
        return self.files[number], row

    def where(self, place: int) -> str:
        """Return the file and the line number of a place, for messages. Reads the file up to there."""
        number, offset = self._locate(place)
        rows = read_jsonl_with_offsets(self.files[number], {})
        return f"{self.files[number]}, line {next(line for line, start, _ in rows if start == offset)}"

    def _locate(self, place: int) -> tuple[int, int]:
        number = bisect_right(self._ends, place)
        return number, place - (self._ends[number - 1] if number else 0)


class LineIndex(Lines):
    """Rows of JSON Lines files by the value of one key, which is unique over all files.

    Holds a 64-bit hash and two numbers for each row in memory, 24 bytes together.

    Args:
        files: The files. They must not change meanwhile.
        required: Keys that every row must have, and their types; see `read_jsonl`.
        key: The key to find rows by. Its values are strings.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A bad row, or a value that occurs twice.
    """

    def __init__(self, files: Sequence[Path], required: Mapping[str, type], key: str) -> None:
        self._key = key
        hashes, places, start = array("Q"), array("q"), 0
        for file in files:
            for _, offset, row in read_jsonl_with_offsets(file, required):
                hashes.append(hash64(row[key]))
                places.append(start + offset)
            start += file.stat().st_size
        super().__init__(files)
        self.places = np.asarray(places, np.int64)
        """Places of all rows, in the order of the files."""
        self._order = np.argsort(np.asarray(hashes, np.uint64), kind="stable")
        self._hashes = np.asarray(hashes, np.uint64)[self._order]
        twice = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        if len(twice):
            earlier, later = self.places[self._order[twice[0] : twice[0] + 2]].tolist()
            with self:  # closes the files
                raise ValueError(
                    f"{self.where(later)}: `{key}` {self.at(later)[1][key]!r} was already used in {self.where(earlier)}; "
                    "it must be unique"
                )

    def numbers(self, hashes: Hashes) -> Numbers:
        """Return the numbers of the rows whose values have these hashes, in the order of the files; -1 if unknown."""
        found = positions(self._hashes, hashes)
        found[found >= 0] = self._order[found[found >= 0]]
        return found

    def get(self, value: str) -> Row | None:
        """Return the row with a value, or None."""
        wanted = np.uint64(hash64(value))
        found = self._hashes.searchsorted(wanted)
        if found == len(self._hashes) or self._hashes[found] != wanted:
            return None
        _, row = self.at(int(self.places[self._order[found]]))
        return row if row[self._key] == value else None  # another value may have the same hash


def positions(known: Hashes, wanted: Hashes) -> Numbers:
    """Return the last position of each wanted hash in sorted ones, or -1."""
    found = np.searchsorted(known, wanted, side="right") - 1
    if len(known):
        found[known[found] != wanted] = -1
    return found
