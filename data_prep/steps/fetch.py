"""Download one file with curl: resumed after a broken connection, then checked."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

CHUNK = 1 << 18  # bytes
LONGEST_PAUSE = 60.0  # seconds between two attempts
PASSING = (408, 425, 429)  # statuses below 500 that may be gone the next time
HTTP_ERROR, CANNOT_RESUME, BAD_CERTIFICATE = 22, 33, 60  # curl's exit codes
# After the transfer, on stderr: status, and headers where the server sent them.
REPORT = "%{stderr}\n%{http_code} %header{retry-after} %header{content-length}"


@dataclass(frozen=True)
class Wanted:
    """A file to download.

    Attributes:
        url: Address, http or https.
        size: Bytes, if known.
        md5: Checksum, if known.
        sha256: Checksum, if known.
    """

    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: Attempts in a row without progress before giving up.
        timeout: Seconds without a byte after which a connection counts as broken.
        pause: Seconds before the second attempt; the pause doubles with each further one.
    """

    attempts: int
    timeout: float
    pause: float


class _Failure(NamedTuple):
    """A transfer that may succeed the next time; `wait` is the server's Retry-After in seconds."""

    reason: str
    wait: float | None = None


def fetch(wanted: Wanted, target: Path, patience: Patience) -> None:
    """Download a file to `target`, which appears only when it is complete and correct.

    Received bytes stay in `<target>.part`. They are continued if a checksum or the server's ETag tells that the file is
    still the same.

    Raises:
        OSError: The server refuses, too many attempts in a row made no progress, the disk is full, or curl is missing.
        ValueError: The file has another size or checksum than it should have.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(target)
    resumed = _receive(wanted, part, patience)
    try:
        verify(part, wanted)
    except ValueError as error:
        _discard(part)
        if not resumed:
            raise
        print(f"{error}; downloading it again from the start", file=sys.stderr)  # parts of two versions may be mixed
        _receive(wanted, part, patience)
        try:
            verify(part, wanted)
        except ValueError:
            _discard(part)
            raise
    part.replace(target)
    _discard(part)


def part_path(target: Path) -> Path:
    """Where a file lies until it is whole."""
    return target.with_name(target.name + ".part")


def verify(file: Path, wanted: Wanted) -> None:
    """Compare size and checksums.

    Raises:
        ValueError: One of them differs.
    """
    size = file.stat().st_size
    if wanted.size is not None and size != wanted.size:
        raise ValueError(f"{file}: {size} bytes, expected {wanted.size} ({wanted.url})")
    for kind, expected in (("md5", wanted.md5), ("sha256", wanted.sha256)):
        if expected is None:
            continue
        digest = hashlib.new(kind, usedforsecurity=False)
        with file.open("rb") as stream, closing(byte_bar(f"check {file.name}", size)) as bar:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                bar.update(len(chunk))
        if digest.hexdigest() != expected.lower():
            raise ValueError(f"{file}: {kind} is {digest.hexdigest()}, expected {expected} ({wanted.url})")


def byte_bar(name: str, total: int | None, done: int = 0) -> tqdm[Any]:
    """A bar that counts bytes, in the manner of `data_prep.progress`."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        desc=name,
        total=total,
        initial=done,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        delay=2,
        mininterval=interval,
        maxinterval=interval,
    )


def _receive(wanted: Wanted, part: Path, patience: Patience) -> bool:
    """Fill `part` to the end. Return whether that took more than one request."""
    requests, fruitless, furthest = int(_offset(wanted, part) > 0), 0, _offset(wanted, part)
    while True:
        requests += 1
        failure = _request(wanted, part, patience.timeout)
        if failure is None:
            return requests > 1
        # A server that cannot resume starts from zero each time: only bytes beyond the furthest point are progress.
        reached = part.stat().st_size if part.exists() else 0
        fruitless = 0 if reached > furthest else fruitless + 1
        furthest = max(furthest, reached)
        if fruitless >= patience.attempts:
            raise OSError(
                f"{wanted.url}: gave up after {fruitless} attempts without progress, the last one: {failure.reason}; "
                f"{reached} bytes are kept in {part}, run the command again to go on"
            )
        wait = failure.wait
        if wait is None:
            wait = patience.pause * 2**fruitless * random.uniform(0.5, 1.0)
        wait = min(LONGEST_PAUSE, wait)
        print(
            f"{wanted.url}: {failure.reason}; next attempt in {wait:.0f} s, {reached} bytes received", file=sys.stderr
        )
        time.sleep(wait)


def _request(wanted: Wanted, part: Path, timeout: float) -> _Failure | None:
    """Make one request for what is missing of `part`; return why it is not complete.

    Raises:
        OSError: A failure that another attempt cannot fix.
        ValueError: The server has a file of another size.
    """
    offset, seconds = _offset(wanted, part), str(max(1, round(timeout)))
    if offset and offset == wanted.size:
        return None
    etag = _etag(part)
    words = ["curl", "--silent", "--show-error", "--fail", "--location", "--user-agent", "pcclip-data"]
    words += ["--speed-limit", "1", "--speed-time", seconds, "--connect-timeout", seconds, "--write-out", REPORT]
    words += ["--etag-save", str(_etag_path(part))]
    if offset:
        words += ["--continue-at", str(offset), *(["--header", f"If-Range: {etag}"] if etag else [])]
    try:
        process = subprocess.Popen([*words, wanted.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise OSError("curl is not installed; install it with the system's package manager") from error
    # Through a pipe, so that curl ends when this process is killed.
    with (
        process,
        part.open("ab" if offset else "wb") as stream,
        closing(byte_bar(part.stem, wanted.size, offset)) as bar,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        while chunk := os.read(process.stdout.fileno(), CHUNK):
            stream.write(chunk)
            bar.update(len(chunk))
        said = process.stderr.read().decode(errors="replace").strip()
    message, _, report = said.rpartition("\n")
    status, wait, length = (int(field) if field.isdigit() else None for field in (*report.split(" "), "", "")[:3])
    reason = message.strip() or f"curl ended with {process.returncode}"
    reached = part.stat().st_size
    if offset and _etag(part) != etag:
        _discard(part)
        return _Failure("the server has another file now")
    if process.returncode == 0:
        if wanted.size is None or reached >= wanted.size:
            return None
        if length is not None and offset + length < wanted.size:
            raise ValueError(
                f"{wanted.url}: the server has {offset + length} bytes, expected {wanted.size}; fix `size` or `url`"
            )
        return _Failure(f"the connection ended after {reached} of {wanted.size} bytes")
    if process.returncode == CANNOT_RESUME or status == 416:
        _discard(part)
    elif process.returncode == BAD_CERTIFICATE:
        raise OSError(f"{wanted.url}: {reason}")
    elif process.returncode == HTTP_ERROR and status is not None and status < 500 and status not in PASSING:
        raise OSError(f"{wanted.url}: the server answers {status}; check the address")
    return _Failure(reason, wait)


def _offset(wanted: Wanted, part: Path) -> int:
    """Bytes of `part` to continue from; 0 if nothing would tell that they are of another file."""
    if not part.is_file() or not (wanted.md5 or wanted.sha256 or _etag(part)):
        return 0
    size = part.stat().st_size
    return size if wanted.size is None or size <= wanted.size else 0


def _etag_path(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _etag(part: Path) -> str:
    file = _etag_path(part)
    return file.read_text(encoding="latin-1").strip() if file.is_file() else ""


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_path(part).unlink(missing_ok=True)
