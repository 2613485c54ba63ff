"""One process at a time writes an output. It first removes what killed processes left next to it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.files import manifest_path
from pcclip.atomic import remove_leftovers

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def output_lock(output: Path) -> Iterator[None]:
    """Hold the lock of an output: a hidden file next to it, which is removed at the end.

    The lock goes with the process, however it ends. In a folder that cannot be written there is nothing to lock.

    Raises:
        ValueError: Another process holds the lock, or its file cannot be opened although the folder can be written.
    """
    lock = output.with_name(f".{output.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(lock, output)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        if os.access(lock.parent, os.W_OK | os.X_OK):
            raise ValueError(
                f"{lock}: cannot be opened, perhaps it is another user's file; delete it if no process writes {output.name}"
            ) from error
        yield
        return
    try:
        remove_leftovers(output, manifest_path(output))
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(lock: Path, output: Path) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor  # otherwise its last holder has removed it in the meantime
        except BlockingIOError:
            os.close(descriptor)
            raise ValueError(f"{output}: another process is writing it; wait for it, or stop it") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            print(f"{output}: its file system has no locks; do not run two steps with this output at once", flush=True)
            return descriptor
        os.close(descriptor)
