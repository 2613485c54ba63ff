"""Sources in tables: CSV with one caption per row, Parquet and Hugging Face datasets, and stored embeddings."""

import csv
import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import EMBEDDING_ROW, Row
from data_prep.images import Checked
from data_prep.sources.source import (
    REPLACED,
    Candidate,
    LeftOut,
    SourceOptions,
    column,
    described,
    image_folder,
    input_file,
    input_tables,
)
from pcclip.data.picture_files import PICTURE_ENDINGS
from pcclip.data.stored_embeddings import Embeddings, count_other_lengths, open_embeddings
from pcclip.data.table_rows import first_row, table_rows

MOST_LINES = 32  # of a row with quotes
PNG = b"\x89PNG"
Files = Sequence[tuple[Path, Embeddings]]


def csv_candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield images in the order of their first rows, with the captions of all their rows. All captions are kept in memory.

    Raises:
        ValueError: A column is missing.
    """
    folder = image_folder(options)
    captions: dict[str, list[str]] = {}
    attributes: dict[str, dict[str, str]] = {}
    for name, caption, cells in _cells(input_file(options), options, left_out):
        captions.setdefault(name, []).append(caption)
        if cells:
            attributes.setdefault(name, cells)
    for name, texts in captions.items():
        yield Candidate(name, folder / name, texts, {"attributes": attributes[name]} if name in attributes else {})


def _cells(file: Path, options: SourceOptions, left_out: LeftOut) -> Iterator[tuple[str, str, dict[str, str]]]:
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


def parquet_candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield the rows in order. Images in the table are numbered, and named by their numbers unless there is a column `id`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing, or a file is damaged.
    """
    folder = Path(str(options.images)).absolute()
    rows = (
        (f"{file}, row {place}", row) for file in input_tables(options) for place, row in enumerate(table_rows(file))
    )
    for number, (where, row) in enumerate(rows):
        image = column(where, row, options.image_column, "image_column")
        path, payload = image.get("path") if isinstance(image, dict) else image, _content(image)
        if payload is not None:
            ending = Path(path).suffix.lower() if isinstance(path, str) else ""
            if ending not in PICTURE_ENDINGS:  # `datasets` stores images of PIL as PNG, without a name
                ending = ".png" if payload.startswith(PNG) else ".jpg"
            path = f"{number:08d}{ending}"
        if not isinstance(path, str) or not path:
            left_out.add("missing", f"{where}: no image")
            continue
        candidate = described(options, where, {"id": path, **row})
        candidate.path, candidate.payload = folder / path, payload
        yield candidate


def holds_images(options: SourceOptions) -> bool:
    """Return whether the images themselves are in the table, by its first row."""
    return _content(first_row(input_tables(options)[0]).get(options.image_column)) is not None


def _content(image: Any) -> bytes | None:
    """Return the bytes of an image, which the package `datasets` stores as `{"bytes", "path"}`, or None for a path."""
    content = image.get("bytes") if isinstance(image, dict) else image
    return content if isinstance(content, bytes) else None


def embedding_candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield the rows of the tables, each with the embedding of the same number.

    If there are as many tables as `.npy` files, the rows of each table belong to one file.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The numbers of embeddings and rows differ, a column is missing, or a file is damaged.
    """
    arrays = open_embeddings(str(options.embeddings), "`embeddings` of the step captions")
    tables = input_tables(options)
    if lengths := sum(count_other_lengths(array) for _, array in arrays):
        print(f"{options.embeddings}: {lengths} embeddings are not of unit length; the step shard normalises them")
    parts = [(arrays, tables)]
    if len(arrays) == len(tables):
        parts = [([array], [table]) for array, table in zip(arrays, tables, strict=True)]
    for own, files in parts:
        stored = ((file, place, vector) for file, array in own for place, vector in enumerate(array))
        rows = ((f"{file}, row {number}", row) for file in files for number, row in enumerate(table_rows(file)))
        for embedding, found in zip_longest(stored, rows):
            if embedding is None or found is None:
                raise ValueError(_differ(own, files))
            yield _candidate(options, found, embedding)


def _differ(arrays: Files, tables: Sequence[Path]) -> str:
    embeddings, rows = sum(len(array) for _, array in arrays), sum(1 for file in tables for _ in table_rows(file))
    return (
        f"{tables[-1]}: {rows} rows in {len(tables)} file(s), but {embeddings} embeddings in {len(arrays)} file(s), the last "
        f"{arrays[-1][0]}; row i of the table must describe embedding i"
    )


def _candidate(options: SourceOptions, found: tuple[str, Row], embedding: tuple[Path, int, Embeddings]) -> Candidate:
    where, row = found
    file, place, vector = embedding
    reason = "" if np.isfinite(vector).all() else "not_finite"
    if not reason and not vector.any():
        reason = "zero"
    sha256, message = hashlib.sha256(vector.tobytes()).hexdigest(), f"{file}, row {place}"
    candidate = described(options, where, row)
    candidate.path, candidate.checked = file.absolute(), Checked(sha256=sha256, reason=reason, message=message)
    candidate.fields = {EMBEDDING_ROW: place, **candidate.fields}
    return candidate
