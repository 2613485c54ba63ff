"""Reading a batch's output files, which may hold anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from data_prep.llm.replies import LONGEST_BODY, FailedAnswerError, MalformedReplyError, load_response


class Responses:
    """Rows of a batch's output files by `custom_id`. Use it as a context manager.

    Unreadable rows are skipped: their requests have no row, and fail alone. The files hold at most `MOST_REQUESTS` rows.

    Args:
        files: The files; missing ones are empty. Of several rows of a request the first counts.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._streams: list[BinaryIO] = [file.open("rb") for file in files if file.is_file()]
        self._places: dict[str, tuple[BinaryIO, int]] = {}
        for stream in self._streams:
            offset = 0
            while line := stream.readline(LONGEST_BODY):
                row = _row(line)
                if row is not None:
                    self._places.setdefault(row["custom_id"], (stream, offset))
                offset += len(line)

    def __enter__(self) -> Responses:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.close()

    def get(self, custom_id: str) -> dict[str, Any] | None:
        """Return the row of a request, or None."""
        if custom_id not in self._places:
            return None
        stream, offset = self._places[custom_id]
        stream.seek(offset)
        return _row(stream.readline(LONGEST_BODY))


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = load_response(line)
    except MalformedReplyError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("custom_id"), str) else None


def reported_failure(problem: Any, status: Any) -> FailedAnswerError:
    """Return the failure that a row without an answer reports; whatever it holds instead is left out."""
    if isinstance(problem, dict) and isinstance(problem.get("error"), dict):
        problem = problem["error"]
    code, message = (problem.get(key) if isinstance(problem, dict) else None for key in ("code", "message"))
    return FailedAnswerError(
        code if isinstance(code, str) and code else f"http_{status if isinstance(status, int) else 'none'}",
        message if isinstance(message, str) else "",
    )
