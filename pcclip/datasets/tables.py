"""Readers of attribute tables (CSV or JSON Lines) and of attribute texts (YAML), with errors that name the row."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from pcclip.metrics.protocol import Wording
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


def read_texts(file: str | Path) -> dict[str, list[Wording]]:
    """Read attribute texts: YAML `{attribute: [{text: ..., reverse: ...}, ...]}`, several wordings each.

    In place of the list there may be `{wordings: [...], prompts: [{more: ..., less: ...}, ...]}`; see `read_prompts`. For many
    attributes of one kind the file may have `templates: {wordings: [...], prompts: [...]}` with `{}` in each row, and
    `phrases: {attribute: phrase}`; each phrase is put into all templates.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: Not YAML of that form, an attribute without wordings, an empty or missing text or reverse, a text
            equal to its reverse, or the same text twice.
    """
    content = _read_attributes(Path(file))
    return {
        attribute: _wordings(rows["wordings"] if isinstance(rows, dict) else rows, f"{file}: {attribute}", "wording")
        for attribute, rows in content.items()
    }


def read_prompts(file: str | Path) -> dict[str, list[Wording]]:
    """Read the ordinary prompts of attribute texts: `text` describes an image with more, `reverse` one with less.

    Attributes that have none are left out.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: As `read_texts`, with `more` and `less` in place of `text` and `reverse`.
    """
    content = _read_attributes(Path(file))
    return {
        attribute: _wordings(rows["prompts"], f"{file}: {attribute}", "prompt", ("more", "less"))
        for attribute, rows in content.items()
        if isinstance(rows, dict) and "prompts" in rows
    }


def _read_attributes(file: Path) -> dict[str, Any]:
    existing_file(file, "attribute texts")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not valid YAML ({error})") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file}: expected attributes with wordings, e.g. `size: [{{text: ..., reverse: ...}}]`")
    content = _filled_in(file, content)
    for attribute, rows in content.items():
        if isinstance(rows, dict) and not {"wordings"} <= set(rows) <= {"wordings", "prompts"}:
            raise ValueError(
                f"{file}: {attribute}: expected a list of wordings, or `wordings` and `prompts`, found {sorted(map(str, rows))}"
            )
    return {str(attribute): rows for attribute, rows in content.items()}


def _filled_in(file: Path, content: dict[Any, Any]) -> dict[Any, Any]:
    """The attributes of a file, those of `phrases` put into its `templates`."""
    if not {"templates", "phrases"} & set(content):
        return content
    templates, phrases = content.get("templates"), content.get("phrases")
    if not isinstance(templates, dict) or not isinstance(phrases, dict) or not phrases:
        raise ValueError(
            f"{file}: `templates` (with wordings) and `phrases` (attribute: phrase) go together; give both"
        )
    rows = [row for part in templates.values() if isinstance(part, list) for row in part if isinstance(row, dict)]
    if bare := [row for row in rows if not any("{}" in str(text) for text in row.values())]:
        raise ValueError(f"{file}: the template {' / '.join(map(str, bare[0].values()))} has no {{}} for the phrase")
    own = {key: rows for key, rows in content.items() if key not in ("templates", "phrases")}
    if both := sorted(set(own) & set(phrases)):
        raise ValueError(f"{file}: {both} have texts of their own and a phrase; remove one")
    return own | {attribute: _with_phrase(templates, str(phrase)) for attribute, phrase in phrases.items()}


def _with_phrase(templates: Any, phrase: str) -> Any:
    if isinstance(templates, dict):
        return {key: _with_phrase(value, phrase) for key, value in templates.items()}
    if isinstance(templates, list):
        return [_with_phrase(value, phrase) for value in templates]
    return templates.replace("{}", phrase) if isinstance(templates, str) else templates


def _wordings(rows: Any, where: str, kind: str, parts: tuple[str, str] = ("text", "reverse")) -> list[Wording]:
    text_key, reverse_key = parts
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{where}: expected a list of {kind}s, each with `{text_key}` and `{reverse_key}`")
    wordings = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or set(row) != set(parts):
            found = sorted(map(str, row)) if isinstance(row, dict) else row
            raise ValueError(
                f"{where}, {kind} {number}: expected exactly `{text_key}` and `{reverse_key}`, found {found}"
            )
        for part, text in row.items():
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{where}, {kind} {number}: `{part}` is empty or no text; write a sentence")
        wording = Wording(row[text_key].strip(), row[reverse_key].strip())
        if wording.text == wording.reverse:
            raise ValueError(
                f"{where}, {kind} {number}: `{text_key}` and `{reverse_key}` are the same; `{reverse_key}` says the opposite"
            )
        if wording in wordings:
            raise ValueError(f"{where}, {kind} {number}: the same {kind} twice; remove one")
        wordings.append(wording)
    return wordings


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
