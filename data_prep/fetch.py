"""Fetching one file over HTTP so that it arrives whole: continued after a broken connection, then checked."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import random
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from pcclip.atomic import atomic_text

CHUNK = 1 << 18  # bytes
LONGEST_PAUSE = 60.0  # seconds between two attempts
PASSING = (408, 425, 429)  # statuses below 500 that may be gone the next time
OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # trying again would not help
AGENT = "pcclip-data"


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Attributes:
        url: Where it is, http or https.
        size: Its bytes, if known.
        md5: Its checksum, if known.
        sha256: The same, by the stronger hash.
    """

    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: Attempts in a row that bring nothing new before giving up.
        timeout: Seconds without a byte after which a connection counts as broken.
        pause: Seconds before the second attempt; the pause doubles with each further one.
    """

    attempts: int
    timeout: float
    pause: float


@dataclass
class _Origin:
    """What a partial file is a part of; kept beside it, so that only the same file is continued."""

    url: str
    etag: str | None = None
    modified: str | None = None
    size: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range may compare: a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def differs(self, other: _Origin) -> bool:
        """Whether both say something about their file, and not the same."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified), (self.size, other.size))
        return any(mine is not None and theirs is not None and mine != theirs for mine, theirs in pairs)


class _BrokenConnectionError(OSError):
    """The answer ended early."""


def fetch(wanted: Wanted, target: Path, patience: Patience) -> None:
    """Fetch a file to `target`, which appears only when it is whole and right.

    What has arrived stays in `<target>.part` and is continued the next time, if the server still has the same file.

    Raises:
        OSError: The server refuses, or too many attempts in a row brought nothing.
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
        # Parts of two versions may have met, which a new beginning mends.
        print(f"{error}; fetching it again from the start", file=sys.stderr)
        _receive(wanted, part, patience)
        try:
            verify(part, wanted)
        except ValueError:
            _discard(part)
            raise
    part.replace(target)
    _origin_path(part).unlink(missing_ok=True)


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
    """Fill `part` to the end, and say whether that took more than one request."""
    requests, fruitless, furthest = int(_offset(wanted, part) > 0), 0, _offset(wanted, part)
    while True:
        requests += 1
        waited: float | None = None
        try:
            _request(wanted, part, patience.timeout)
            return requests > 1
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what we have cannot be a beginning of what is there
                _discard(part)
            elif error.code < 500 and error.code not in PASSING:
                raise OSError(
                    f"{wanted.url}: the server says {error.code} {error.reason}; check the address"
                ) from error
            reason = f"{error.code} {error.reason}"
            waited = _retry_after(error)
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            if _is_final(error):
                raise
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        # A server that cannot continue starts from zero each time: only bytes beyond the furthest point are progress.
        reached = part.stat().st_size if part.exists() else 0
        fruitless = 0 if reached > furthest else fruitless + 1
        furthest = max(furthest, reached)
        if fruitless >= patience.attempts:
            raise OSError(
                f"{wanted.url}: gave up after {fruitless} attempts in a row, the last one: {reason}; "
                f"{reached} bytes are kept in {part}, run the command again to go on"
            )
        pause = (
            min(LONGEST_PAUSE, patience.pause * 2**fruitless * random.uniform(0.5, 1.0)) if waited is None else waited
        )
        print(f"{wanted.url}: {reason}; trying again in {pause:.0f} s, {reached} bytes are there", file=sys.stderr)
        time.sleep(pause)


def _request(wanted: Wanted, part: Path, timeout: float) -> None:
    """One request for what is missing of `part`.

    Raises:
        OSError, HTTPException: The connection failed or broke.
        ValueError: The server has a file of another size.
    """
    offset, known = _offset(wanted, part), _origin(part)
    if offset and offset == (wanted.size or known.size):
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": AGENT}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if known.validator is not None:
            headers["If-Range"] = known.validator
    with urllib.request.urlopen(urllib.request.Request(wanted.url, headers=headers), timeout=timeout) as response:
        start, total = _extent(response)
        origin = _Origin(wanted.url, response.headers.get("ETag"), response.headers.get("Last-Modified"), total)
        if response.status == 206 and (start != offset or origin.differs(known)):
            _discard(part)
            raise _BrokenConnectionError("the server went on with another file, or at another place")
        if wanted.size is not None and total is not None and total != wanted.size:
            raise ValueError(
                f"{wanted.url}: the server has a file of {total} bytes, expected {wanted.size}; "
                "mend `size` if the file has a new version, else the address"
            )
        total = wanted.size if total is None else total
        with part.open("r+b" if start else "wb") as stream:
            if not start:  # noted before the first byte, so that no byte is ever taken for one of another version
                with atomic_text(_origin_path(part)) as note:
                    note.write(json.dumps(asdict(origin)))
            stream.truncate(start)
            stream.seek(start)
            with closing(byte_bar(part.stem, total, start)) as bar:
                _copy(response, stream, bar)
            stream.flush()
            os.fsync(stream.fileno())
    reached = part.stat().st_size
    if total is not None and reached < total:
        raise _BrokenConnectionError(f"the connection broke after {reached} of {total} bytes")


def _copy(response: http.client.HTTPResponse, stream: BinaryIO, bar: tqdm[Any]) -> None:
    while chunk := response.read1(CHUNK):  # what has arrived, so that a break loses nothing of it
        stream.write(chunk)
        bar.update(len(chunk))


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where the body starts in the file, and how many bytes the file has, if the server says so."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if found is None:
            raise _BrokenConnectionError(f"Content-Range {response.headers.get('Content-Range')!r} makes no sense")
        return int(found[1]), int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _offset(wanted: Wanted, part: Path) -> int:
    """How many bytes of `part` can be built on."""
    origin = _origin(part)
    if not part.is_file() or origin.url != wanted.url:
        return 0
    # Without anything to recognise the file by, a wrong continuation would go unnoticed.
    recognised = origin.validator is not None or wanted.md5 is not None or wanted.sha256 is not None
    size = part.stat().st_size
    return size if recognised and (wanted.size is None or size <= wanted.size) else 0


def _origin_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _origin(part: Path) -> _Origin:
    try:
        return _Origin(**json.loads(_origin_path(part).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return _Origin("")  # a part of we know not what: begin anew


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _origin_path(part).unlink(missing_ok=True)


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    seconds = error.headers.get("Retry-After", "")
    return min(float(seconds), LONGEST_PAUSE) if seconds.isdigit() else None


def _is_final(error: Exception) -> bool:
    """Whether trying again would not help: our disk failed, not the connection, or the server is not to be trusted."""
    ours = isinstance(error, OSError) and (error.errno in OUR_DISK or error.filename is not None)
    return ours or isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError)
