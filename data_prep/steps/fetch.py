"""Download one file with curl. A broken download is resumed, and the complete file is checked."""

import hashlib
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import Field, PositiveInt
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, stop_after_attempt
from tqdm import tqdm

from data_prep.progress import timing

CHUNK = 1 << 18  # bytes
LONGEST_PAUSE = 60.0  # seconds between two attempts
TRANSIENT = (408, 425, 429)  # statuses below 500 that a later attempt may not get
HTTP_ERROR, CANNOT_RESUME, BAD_CERTIFICATE = 22, 33, 60  # curl's exit codes
REPORT = "%{stderr}\n%{http_code} %header{retry-after}"  # what curl writes after the transfer


@dataclass
class File:
    """A file to download."""

    url: Annotated[str, Field(pattern="^https?://[^/]")]
    """Address, http or https."""
    size: PositiveInt | None = None
    """Size in bytes. It is checked, and the space on the disk before the download."""
    md5: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None
    """MD5 checksum."""
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    """SHA-256 checksum. Without a checksum, a broken download starts again from zero."""
    unpack: bool = False
    """Unpack the file, a zip archive, into the output folder."""
    name: str | None = None
    """Name in the output folder. Default: the last part of the address."""

    @property
    def file_name(self) -> str:
        """Name in the output folder."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2]) if self.name is None else self.name


class _TransferError(Exception):
    """A failed transfer that may succeed later. `wait` is the server's Retry-After in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(file: File, target: Path, attempts: int, timeout: float, pause: float) -> None:
    """Download a file to `target`, which appears only when it is complete and correct.

    Received bytes are in `<target>.part`. If the file has a checksum, the next attempt or run resumes from them.

    Args:
        file: The file.
        target: Where to write it.
        attempts: Consecutive attempts without progress before giving up.
        timeout: Seconds without a byte after which a connection counts as broken.
        pause: Seconds before the second attempt. The pause doubles with each further attempt.

    Raises:
        OSError: The server refuses, too many attempts made no progress, the disk is full, or curl is missing.
        ValueError: The file has the wrong size or checksum.
    """
    if shutil.which("curl") is None:
        raise OSError("curl is not installed; install it with the system's package manager")
    part = part_path(target)
    part.parent.mkdir(parents=True, exist_ok=True)
    transfer = _Transfer(file, part, timeout)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait if isinstance(error, _TransferError) else None
        backoff = pause * 2**state.attempt_number * random.uniform(0.5, 1)
        seconds = min(LONGEST_PAUSE, backoff if asked is None else asked)
        print(f"{file.url}: {error}; next attempt in {seconds:.0f} s", file=sys.stderr)
        return seconds

    retrying = Retrying(retry=retry_if_exception_type(_TransferError), stop=stop_after_attempt(attempts), wait=wait)
    try:
        while not retrying(transfer.advance):
            pass
    except RetryError as error:
        raise OSError(
            f"{file.url}: gave up after {attempts} attempts without progress, the last one: "
            f"{error.last_attempt.exception()}. Run the command again to continue {part}"
        ) from None
    try:
        verify(part, file)
    except ValueError as error:
        part.unlink()
        if not transfer.resumed:
            raise
        print(f"{error}; downloading it again, as it may mix two versions", file=sys.stderr)
        fetch(file, target, attempts, timeout, pause)
    else:
        part.replace(target)


def part_path(target: Path) -> Path:
    """Return the path of an incomplete download."""
    return target.with_name(target.name + ".part")


def verify(path: Path, file: File) -> None:
    """Compare size and checksums.

    Raises:
        ValueError: One of them differs.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise ValueError(f"{path}: {size} bytes, expected {file.size} ({file.url})")
    for kind, expected in (("md5", file.md5), ("sha256", file.sha256)):
        if expected is None:
            continue
        digest = hashlib.new(kind, usedforsecurity=False)
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != expected.lower():
            raise ValueError(f"{path}: {kind} is {digest.hexdigest()}, expected {expected} ({file.url})")


class _Transfer:
    """The requests for one file.

    Attributes:
        resumed: Whether a request continued an earlier one.
    """

    def __init__(self, file: File, part: Path, timeout: float) -> None:
        self._file, self._part, self._seconds = file, part, str(max(1, round(timeout)))
        self._furthest = self._offset()
        self.resumed = False

    def _offset(self) -> int:
        has_checksum = self._file.md5 or self._file.sha256
        return self._part.stat().st_size if has_checksum and self._part.exists() else 0

    def advance(self) -> bool:
        """Make one request for the missing bytes. Return whether the file is complete; False means progress.

        Raises:
            _TransferError: No progress. A server that cannot resume starts at zero: only bytes beyond the furthest count.
            OSError: A failure that retrying cannot fix.
        """
        file, offset = self._file, self._offset()
        if offset and offset == file.size:
            return True
        self.resumed |= offset > 0
        words = ["curl", "--silent", "--show-error", "--fail", "--location", "--user-agent", "pcclip-data"]
        words += ["--speed-limit", "1", "--speed-time", self._seconds, "--connect-timeout", self._seconds]
        words += ["--continue-at", str(offset), "--write-out", REPORT, file.url]
        # Through a pipe, so that curl ends when this process is killed.
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process, self._part.open("ab" if offset else "wb") as stream:
            assert process.stdout is not None
            assert process.stderr is not None
            bar = tqdm.wrapattr(stream, "write", total=file.size, desc=self._part.stem, initial=offset, **timing())
            with bar as counted:
                shutil.copyfileobj(process.stdout, counted)
            message, _, report = process.stderr.read().decode(errors="replace").rstrip("\n").rpartition("\n")
        if process.returncode == 0:
            return True
        status, _, wait = report.partition(" ")
        reason = message.strip() or f"curl ended with {process.returncode}"
        if process.returncode == CANNOT_RESUME or status == "416":
            self._part.unlink()
        elif process.returncode == BAD_CERTIFICATE:
            raise OSError(f"{file.url}: {reason}")
        elif process.returncode == HTTP_ERROR and int(status) < 500 and int(status) not in TRANSIENT:
            raise OSError(f"{file.url}: the server answers {status}; check the address")
        elif self._part.stat().st_size > self._furthest:
            self._furthest = self._part.stat().st_size
            return False
        raise _TransferError(reason, float(wait) if wait.isdigit() else None)
