"""Readers of tables (CSV or JSON Lines), with errors that name the row."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcclip.paths import existing_file

IS = "::"  # between a column and a value, as in CUB's names of attributes


@dataclass(frozen=True)
class Table:
    """Rows of a table by their key.

    Attributes:
        file: Where it was read.
        columns: Names of all columns, the key's among them.
        rows: Key to the row.
        filtered: Keys of the rows that are in the file, but were not asked for (`where`).
    """

    file: Path
    columns: list[str]
    rows: dict[str, dict[str, Any]]
    filtered: frozenset[str] = field(default=frozenset(), kw_only=True)

    def numbers(self, column: str, keys: Sequence[str]) -> Tensor:
        """The column's numbers in the order of `keys`: (N,) float64, NaN where the cell is empty or the key unknown.

        `kind::bird` of a column `kind` is 1 where the cell holds `bird` and 0 where it holds anything else.

        Raises:
            ValueError: The column does not exist, a cell is not a number, or none holds what stands behind `::`.
        """
        kinds, _, kind = column.partition(IS)
        if column not in self.columns and kind and kinds in self.columns:
            cells = {key: _as_text(row.get(kinds)) for key, row in self.rows.items()}
            if kind not in cells.values():
                raise ValueError(
                    f'{self.file}: no row has "{kind}" in column "{kinds}"; there are {sorted(set(cells.values()))}'
                )
            values = [float(cells[key] == kind) if cells.get(key) else float("nan") for key in keys]
        elif column in self.columns:
            values = [self._number(column, key) if key in self.rows else float("nan") for key in keys]
        else:
            raise ValueError(f'{self.file}: no attribute "{column}"; its columns are {", ".join(self.columns)}')
        return torch.tensor(values, dtype=torch.float64)

    def without(self, keys: Collection[str], reason: str) -> Table:
        """Return the table without some rows, which count as filtered.

        Raises:
            ValueError: No row is left; names the `reason`.
        """
        rows = {key: row for key, row in self.rows.items() if key not in keys}
        if not rows:
            raise ValueError(f"{self.file}: {reason} leaves none of the {len(self.rows)} rows")
        return replace(self, rows=rows, filtered=self.filtered | frozenset(keys))

    def _number(self, column: str, key: str) -> float:
        cell = self.rows[key].get(column)
        if cell is None or cell == "":
            return float("nan")
        try:
            number = float(cell)
            if math.isinf(number):
                raise ValueError("infinite")
            return number  # NaN is how tables of other programs write what is unknown
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'{self.file}: row "{key}", column "{column}" holds {cell!r}, expected a number, or nothing if unknown'
            ) from error


def read_table(file: str | Path, key: str, where: Mapping[str, str] | None = None) -> Table:
    """Read a `.csv` or `.jsonl` table.

    Args:
        file: The table.
        key: Column that names the row; no two rows may share it.
        where: Keep only rows with these values, e.g. `{"split": "heldout"}`; in JSON Lines, `true` and numbers are
            compared as they are written in JSON.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: Another file type, a broken row, an unknown column, two rows with one key, or no row left.
    """
    file = existing_file(file, "table")
    if file.suffix == ".csv":
        columns, records = _read_csv(file)
    elif file.suffix == ".jsonl":
        columns, records = read_jsonl(file)
    else:
        raise ValueError(f"{file}: a table must be .csv or .jsonl")
    for column in (key, *(where or {})):
        if column not in columns:
            raise ValueError(f'{file}: no column "{column}"; its columns are {", ".join(columns)}')
    rows: dict[str, dict[str, Any]] = {}
    filtered = set()
    for line, record in records:
        if any(_as_text(record.get(column)) != wanted for column, wanted in (where or {}).items()):
            filtered.add(_as_text(record.get(key)))
            continue
        name = _as_text(record.get(key))
        if not name:
            raise ValueError(f'{file}, line {line}: column "{key}" is empty; it names the row')
        if name in rows:
            raise ValueError(f'{file}, line {line}: "{name}" appears twice in column "{key}"; remove one row')
        rows[name] = record
    if not rows:
        raise ValueError(f"{file}: no row" + (f" where {dict(where)}; check the values" if where else "; it is empty"))
    return Table(file, columns, rows, filtered=frozenset(filtered))


def _read_csv(file: Path) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        records = []
        for record in reader:
            if None in record or None in record.values():
                raise ValueError(f"{file}, line {reader.line_num}: not as many cells as the header has; fix the row")
            records.append((reader.line_num, dict(record)))
        columns = list(reader.fieldnames or [])
    if not columns:
        raise ValueError(f"{file}: empty; expected a header with column names")
    return columns, records


def read_jsonl(file: Path) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """Read JSON Lines: the names of all keys, and each object with the number of its line; empty lines are passed over.

    Raises:
        ValueError: A line is not a JSON object.
    """
    columns: dict[str, None] = {}
    records = []
    with file.open(encoding="utf-8") as stream:
        for line, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except json.JSONDecodeError as error:
                raise ValueError(f"{file}, line {line}: not JSON ({error})") from error
            if not isinstance(record, dict):
                raise ValueError(f"{file}, line {line}: expected an object, found {text.strip()[:40]}")
            columns |= dict.fromkeys(record)
            records.append((line, record))
    return list(columns), records


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
