"""A lock for each output: only one process writes it at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from data_prep.files import manifest_path
from pcclip.atomic import remove_leftovers


@contextmanager
def output_lock(output: Path) -> Iterator[None]:
    """Hold the lock of an output, and first delete temporary files that killed processes left next to it.

    The lock is a hidden file next to the output, deleted at the end. The system releases it when the process dies. In a
    read-only folder no lock is needed.

    Raises:
        ValueError: Another process holds the lock, or its file cannot be opened or locked in a writable folder.
    """
    file = output.with_name(f".{output.name}.lock")
    lock = FileLock(file, timeout=0)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ValueError(f"{output}: another process is writing it; wait for it, or stop it") from None
    except OSError as error:
        if os.access(output.parent, os.W_OK | os.X_OK):
            raise ValueError(
                f"{file}: cannot be locked ({error.strerror}). If no process writes {output.name}, delete this file"
            ) from error
    try:
        if lock.is_locked:
            remove_leftovers(output, manifest_path(output))
        yield
    finally:
        if lock.is_locked:
            file.unlink(missing_ok=True)  # `release` keeps it
        lock.release()
