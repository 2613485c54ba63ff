"""Decoding of the images that a source found, in parallel and in order."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from data_prep.images import check_image, read_bytes
from data_prep.sources.source import Candidate, Checked
from data_prep.workers import in_order
from pcclip.data.pictures import UnreadableImageError

CHUNK = 16  # images sent to a process at once


def check(path: Path, payload: bytes | None) -> Checked:
    """Decode one image, from its bytes or, where they are not given, from its file."""
    try:
        content = read_bytes(path) if payload is None else payload
        width, height = check_image(content, str(path))
    except UnreadableImageError as error:
        absent = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        return Checked(reason="missing" if absent else "unreadable", message=str(error))
    return Checked(width, height, hashlib.sha256(content).hexdigest())


def check_all(candidates: Iterable[Candidate], workers: int) -> Iterator[tuple[Candidate, Checked]]:
    """Decode all, and yield them in the order in which they come.

    Args:
        candidates: What a source found.
        workers: Processes that decode; fewer than 2 work in this one.

    Raises:
        ChildProcessError: A process died.
    """
    stream, under_way = iter(candidates), deque[list[Candidate]]()

    def chunks() -> Iterator[list[tuple[Path, bytes | None]]]:
        while chunk := list(islice(stream, CHUNK)):
            under_way.append(chunk)
            yield [(candidate.path, candidate.payload) for candidate in chunk]

    if workers < 2:
        for candidate in stream:
            yield candidate, candidate.checked or check(candidate.path, candidate.payload)
    for checked in in_order(_check_chunk, chunks(), workers, "captions.workers"):
        yield from zip(under_way.popleft(), checked, strict=True)


def _check_chunk(work: list[tuple[Path, bytes | None]]) -> list[Checked]:
    return [check(path, payload) for path, payload in work]
