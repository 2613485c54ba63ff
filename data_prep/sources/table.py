"""Source `csv`: a CSV or TSV with one row a caption."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_prep.files import write_jsonl
from data_prep.line_index import LineIndex
from data_prep.sources.source import (
    REPLACED,
    Candidate,
    Candidates,
    Losses,
    Options,
    folder_hash,
    image_folder,
    input_file,
)
from pcclip.data.format import sha256_of


def inputs(options: Options) -> dict[str, str]:
    """Hash of the table; names and sizes of the images."""
    return {"input": sha256_of(input_file(options)), "images": folder_hash(image_folder(options))}


def candidates(options: Options, losses: Losses) -> Candidates:
    """Images in the order in which they first occur, the captions of an image brought together.

    Raises:
        ValueError: A column is missing.
    """
    return Candidates(_found(input_file(options), image_folder(options), options, losses))


def _found(file: Path, folder: Path, options: Options, losses: Losses) -> Iterator[Candidate]:
    # The rows of an image may lie anywhere in the table: an index on disk finds them, whatever the table's size.
    with tempfile.TemporaryDirectory(prefix="pcclip-table-") as temporary:
        rows = Path(temporary) / "rows.jsonl"
        write_jsonl(rows, ({"id": name, "caption": caption} for name, caption in _rows(file, options, losses)))
        with LineIndex(rows, {"id": str, "caption": str}, "id") as index:
            for name in index.values():
                yield Candidate(name, folder / name, [row["caption"] for _, row in index.rows(name)])


def _rows(file: Path, options: Options, losses: Losses) -> Iterator[tuple[str, str]]:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        table = csv.DictReader(stream, delimiter="\t" if file.suffix == ".tsv" else ",")
        columns = _columns(file, table)
        for column in (options.image_column, options.caption_column):
            if column not in columns:
                raise ValueError(f"{file}: no column {column!r}; its columns are {', '.join(columns) or 'none'}")
        while True:
            try:
                line = next(table)
            except StopIteration:
                return
            except csv.Error as error:  # for instance a field of megabytes behind a stray quotation mark
                losses.add("bad_row", f"line {table.line_num}: {error}")
                continue
            name, caption = (
                str(line[column] or "").strip() for column in (options.image_column, options.caption_column)
            )
            if not name or not caption:
                losses.add("incomplete_row", f"line {table.line_num}")
            elif REPLACED in name + caption:
                losses.add("not_utf8", f"line {table.line_num}: {json.dumps(name)}")
            else:
                yield name, caption


def _columns(file: Path, table: csv.DictReader[str]) -> list[str]:
    try:
        return list(table.fieldnames or [])
    except csv.Error as error:
        raise ValueError(f"{file}: no table ({error})") from error
