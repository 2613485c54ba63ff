"""The record of what was answered and what failed: append-only JSON Lines that survive the death of the process."""

from __future__ import annotations

import fcntl
import json
import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.files import Row, read_jsonl_with_offsets
from data_prep.parts import hash64
from pcclip.atomic import atomic_text

Hashes = npt.NDArray[np.uint64]


def failures_path(output: Path) -> Path:
    """`<stem>.failures.jsonl`, beside the output."""
    return output.with_name(f"{output.stem}.failures.jsonl")


class Keys:
    """Keys by id, as sorted 64-bit hashes.

    Args:
        path: JSON Lines with the id and `key` in each row, or no file.
        id_key: The id's name in a row.
        settings: Hash of the settings that every key must begin with.

    Raises:
        ValueError: A bad row, one of other settings, or an id that occurs twice.
    """

    def __init__(self, path: Path, id_key: str, settings: str, *, unique: bool = True) -> None:
        ids, keys = array("Q"), array("Q")
        self.prompt_tokens = self.completion_tokens = 0
        if path.is_file():
            for number, _, row in read_jsonl_with_offsets(path, {id_key: str}):
                key = str(row.get("key"))
                if key.partition("-")[0] != settings:
                    made = f"{row.get('model', 'no model')}, prompt {row.get('prompt', 'none')}"
                    raise ValueError(
                        f"{path}, line {number}: written with other settings ({made}) than this run's; "
                        "choose another `output`, or delete the file to begin anew"
                    )
                ids.append(hash64(row[id_key]))
                keys.append(hash64(key))
                self.prompt_tokens += int(row.get("prompt_tokens", 0))
                self.completion_tokens += int(row.get("completion_tokens", 0))
        # stable, and the last of equal ids is looked up: a later failure replaces an earlier one
        order = np.argsort(np.array(ids, dtype=np.uint64), kind="stable")
        self._ids: Hashes = np.array(ids, dtype=np.uint64)[order]
        self._keys: Hashes = np.array(keys, dtype=np.uint64)[order]
        if unique and (self._ids[1:] == self._ids[:-1]).any():
            raise ValueError(f"{path}: two rows have the same `{id_key}`; delete one of them")

    def __len__(self) -> int:
        return len(np.unique(self._ids))

    def __contains__(self, question_id: str) -> bool:
        return self._place(question_id) >= 0

    def key_hash(self, question_id: str) -> int | None:
        """Hash of the key of an id, or None."""
        place = self._place(question_id)
        return int(self._keys[place]) if place >= 0 else None

    def all_in(self, hashes: Hashes) -> bool:
        """Whether every id is among the hashes of ids."""
        return bool(np.isin(self._ids, hashes).all())

    def _place(self, question_id: str) -> int:
        wanted = np.uint64(hash64(question_id))
        place = int(np.searchsorted(self._ids, wanted, side="right")) - 1
        return place if place >= 0 and self._ids[place] == wanted else -1


class Journal:
    """The output and its failures, open for appending. Use it as a context manager.

    A row is written with one call, so that a process that is killed leaves whole rows; a torn last row, as a power cut may
    leave it, is cut off when the journal is opened. One process at a time may hold it.

    Args:
        output: The file of the answers.
        id_key: Name of the id in a row.
        settings: Hash of the settings; see `Requests.key`.

    Raises:
        ValueError: Another process holds the output, or a row is bad or of other settings.
    """

    def __init__(self, output: Path, id_key: str, settings: str) -> None:
        self.output, self.failures = output, failures_path(output)
        self._id_key = id_key
        output.parent.mkdir(parents=True, exist_ok=True)
        self._output = _open_for_appending(output)
        try:
            try:
                fcntl.flock(self._output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{output}: another process is writing it; wait for it, or stop it") from None
            cut_torn_line(output)
            self.done = Keys(output, id_key, settings)
            if self.failures.exists():
                cut_torn_line(self.failures)
                self._drop_outdated_failures()
            self.failed = Keys(self.failures, id_key, settings)
            self._failures = _open_for_appending(self.failures)
        except BaseException:
            os.close(self._output)
            raise
        self.answered_now = self.failed_now = 0
        self._settings = settings

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        os.fsync(self._output)
        os.close(self._failures)
        if kind is not None and self.output.stat().st_size == 0:
            self.output.unlink()  # nothing came of it: leave no empty file that looks like a result
        if self.failures.stat().st_size == 0:
            self.failures.unlink()
        elif self.answered_now or self.failed_now:
            self.done = Keys(self.output, self._id_key, self._settings)
            self._drop_outdated_failures()
        os.close(self._output)  # and with it the lock

    def answered(self, row: Mapping[str, Any]) -> None:
        """Append a row with an answer."""
        _append(self._output, row)
        self.answered_now += 1

    def failure(self, row: Mapping[str, Any]) -> None:
        """Append a row that says why there is no answer."""
        _append(self._failures, row)
        self.failed_now += 1

    def _drop_outdated_failures(self) -> None:
        """Keep, of each question that has no answer, the last failure."""
        last: dict[int, int] = {}  # failures are few; and of each only its hash and line number are kept
        for number, _, row in read_jsonl_with_offsets(self.failures, {self._id_key: str}):
            if row[self._id_key] not in self.done:
                last[hash64(row[self._id_key])] = number
        if len(last) == _count_lines(self.failures):
            return
        if not last:
            self.failures.unlink()
            return
        with atomic_text(self.failures) as stream:
            for number, row in _numbered_rows(self.failures, self._id_key):
                if last.get(hash64(row[self._id_key])) == number:
                    stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def cut_torn_line(path: Path) -> None:
    """Cut off what follows the last line break of a file."""
    with path.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        start = end
        while start > 0:
            size = min(1 << 16, start)
            start -= size
            stream.seek(start)
            last_break = stream.read(size).rfind(b"\n")
            if last_break >= 0:
                start += last_break + 1
                break
        if start < end:
            stream.truncate(start)
            print(f"{path}: cut off an unfinished last row of {end - start} bytes")


def _numbered_rows(path: Path, id_key: str) -> Iterator[tuple[int, Row]]:
    return ((number, row) for number, _, row in read_jsonl_with_offsets(path, {id_key: str}))


def _count_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in stream)


def _open_for_appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _append(descriptor: int, row: Mapping[str, Any]) -> None:
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    written = os.write(descriptor, line)
    while written < len(line):  # a nearly full disk: the next call fails and says so
        written += os.write(descriptor, line[written:])
