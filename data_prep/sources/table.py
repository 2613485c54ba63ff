"""Source `csv`: a table with one caption per row. CSV fields may be quoted, TSV fields may not."""

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.sources.source import (
    REPLACED,
    Candidate,
    LeftOut,
    SourceOptions,
    image_folder,
    input_file,
)
from pcclip.data.picture_files import PICTURE_ENDINGS

MOST_LINES = 32  # of a row; a quote that stays open longer is an error


def candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield images in the order of their first rows, with the captions of all their rows. All captions are kept in memory.

    Raises:
        ValueError: A column is missing.
    """
    folder = image_folder(options)
    captions: dict[str, list[str]] = {}
    attributes: dict[str, dict[str, str]] = {}
    for name, caption, cells in _rows(input_file(options), options, left_out):
        captions.setdefault(name, []).append(caption)
        if cells:
            attributes.setdefault(name, cells)
    for name, texts in captions.items():
        yield Candidate(name, folder / name, texts, {"attributes": attributes[name]} if name in attributes else {})


def _rows(file: Path, options: SourceOptions, left_out: LeftOut) -> Iterator[tuple[str, str, dict[str, str]]]:
    options_of: Any = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if file.suffix == ".tsv" else {"strict": True}
    layout: Any = csv.reader([], **options_of).dialect  # parsed once: each row has its own reader
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        try:
            columns = next(csv.reader([next(stream, "")], layout), [])
        except csv.Error as error:
            raise ValueError(f"{file}: not a table ({error})") from error
        for column in (options.image_column, options.caption_column, *options.attribute_columns):
            if column not in columns:
                raise ValueError(f"{file}: no column {column!r}; its columns are {', '.join(columns) or 'none'}")
        image, text = columns.index(options.image_column), columns.index(options.caption_column)
        attributes = {column: columns.index(column) for column in options.attribute_columns}
        for number, row in _parsed(stream, image, layout):
            if isinstance(row, csv.Error):
                left_out.add("bad_row", f"line {number}: {row}")
                continue
            if len(row) > len(columns):
                left_out.add("surplus_columns", f"line {number}: {len(row)} of {len(columns)}; quote texts with commas")
                continue
            name, caption = (row[place].strip() if place < len(row) else "" for place in (image, text))
            if not name or not caption:
                left_out.add("incomplete_row", f"line {number}")
            elif REPLACED in name + caption:
                left_out.add("not_utf8", f"line {number}: {json.dumps(name)}")
            else:
                cells = {column: row[place].strip() for column, place in attributes.items() if place < len(row)}
                yield name, caption, cells


def _parsed(stream: Iterable[str], image: int, layout: csv.Dialect) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield (number of the first line, row or error) for each row after the header.

    A quoted field may span lines, but not a line that is itself the row of an image. After a bad row, parsing continues at
    the next line.
    """
    lines, ahead, number = iter(stream), deque[str](), 2
    while True:
        taken: list[str] = []
        row: list[str] | csv.Error | None = None
        while not isinstance(row, list) and len(taken) < MOST_LINES:
            if not ahead:
                ahead.extend(islice(lines, 1))
            if not ahead or (taken and _names_image(ahead[0], image)):
                break
            taken.append(ahead.popleft())
            try:
                row = next(csv.reader(taken, layout), [])
            except csv.Error as error:
                row = error
        if row is None:
            return
        used = len(taken) if isinstance(row, list) else 1
        ahead.extendleft(reversed(taken[used:]))
        if row:
            yield number, row
        number += used


def _names_image(line: str, column: int) -> bool:
    """Return whether a line alone is the row of an image."""
    row = next(csv.reader([line]), [])
    return column < len(row) and Path(row[column]).suffix.lower() in PICTURE_ENDINGS
