"""Source `csv`: a table with one row a caption. A CSV may quote its fields, a TSV may not."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_prep.line_index import temporary_database
from data_prep.sources.source import (
    REPLACED,
    Candidate,
    Candidates,
    Losses,
    SourceOptions,
    folder_hash,
    image_folder,
    input_file,
)
from pcclip.data.picture_files import PICTURE_ENDINGS

MOST_LINES = 32  # of a row: a quotation mark that is open for longer is a mistake


def inputs(options: SourceOptions) -> dict[str, str | Path]:
    """Return the table, and a hash over names, sizes and times of the images."""
    return {"input": input_file(options), "images": folder_hash(image_folder(options))}


def candidates(options: SourceOptions, losses: Losses) -> Candidates:
    """Images in the order in which they first occur, the captions of an image brought together.

    Raises:
        ValueError: A column is missing.
    """
    return Candidates(_found(input_file(options), image_folder(options), options, losses))


def _found(file: Path, folder: Path, options: SourceOptions, losses: Losses) -> Iterator[Candidate]:
    # The rows of an image may lie anywhere in the table: an index on disk finds them, whatever the table's size.
    with temporary_database() as database:
        database.execute("CREATE TABLE captions (image TEXT, caption TEXT)")
        database.execute("BEGIN")
        database.executemany("INSERT INTO captions VALUES (?, ?)", _rows(file, options, losses))
        database.execute("CREATE INDEX by_image ON captions (image)")
        database.execute("COMMIT")
        images = database.execute("SELECT image FROM captions GROUP BY image ORDER BY MIN(rowid)")
        for (name,) in images:
            found = database.execute("SELECT caption FROM captions WHERE image = ? ORDER BY rowid", (name,))
            yield Candidate(name, folder / name, [caption for (caption,) in found])


class _Lines(Iterator[str]):
    """Lines of a table. Those of a row that turns out to be wrong can be read again.

    Attributes:
        taken: Lines taken since the last `settle`.
    """

    def __init__(self, stream: Iterable[str]) -> None:
        self.taken: list[str] = []
        self._again: list[str] = []  # the next one last
        self._stream = iter(stream)
        self._number = 1

    def __next__(self) -> str:
        if len(self.taken) == MOST_LINES:
            raise csv.Error(f"a quotation mark is not closed within {MOST_LINES} lines")
        self.taken.append(self._again.pop() if self._again else next(self._stream))
        return self.taken[-1]

    def settle(self, *, again: bool = False) -> int:
        """Let the lines taken go, or with `again` all but the first be read again; return the number of the first."""
        kept = 1 if again else len(self.taken)
        self._again += reversed(self.taken[kept:])
        self.taken = []
        self._number += kept
        return self._number - kept


def _rows(file: Path, options: SourceOptions, losses: Losses) -> Iterator[tuple[str, str]]:
    quoting: Any = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if file.suffix == ".tsv" else {"strict": True}
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        lines = _Lines(stream)
        table = csv.reader(lines, **quoting)
        columns = _columns(file, table)
        for column in (options.image_column, options.caption_column):
            if column not in columns:
                raise ValueError(f"{file}: no column {column!r}; its columns are {', '.join(columns) or 'none'}")
        image, text = columns.index(options.image_column), columns.index(options.caption_column)
        lines.settle()
        while True:
            try:
                row = next(table)
                if any(_names_image(line, image) for line in lines.taken[1:]):
                    raise csv.Error("a quotation mark is closed only in another row")
            except StopIteration:
                return
            except csv.Error as error:
                losses.add("bad_row", f"line {lines.settle(again=True)}: {error}")
                continue
            number = lines.settle()
            if not row:
                continue
            if len(row) > len(columns):
                losses.add("surplus_columns", f"line {number}: {len(row)} of {len(columns)}; quote texts with commas")
                continue
            name, caption = (row[place].strip() if place < len(row) else "" for place in (image, text))
            if not name or not caption:
                losses.add("incomplete_row", f"line {number}")
            elif REPLACED in name + caption:
                losses.add("not_utf8", f"line {number}: {json.dumps(name)}")
            else:
                yield name, caption


def _names_image(line: str, column: int) -> bool:
    """Return whether a line, taken by itself, is a row of an image."""
    row = next(csv.reader([line]), [])
    return column < len(row) and Path(row[column]).suffix.lower() in PICTURE_ENDINGS


def _columns(file: Path, table: Iterator[list[str]]) -> list[str]:
    try:
        return next(table, [])
    except csv.Error as error:
        raise ValueError(f"{file}: no table ({error})") from error
