"""Readers of tables (CSV, JSON Lines or Parquet) and of typed JSON. Errors name the file and the row or key."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from pcclip.data.table_rows import table_rows
from pcclip.paths import existing_file, read_text
from pcclip.validation import explain

IS = "::"  # between a column and a value, as in CUB's attribute names
T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """Rows of a table by key."""

    file: Path
    cells: pd.DataFrame
    """A row for each key, with all columns of the file. Cells of CSV are texts, cells of JSON Lines are JSON values."""
    filtered: frozenset[str] = frozenset()
    """Keys of rows that were excluded on purpose, for example by `where`."""

    @property
    def keys(self) -> list[str]:
        """Keys of the rows, in the order of the file."""
        return list(self.cells.index)

    def texts(self, column: str) -> dict[str, str]:
        """Return key to the cell of a column, as text. The text of an empty cell is empty.

        Raises:
            ValueError: The column does not exist.
        """
        return {key: _as_text(cell) for key, cell in self._column(column).items()}

    def numbers(self, column: str, keys: Sequence[str]) -> Tensor:
        """Return the numbers of a column in the order of `keys`, (N,) float64.

        Empty cells and unknown keys are NaN. `kind::bird` is 1 where column `kind` is `bird`, and 0 where it has another
        value.

        Raises:
            ValueError: The column does not exist, a cell is not a number, or no cell has the value after `::`.
        """
        kinds, _, kind = column.partition(IS)
        if column not in self.cells and kind and kinds in self.cells:
            texts = self.texts(kinds)
            if kind not in texts.values():
                raise ValueError(
                    f'{self.file}: no row has "{kind}" in column "{kinds}"; it has {sorted(set(texts.values()))}'
                )
            values = [float(texts[key] == kind) if texts.get(key) else math.nan for key in keys]
        else:
            cells = self._column(column)
            values = [self._number(column, key, cells.get(key)) for key in keys]
        return torch.tensor(values, dtype=torch.float64)

    def without(self, keys: Collection[str], reason: str) -> Table:
        """Return the table without some rows. Their keys become part of `filtered`.

        Raises:
            ValueError: No row is left. The message names the `reason`.
        """
        cells = self.cells[~self.cells.index.isin(list(keys))]
        if cells.empty:
            raise ValueError(f"{self.file}: {reason} leaves none of the {len(self.cells)} rows")
        return replace(self, cells=cells, filtered=self.filtered | frozenset(keys))

    def _column(self, column: str) -> dict[str, Any]:
        if column not in self.cells:
            raise ValueError(f'{self.file}: no column "{column}"; its columns are {", ".join(self.cells.columns)}')
        return dict(self.cells[column].items())

    def _number(self, column: str, key: str, cell: Any) -> float:
        if cell is None or cell == "":
            return math.nan
        try:
            number = float(cell)
            if math.isinf(number):
                raise ValueError("infinite")
            return number  # other programs write NaN for unknown
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'{self.file}: row "{key}", column "{column}" holds {cell!r}, expected a number, or nothing if unknown'
            ) from error


def read_table(file: str | Path, key: str, where: Mapping[str, str] | None = None) -> Table:
    """Read a table: `.csv`, `.tsv`, `.jsonl` or `.parquet`.

    Args:
        file: The table.
        key: Column with the keys, each once.
        where: Keep only rows with these values, e.g. `{"split": "heldout"}`. In JSON Lines, `true` and numbers are compared
            as they are written in JSON.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: Another file type, a broken row, an unknown column, an empty or repeated key, or no row left.
    """
    file = existing_file(file, "table")
    rows = list(table_rows(file))
    if not rows:
        raise ValueError(f"{file}: no row; it is empty")
    blank = dict.fromkeys((column for row in rows for column in row), "")
    cells = pd.DataFrame([blank | row for row in rows], dtype=object)
    every = Table(file, cells)
    wanted = np.ones(len(cells), dtype=bool)
    for column, value in (where or {}).items():
        wanted &= np.array([text == value for text in every.texts(column).values()], dtype=bool)
    cells = cells.set_index(pd.Index(every.texts(key).values(), dtype=object))
    kept = cells[wanted]
    if kept.empty:
        raise ValueError(f"{file}: no row where {dict(where or {})}; check the values")
    if "" in kept.index:
        raise ValueError(f'{file}, row {list(cells.index).index("") + 1}: no key in column "{key}"; fill it in')
    if not kept.index.is_unique:
        name = kept.index[kept.index.duplicated()][0]
        raise ValueError(f'{file}: "{name}" appears twice in column "{key}"; remove one row')
    return Table(file, kept, frozenset(cells.index[~wanted]))


def read_rows(file: str | Path, of: type[T], what: str, remedy: str = "check the path") -> list[tuple[str, T]]:
    """Read JSON Lines. Return each row after its file and line, for messages. Empty lines are skipped.

    Args:
        file: The file.
        of: The type of a row, for pydantic.
        what: The kind of file, for messages.
        remedy: What to do if the file does not exist.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A row has another type, or there is no row.
    """
    adapter = TypeAdapter(of)
    lines = read_text(file, what, remedy).split("\n")
    named = [(f"{file}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not named:
        raise ValueError(f"{file}: no row; expected {what}")
    return [(where, parse_json(adapter, line, where)) for where, line in named]


def parse_json(adapter: TypeAdapter[T], text: str, where: str) -> T:
    """Parse JSON into the type of the adapter.

    Raises:
        ValueError: The JSON has another type. The message begins with `where`.
    """
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{where}: {explain(error)}") from error


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
