"""The groups of a shard folder to be, found on disk: memory does not grow with the number of images or pairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from data_prep.files import (
    CAPTION_KEYS,
    DIFFERENCE_KEYS,
    Row,
    file_state,
    image_path,
    read_jsonl,
    read_jsonl_with_offsets,
)
from pcclip.atomic import temporary_prefix
from pcclip.data.record import PairRecord
from pcclip.database import finished_database, temporary_database

TABLES = """
CREATE TABLE images (number INTEGER PRIMARY KEY, id TEXT, source INTEGER, line INTEGER, offset INTEGER);
CREATE TABLE pairs (source INTEGER, name TEXT, sort TEXT, line INTEGER, offset INTEGER, first INTEGER, second INTEGER);
CREATE TABLE groups (number INTEGER PRIMARY KEY, source INTEGER, name TEXT);
CREATE TABLE unpaired (number INTEGER, image INTEGER);
"""


@dataclass(frozen=True)
class SourceImage:
    """An image to be packed.

    Attributes:
        id: Its id.
        path: Its file.
        name: The file as its captions row names it.
        captions: Its captions.
        sha256: Hash of the file, if its captions row says it.
    """

    id: str
    path: Path
    name: str
    captions: list[str]
    sha256: str | None


@dataclass(frozen=True)
class SourceGroup:
    """A group to be packed: its images, and its ordered pairs as indices into them."""

    images: list[SourceImage]
    pairs: list[PairRecord]


@dataclass(frozen=True)
class Sources:
    """The files that shards are packed from; a database of the places of their rows goes with them."""

    captions: list[Path]
    differences: list[Path]
    database: Path


class GroupIndex:
    """Index of all groups, in a temporary database next to the output. Use it as a context manager.

    Groups are numbered from 0: file by file, in the order of the file. Rows of a language model, which have a `key`, come
    in the order of its answers; such groups are ordered by name and their pairs by `pair_id`, so that the same rows give
    the same shards.

    Args:
        captions: `captions.jsonl` files.
        differences: `differences.jsonl` files about those images; each row gives two ordered pairs.
        output: The shard folder to be. The next run that locks it removes the database of a killed one.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A bad row, an id that occurs twice, an unknown image, an image paired with itself, or an empty text.
        OSError: The disk is full.
    """

    def __init__(self, captions: Sequence[Path], differences: Sequence[Path], output: Path) -> None:
        prefix, suffix = temporary_prefix(output), f".tmp{output.suffix}"
        with ExitStack() as stack:
            folder = TemporaryDirectory(prefix=prefix, suffix=suffix, dir=output.parent)
            database = Path(stack.enter_context(folder)) / "groups.sqlite"
            self.sources = Sources(list(captions), list(differences), database)
            self._database = stack.enter_context(temporary_database(database))
            self._database.executescript(TABLES)
            self._add_images()
            self.images = int(self._database.execute("SELECT COUNT(*) FROM images").fetchone()[0])
            self._add_pairs()
            self.paired_groups = int(self._database.execute("SELECT COUNT(*) FROM groups").fetchone()[0])
            self._open = stack.pop_all()

    def __enter__(self) -> GroupIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def _add_images(self) -> None:
        run = self._database.execute
        for source, file in enumerate(self.sources.captions):
            rows = read_jsonl_with_offsets(file, CAPTION_KEYS)
            self._insert(
                "images (id, source, line, offset)", ((row["id"], source, line, offset) for line, offset, row in rows)
            )
        run("CREATE INDEX by_id ON images (id, number)")
        twice = run(
            "SELECT id, MIN(number), MAX(number) FROM images GROUP BY id HAVING COUNT(*) > 1 LIMIT 1"
        ).fetchone()
        if twice:
            place = "SELECT source, line FROM images WHERE number = ?"
            (earlier, line), (later, other) = (run(place, (number,)).fetchone() for number in twice[1:])
            raise ValueError(
                f"{self.sources.captions[later]}, line {other}: image id {twice[0]!r} is also in "
                f"{self.sources.captions[earlier]}, line {line}; rename it in one of them, ids must be unique over all "
                "captions files"
            )

    def _add_pairs(self) -> None:
        for source, file in enumerate(self.sources.differences):
            self._insert("pairs (source, name, sort, line, offset, first, second)", self._pairs(source, file))
        self._database.execute("CREATE INDEX by_group ON pairs (source, name, sort, line)")
        self._database.execute(
            "INSERT INTO groups SELECT ROW_NUMBER() OVER (ORDER BY source, sort, line) - 1, source, name FROM ("
            "SELECT source, name, MIN(CASE sort WHEN '' THEN '' ELSE name END) AS sort, MIN(line) AS line "
            "FROM pairs GROUP BY source, name)"
        )

    def _pairs(self, source: int, file: Path) -> Iterator[tuple[object, ...]]:
        for line, offset, row in read_jsonl_with_offsets(file, DIFFERENCE_KEYS):
            where = f"{file}, line {line}"
            numbers = []
            for side in ("first", "second"):
                found = self._database.execute("SELECT number FROM images WHERE id = ?", (row[side],)).fetchone()
                if found is None:
                    raise ValueError(
                        f"{where}: `{side}` is {row[side]!r}, which no captions file has; fix or delete the row"
                    )
                numbers.append(found[0])
            for key in ("text", "reverse_text"):
                if not row[key].strip():
                    raise ValueError(f"{where}: `{key}` is empty; fix or delete the row")
            if row["first"] == row["second"]:
                raise ValueError(f"{where}: image {row['first']!r} is paired with itself; delete the row")
            yield source, row["group"], row["pair_id"] if "key" in row else "", line, offset, *numbers

    def _insert(self, table: str, rows: Iterable[tuple[object, ...]]) -> None:
        columns = table.count(",") + 1
        self._database.execute("BEGIN")
        self._database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", rows)
        self._database.execute("COMMIT")

    def names(self) -> Iterator[str]:
        """Names of the groups with pairs, by number; groups of two files may have the same name."""
        for (name,) in self._database.execute("SELECT name FROM groups ORDER BY number"):
            yield name

    def images_in(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which images are in the chosen groups.

        Args:
            chosen: (groups with pairs,).

        Returns:
            (images,), in the order of the captions files.
        """
        found = np.zeros(self.images, bool)
        query = (
            "SELECT groups.number, first, second FROM groups JOIN pairs "
            "ON pairs.source = groups.source AND pairs.name = groups.name"
        )
        for group, first, second in self._database.execute(query):
            if chosen[group]:
                found[first - 1] = found[second - 1] = True  # the database counts from 1
        return found

    def add_unpaired(self, images: NDArray[np.int64], size: int) -> int:
        """Add groups without pairs, of `size` images each, numbered after all others; return how many.

        Args:
            images: Their images, in the order in which to deal them.
            size: Images in a group.
        """
        self._insert(
            "unpaired (number, image)",
            ((self.paired_groups + place // size, int(image) + 1) for place, image in enumerate(images)),
        )
        self._database.execute("CREATE INDEX by_number ON unpaired (number)")
        return -(-len(images) // size)

    def image_hashes(self, wanted: NDArray[np.bool_]) -> tuple[str, str]:
        """Return a hash over ids and sizes of the wanted images, and one that notices images of equal size, too.

        The second adds the time of change where the captions row has no `sha256` that packing will check.
        """
        sizes, states = hashlib.sha256(), hashlib.sha256()
        number = 0
        for file in self.sources.captions:
            for _, row in read_jsonl(file, CAPTION_KEYS):
                if wanted[number]:
                    size, changed = file_state(image_path(file, row))
                    sizes.update(f"{row['id']}\0{size}\n".encode())
                    states.update(f"{row['id']}\0{size}\0{row.get('sha256') or changed}\n".encode())
                number += 1
        return sizes.hexdigest(), states.hexdigest()


class GroupReader:
    """Reads groups by their number from what a `GroupIndex` has found. Use it as a context manager."""

    def __init__(self, sources: Sources) -> None:
        self._captions, self._differences = sources.captions, sources.differences
        self._database = finished_database(sources.database)
        self._streams = {file: file.open("rb") for file in {*sources.captions, *sources.differences}}

    def __enter__(self) -> GroupReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        for stream in self._streams.values():
            stream.close()

    def read(self, number: int) -> SourceGroup:
        """The group of a number; a group's images come in the order in which its pairs name them."""
        places: dict[int, int] = {}
        pairs: list[PairRecord] = []
        query = (
            "SELECT pairs.source, offset, first, second FROM groups JOIN pairs "
            "ON pairs.source = groups.source AND pairs.name = groups.name WHERE number = ? ORDER BY sort, line"
        )
        for source, offset, *images in self._database.execute(query, (number,)):
            row = self._row(self._differences[source], offset)
            first, second = (places.setdefault(image, len(places)) for image in images)
            pairs.append({"first": first, "second": second, "text": row["text"]})
            pairs.append({"first": second, "second": first, "text": row["reverse_text"]})
        unpaired = self._database.execute("SELECT image FROM unpaired WHERE number = ? ORDER BY rowid", (number,))
        return SourceGroup([self._image(image) for image in places or [image for (image,) in unpaired]], pairs)

    def _image(self, number: int) -> SourceImage:
        query = "SELECT source, offset FROM images WHERE number = ?"
        source, offset = self._database.execute(query, (number,)).fetchone()
        file = self._captions[source]
        row = self._row(file, offset)
        return SourceImage(row["id"], image_path(file, row), row["file"], row["captions"], row.get("sha256"))

    def _row(self, file: Path, offset: int) -> Row:
        self._streams[file].seek(offset)
        row: Row = json.loads(self._streams[file].readline())
        return row
