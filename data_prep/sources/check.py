"""Decoding of the images that a source found, in parallel and in order."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from data_prep.images import check_image, read_bytes
from data_prep.sources.source import Candidate, Checked
from data_prep.workers import worker_pool
from pcclip.data.pictures import UnreadableImageError

CHUNK = 16  # images sent to a process at once
CHUNKS_AHEAD = 2  # chunks under way for each process, which bounds the memory


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
        workers: Processes that decode; 1 works in this one.

    Raises:
        ChildProcessError: A process died.
    """
    if workers == 1:
        for candidate in candidates:
            yield candidate, candidate.checked or check(candidate.path, candidate.payload)
        return
    stream = iter(candidates)
    under_way: deque[tuple[list[Candidate], Future[list[Checked]]]] = deque()
    with worker_pool(workers) as pool:
        try:
            while True:
                while len(under_way) < workers * CHUNKS_AHEAD and (chunk := list(islice(stream, CHUNK))):
                    work = [(candidate.path, candidate.payload) for candidate in chunk]
                    under_way.append((chunk, pool.submit(_check_chunk, work)))
                if not under_way:
                    return
                chunk, result = under_way.popleft()
                yield from zip(chunk, result.result(), strict=True)
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process that decodes images died, most likely for lack of memory; set captions.workers lower"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _check_chunk(work: list[tuple[Path, bytes | None]]) -> list[Checked]:
    return [check(path, payload) for path, payload in work]
