"""Journal of answers and failures: append-only JSON Lines files that survive a killed process."""

from __future__ import annotations

import json
import os
import time
from array import array
from collections.abc import Mapping
from contextlib import ExitStack
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.files import read_jsonl
from data_prep.line_index import Hashes, positions
from data_prep.llm.replies import token_count
from data_prep.parts import hash64
from pcclip.atomic import atomic_text

Mask = npt.NDArray[np.bool_]

SECOND_TRY_AFTER = 1.0  # seconds to wait before a row is written again


def failures_path(output: Path) -> Path:
    """Return `<stem>.failures.jsonl`, next to the output."""
    return output.with_name(f"{output.stem}.failures.jsonl")


class Keys:
    """Ids and keys of a file's rows, as sorted 64-bit hashes.

    Args:
        path: JSON Lines file with an id and a `key` in each row. It may be missing.
        id_key: Name of the id field in a row.
        settings: Hash of the settings. Every key must begin with it.
        unique: Whether each id may occur only once.

    Raises:
        ValueError: A row is invalid or has other settings, or an id occurs twice.
    """

    def __init__(self, path: Path, id_key: str, settings: str, *, unique: bool = True) -> None:
        hashes = array("Q")
        self.prompt_tokens = self.completion_tokens = 0
        for number, row in read_jsonl(path, {id_key: str}) if path.is_file() else ():
            key = str(row.get("key"))
            if key.partition("-")[0] != settings:
                made = f"{row.get('model', 'no model')}, prompt {row.get('prompt', 'none')}"
                raise ValueError(
                    f"{path}, line {number}: written with other settings ({made}) than this run's; "
                    "choose another `output`, or delete the file to start again"
                )
            hashes.extend((hash64(row[id_key]), hash64(key)))
            self.prompt_tokens += token_count(row.get("prompt_tokens"))
            self.completion_tokens += token_count(row.get("completion_tokens"))
        pairs: Hashes = np.array(hashes, dtype=np.uint64).reshape(-1, 2)
        # A stable sort, so that the last of equal ids is found: a later failure replaces an earlier one.
        self.ids, self._keys = pairs[np.argsort(pairs[:, 0], kind="stable")].T.copy()
        if unique and (self.ids[1:] == self.ids[:-1]).any():
            raise ValueError(f"{path}: two rows have the same `{id_key}`; delete one of them")

    def __len__(self) -> int:
        return len(np.unique(self.ids))

    def get(self, ids: Hashes) -> Hashes:
        """Return the hash of the key of each id, 0 for unknown ids."""
        keys, places = np.zeros_like(ids), positions(self.ids, ids)
        keys[places >= 0] = self._keys[places[places >= 0]]
        return keys

    def have(self, ids: Hashes) -> Mask:
        """Return whether each id is known."""
        found: Mask = self.get(ids) != 0
        return found

    def __contains__(self, question_id: str) -> bool:
        return bool(self.have(np.array([hash64(question_id)], dtype=np.uint64))[0])


