"""Random access to the rows of JSON Lines files: by place, by a key, and by the groups that step `shard` packs."""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, file_state, image_path, read_jsonl_with_offsets
from data_prep.parts import hash64

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]
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
        number = int(self.numbers(np.array([hash64(value)], np.uint64))[0])
        if number < 0:
            return None
        _, row = self.at(int(self.places[number]))
        return row if row[self._key] == value else None  # another value may have the same hash


def positions(known: NDArray[Any], wanted: NDArray[Any]) -> Numbers:
    """Return the last position of each wanted value in sorted ones, or -1."""
    found = np.searchsorted(known, wanted, side="right") - 1
    if len(known):
        found[known[found] != wanted] = -1
    return found


class GroupRows(NamedTuple):
    """Rows of one group, by their places in `Lines`."""

    differences: list[int]
    """Rows of differences, in the order of the files."""
    images: list[int]
    """Captions rows of the images. In a group without differences, this is the order of the images."""


class GroupIndex(LineIndex):
    """Index of captions by image id, and of differences by group.

    It is held in memory: 24 bytes per image and 32 bytes per row of differences. Groups are numbered file by file, in the
    order of their first rows. Rows that a language model wrote have a `key` and come in random order. Groups of such rows
    are ordered by name and follow the other groups of the file.

    Args:
        captions: `captions.jsonl` files.
        differences: `differences.jsonl` files about those images.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A bad row, an id that occurs twice, an unknown image, an image paired with itself, or an empty text.
    """

    def __init__(self, captions: Sequence[Path], differences: Sequence[Path]) -> None:
        places, hashes, groups = array("q"), array("Q"), array("q")
        found: dict[tuple[int, str], int] = {}
        unordered: dict[int, bool] = {}
        start = 0
        for source, file in enumerate(differences):
            for line, offset, row in read_jsonl_with_offsets(file, DIFFERENCE_KEYS):
                _check_difference(row, f"{file}, line {line}")
                group = found.setdefault((source, row["group"]), len(found))
                unordered[group] = unordered.get(group, True) and "key" in row
                places.append(start + offset)
                hashes.extend((hash64(row["first"]), hash64(row["second"])))
                groups.append(group)
            start += file.stat().st_size
        super().__init__(captions, CAPTION_KEYS, "id")
        self._pairs = self.numbers(np.asarray(hashes, np.uint64)).reshape(-1, 2)
        self._places = np.asarray(places, np.int64)
        self._check_images(differences)
        ordered = sorted((source, name if unordered[group] else "", group) for (source, name), group in found.items())
        named = [name for _, name in found]
        self.names = [named[group] for *_, group in ordered]
        """Names of the groups with differences, by number. Groups of two files may have the same name."""
        rank = np.argsort([group for *_, group in ordered])
        self._groups = rank[np.asarray(groups, np.int64)]
        self._by_group = np.argsort(self._groups, kind="stable")
        self._starts = np.searchsorted(self._groups[self._by_group], np.arange(len(ordered) + 1))
        self._unpaired: list[Numbers] = []

    def _check_images(self, differences: Sequence[Path]) -> None:
        unknown = np.flatnonzero((self._pairs < 0).any(1))
        if len(unknown):
            place, side = int(self._places[unknown[0]]), "first" if self._pairs[unknown[0], 0] < 0 else "second"
            with self, Lines(differences) as lines:
                name = lines.at(place)[1][side]
                raise ValueError(
                    f"{lines.where(place)}: `{side}` is {name!r}, which no captions file has; fix or delete the row"
                )

    def images_in(self, chosen: Mask) -> Mask:
        """Return which images (images,) are in the chosen groups (groups with differences,)."""
        found = np.zeros(len(self.places), bool)
        found[self._pairs[chosen[self._groups]]] = True
        return found

    def add_unpaired(self, images: Numbers, size: int) -> Numbers:
        """Add groups of `size` images each, without differences, and return their numbers."""
        self._unpaired = [images[start : start + size] for start in range(0, len(images), size)]
        return len(self.names) + np.arange(len(self._unpaired))

    def rows(self, group: int) -> GroupRows:
        """Return the rows of a group."""
        if group >= len(self.names):
            return GroupRows([], self.places[self._unpaired[group - len(self.names)]].tolist())
        rows = self._by_group[self._starts[group] : self._starts[group + 1]]
        return GroupRows(self._places[rows].tolist(), self.places[np.unique(self._pairs[rows])].tolist())

    def image_hashes(self, wanted: Mask) -> tuple[str, str]:
        """Return a hash of the ids and sizes of the wanted images (images,), and one that also notices other changes.

        The second adds the time of change, unless the captions row has a `sha256`, which packing checks.
        """
        sizes, states = hashlib.sha256(), hashlib.sha256()
        for place in self.places[wanted].tolist():
            file, row = self.at(place)
            size, changed = file_state(image_path(file, row))
            sizes.update(f"{row['id']}\0{size}\n".encode())
            states.update(f"{row['id']}\0{size}\0{row.get('sha256') or changed}\n".encode())
        return sizes.hexdigest(), states.hexdigest()


def _check_difference(row: Row, where: str) -> None:
    for key in ("text", "reverse_text"):
        if not row[key].strip():
            raise ValueError(f"{where}: `{key}` is empty; fix or delete the row")
    if row["first"] == row["second"]:
        raise ValueError(f"{where}: image {row['first']!r} is paired with itself; delete the row")
