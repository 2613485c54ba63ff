"""Source `embeddings`: stored image embeddings, and the captions in the rows of a table."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from data_prep.files import EMBEDDING_ROW, Row
from data_prep.images import Checked
from data_prep.sources.source import Candidate, LeftOut, SourceOptions, described, input_tables
from pcclip.data.stored_embeddings import Embeddings, count_other_lengths, open_embeddings
from pcclip.data.table_rows import table_rows

Files = Sequence[tuple[Path, Embeddings]]


def candidates(options: SourceOptions, left_out: LeftOut) -> Iterator[Candidate]:
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
    reason = "" if np.isfinite(vector).all() else "not_finite"
    if not reason and not vector.any():
        reason = "zero"
    sha256, message = hashlib.sha256(vector.tobytes()).hexdigest(), f"{file}, row {place}"
    candidate = described(options, table, row)
    candidate.path, candidate.checked = file.absolute(), Checked(sha256=sha256, reason=reason, message=message)
    candidate.fields = {EMBEDDING_ROW: place, **candidate.fields}
    return candidate
