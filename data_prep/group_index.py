"""The groups that step `shard` packs: which rows of its input files belong to each."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.files import CAPTION_KEYS, DIFFERENCE_KEYS, Row, file_state, image_path, read_jsonl_with_offsets
from data_prep.line_index import LineIndex, Lines, Numbers
from data_prep.parts import hash64

Mask = NDArray[np.bool_]


class GroupRows(NamedTuple):
    """Rows of one group, by their places in `data_prep.line_index.Lines`."""

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
