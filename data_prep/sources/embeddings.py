"""Source `embeddings`: stored image embeddings, and the captions in the rows of a table."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import EMBEDDING_ROW, Row, clean
from data_prep.sources.source import Candidate, Checked, LeftOut, SourceOptions
from pcclip.data.stored_embeddings import Embeddings, count_other_lengths, open_embeddings
from pcclip.data.table_rows import table_files, table_rows

Files = Sequence[tuple[Path, Embeddings]]


def candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
    """Yield the rows of the tables, each with the embedding of the same number.

    If there are as many tables as `.npy` files, the rows of each table belong to one file.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The numbers of embeddings and rows differ, a column is missing, or a file is damaged.
    """
    arrays = open_embeddings(str(options.embeddings), "`embeddings` of the step captions")
    tables = table_files(options.input, "`input` of the step captions")
    if lengths := sum(count_other_lengths(array) for _, array in arrays):
        print(f"{options.embeddings}: {lengths} embeddings are not of unit length; the step shard normalises them")
    parts = [(arrays, tables)]
    if len(arrays) == len(tables):
        parts = [([array], [table]) for array, table in zip(arrays, tables, strict=True)]
    for own, files in parts:
        stored = ((file, place, vector) for file, array in own for place, vector in enumerate(array))
        rows = ((file, row) for file in files for row in table_rows(file))
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


def _candidate(options: SourceOptions, found: tuple[Path, Row], embedding: tuple[Path, int, Embeddings]) -> Candidate:
    table, row = found
    file, place, vector = embedding
    name = _column(table, row, "id" if "id" in row else options.image_column)
    captions = _column(table, row, "captions" if "captions" in row else options.caption_column)
    used = {"id", "file", "captions", "sha256", options.image_column, options.caption_column}
    reason = "" if np.isfinite(vector).all() else "not_finite"
    if not reason and not vector.any():
        reason = "zero"
    return Candidate(
        id=str(name),
        path=file.absolute(),
        captions=clean(captions if isinstance(captions, list) else [captions]),
        fields={EMBEDDING_ROW: place, **plain({key: value for key, value in row.items() if key not in used})},
        checked=Checked(
            sha256=hashlib.sha256(vector.tobytes()).hexdigest(), reason=reason, message=f"{file}, row {place}"
        ),
    )


def _column(table: Path, row: Row, column: str) -> Any:
    if column not in row:
        raise ValueError(f"{table}: no column {column!r}; its columns are {', '.join(row)}")
    return row[column]


def plain(fields: Row) -> Row:
    """Return fields as JSON values. Dates and other types become texts, binary values are dropped."""
    kept = {key: value for key, value in fields.items() if not isinstance(value, bytes)}
    found: Row = json.loads(json.dumps(kept, default=str))
    return found