class Journal:
    """The files of answers and failures, open for appending. Use as a context manager, under the lock of the output.

    Each row is written by one call, so a killed process leaves complete rows. A power cut may leave an incomplete last row,
    which is removed when the journal is opened. If the disk is full, the file is truncated to complete rows, and the row is
    written again when the journal is closed. If a file was replaced while it was open, the rows of this run are added to
    the new file.

    Args:
        output: The file of answers.
        id_key: Name of the id field in a row.
        settings: Hash of the settings; see `Requests.key`.

    Raises:
        ValueError: A row is invalid or has other settings. At the end: another program changed a file.
        OSError: A file cannot be written; names it.
    """

    def __init__(self, output: Path, id_key: str, settings: str) -> None:
        self.output, self.failures = output, failures_path(output)
        self._id_key = id_key
        self._answered_again: set[int] = set()  # answered questions that had failed in an earlier run
        output.parent.mkdir(parents=True, exist_ok=True)
        for file in (output, self.failures):
            if file.exists():
                _cut_torn_line(file)
        self.done = Keys(output, id_key, settings)
        self._drop_outdated_failures()
        self.failed = Keys(self.failures, id_key, settings, unique=False)
        self._answers_file, self._failures_file = _Appendable(output, id_key), _Appendable(self.failures, id_key)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with ExitStack() as stack:
            stack.callback(self._answers_file.close)
            stack.callback(self._failures_file.close)
        if kind is not None and self.output.stat().st_size == 0:
            self.output.unlink()  # leave no empty file that looks like a result
        self._drop_outdated_failures()

    def answered(self, row: Mapping[str, Any]) -> bool:
        """Append an answer. Return whether its question had failed in an earlier run."""
        self._answers_file.append(row)
        failed_before = row[self._id_key] in self.failed
        if failed_before:
            self._answered_again.add(hash64(row[self._id_key]))
        return failed_before

    def failure(self, row: Mapping[str, Any]) -> bool:
        """Append a failure. Return whether its question had failed in an earlier run."""
        self._failures_file.append(row)
        return row[self._id_key] in self.failed

    def _drop_outdated_failures(self) -> None:
        """Keep only the last failure of each unanswered question. The ids of failures are few enough for memory."""
        if not self.failures.exists():
            return
        rows = [(row[self._id_key], number) for number, row in read_jsonl(self.failures, {self._id_key: str})]
        kept = {
            number
            for name, number in dict(rows).items()
            if name not in self.done and hash64(name) not in self._answered_again
        }
        if not kept:
            self.failures.unlink()
        elif len(kept) < len(rows):
            with atomic_text(self.failures) as stream, self.failures.open(encoding="utf-8", newline="\n") as lines:
                stream.writelines(line for number, line in enumerate(lines, start=1) if number in kept)


class _Appendable:
    """A JSON Lines file with `id_key` in each row, open for appending."""

    def __init__(self, path: Path, id_key: str) -> None:
        self._path, self._id_key = path, id_key
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._start = self._size = os.fstat(self._descriptor).st_size
        self._unwritten: list[bytes] = []

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a complete row.

        Raises:
            OSError: The row cannot be written; names the file. `close` tries again.
        """
        # A lone surrogate becomes its JSON escape.
        self._unwritten.append((json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))
        self._write()

    def close(self) -> None:
        """Write the rows that could not be written before, and close the file.

        Raises:
            OSError: The file cannot be written; names it.
            ValueError: Another program replaced, removed, truncated or extended the file; names it.
        """
        try:
            if self._unwritten:
                time.sleep(SECOND_TRY_AFTER)
            self._write()
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                raise self._named(error) from error
            self._check_unchanged()
        finally:
            if self._unwritten:
                print(
                    f"{self._path}: {len(self._unwritten)} rows could not be written; their questions are asked again"
                )
            os.close(self._descriptor)

    def _write(self) -> None:
        """Write the unwritten rows. On a full disk, a call may write a part of a row; the next call raises the error."""
        while self._unwritten:
            line, written = self._unwritten[0], 0
            try:
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
            except OSError as error:
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                raise self._named(error) from error
            self._size += len(line)
            del self._unwritten[0]

    def _check_unchanged(self) -> None:
        opened = os.fstat(self._descriptor)
        if self._path.exists() and os.path.samestat(opened, self._path.stat()):
            if opened.st_size == self._size:
                return
        else:
            self._add_rows_to_new_file()
        raise ValueError(f"{self._path}: was changed while the step wrote it; run the step again")

    def _add_rows_to_new_file(self) -> None:
        """Append the rows of this run to the file that is now at the path, except rows that it already has."""
        with self._path.open("ab+") as new, open(self._descriptor, "rb", closefd=False) as lines:
            new.seek(0)
            known: set[str | None] = {None}
            last = b"\n"
            for last in new:
                known.add(self._id(last))
            new.write(b"" if last.endswith(b"\n") else b"\n")
            lines.seek(self._start)
            new.writelines(line for line in lines if self._id(line) not in known)

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, error.strerror, str(self._path))

    def _id(self, line: bytes) -> str | None:
        """Return the id in a row, or None if it is not a row."""
        try:
            row = json.loads(line)
        except ValueError:
            return None
        return str(row.get(self._id_key)) if isinstance(row, dict) else None


def _cut_torn_line(path: Path) -> None:
    """Truncate a file after its last newline."""
    size = path.stat().st_size
    if not size:
        return
    with path.open("rb+") as stream:
        with mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
            end = content.rfind(b"\n") + 1
        if end < size:
            stream.truncate(end)
            print(f"{path}: removed an incomplete last row of {size - end} bytes")
