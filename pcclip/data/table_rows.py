"""Rows of tables of any size: CSV, TSV, JSON Lines, Parquet, and the folder of a Hugging Face dataset."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pcclip.command_line import need
from pcclip.paths import matching_files

Row = dict[str, Any]
BATCH = 256  # rows


def table_files(source: str, what: str) -> list[Path]:
    """Return the files of a table, in order.

    Args:
        source: File, pattern of file names (see `matching_files`), or folder of a Hugging Face dataset: Parquet files, or one
            split that `save_to_disk` wrote.
        what: What the files are, for the message.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The folder holds several splits, or Parquet files only in folders below.
    """
    folder = Path(source)
    if not folder.is_dir():
        return matching_files(source, what)
    if (folder / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(path.parent.name for path in folder.glob("*/state.json")))
        raise ValueError(f"{folder}: holds the splits {splits}; name the folder of one")
    if (folder / "state.json").is_file():
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return [folder / file["filename"] for file in state["_data_files"]]
    if not any(folder.glob("*.parquet")) and (below := sorted(folder.rglob("*.parquet"))):
        inner = below[0].parent
        raise ValueError(
            f"{folder}: its Parquet files are in {inner}; name those of one split, as {inner}/train-*.parquet"
        )
    return matching_files(f"{folder}/*.parquet", what)


def table_rows(file: Path) -> Iterator[Row]:
    """Yield the rows of one file by its ending: `.csv`, `.tsv` (not quoted), `.jsonl`, `.parquet` or `.arrow`.

    Raises:
        ValueError: Another ending, a row that cannot be read, or a missing optional package.
    """
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet, ".arrow": _arrow}
    if file.suffix not in readers:
        raise ValueError(f"{file}: not a table; its name must end in {', '.join(readers)}")
    return readers[file.suffix](file)


def first_row(file: Path) -> Row:
    """Return the first row of a file, without reading others; raise as `table_rows`. It is empty if there is no row."""
    return next(_parquet(file, "LIMIT 1") if file.suffix == ".parquet" else table_rows(file), {})


def _csv(file: Path) -> Iterator[Row]:
    tabs = file.suffix == ".tsv"
    with file.open(encoding="utf-8-sig", newline="") as stream:
        layout: Any = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
        reader = csv.DictReader(stream, **layout)
        try:
            header = reader.fieldnames or []
            if repeated := [column for column in header if header.count(column) > 1]:
                raise ValueError(f"column {repeated[0]!r} appears twice")
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError("another number of cells than the header")
                yield row
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{file}, line {max(1, reader.line_num)}: {error}; fix the row") from error


def _jsonl(file: Path) -> Iterator[Row]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{file}, line {number}: not valid JSON ({error}); fix the row") from error
            if not isinstance(row, dict):
                raise ValueError(f"{file}, line {number}: expected a JSON object, found {type(row).__name__}")
            yield row


def _parquet(file: Path, limit: str = "") -> Iterator[Row]:
    """DuckDB keeps all rows of the file in memory. Hugging Face's files are up to 500 MB."""
    need("duckdb", "parquet")
    import duckdb  # here: optional

    try:
        with duckdb.connect() as database:
            found = database.execute(f"SELECT * FROM read_parquet(?) {limit}", [str(file)])
            columns = [column[0] for column in found.description or ()]
            while rows := found.fetchmany(BATCH):
                yield from (dict(zip(columns, row, strict=True)) for row in rows)
    except duckdb.Error as error:
        raise ValueError(f"{file}: not a readable Parquet file ({str(error).splitlines()[0]})") from error


def _arrow(file: Path) -> Iterator[Row]:
    try:
        import pyarrow  # here: optional; it comes with the package `datasets`
    except ImportError as error:
        raise ValueError(
            f"{file}: Arrow files need the package pyarrow; install it, or save the data set with `to_parquet`"
        ) from error
    with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as batches:
        for batch in batches:
            yield from batch.to_pylist()
