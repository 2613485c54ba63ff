"""Download one file with curl: resumed after a broken connection, then checked."""

import hashlib
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

CHUNK = 1 << 18  # bytes
LONGEST_PAUSE = 60.0  # seconds between two attempts
PASSING = (408, 425, 429)  # statuses below 500 that may be gone the next time
HTTP_ERROR, CANNOT_RESUME, BAD_CERTIFICATE = 22, 33, 60  # curl's exit codes
# After the transfer, on stderr: status, and headers where the server sent them.
REPORT = "%{stderr}\n%{http_code} %header{retry-after} %header{content-length}"


@dataclass
class File:
    """A file to download."""

    url: str
    """Address, http or https."""
    size: int | None = None
    """Size in bytes. If it is given, it is checked before and after."""
    md5: str | None = None
    """MD5 checksum."""
    sha256: str | None = None
    """SHA-256 checksum. Without a checksum, a broken download is resumed only if the server sends an ETag."""
    unpack: bool = False
    """Unpack the file, a zip archive, into the output folder."""
    name: str | None = None
    """Name in the output folder. Default: the end of the address."""

    @property
    def file_name(self) -> str:
        """Name in the output folder."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2]) if self.name is None else self.name


class _Failure(NamedTuple):
    """A transfer that may succeed the next time; `wait` is the server's Retry-After in seconds."""

    reason: str
    wait: float | None = None


def fetch(file: File, target: Path, attempts: int, timeout: float, pause: float) -> None:
    """Download a file to `target`, which appears only when it is complete and correct.

    Received bytes stay in `<target>.part`. They are continued if a checksum or the server's ETag shows that the file is
    still the same.

    Args:
        file: What to download.
        target: Where to.
        attempts: Attempts in a row without progress before giving up.
        timeout: Seconds without a byte after which a connection counts as broken.
        pause: Seconds before the second attempt; the pause doubles with each further one.

    Raises:
        OSError: The server refuses, too many attempts in a row made no progress, the disk is full, or curl is missing.
        ValueError: The file has another size or checksum than it should have.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(target)
    while True:
        resumed = _receive(file, part, attempts, timeout, pause)
        try:
            verify(part, file)
        except ValueError as error:
            _discard(part)
            if not resumed:
                raise
            print(
                f"{error}; downloading it again from the start", file=sys.stderr
            )  # parts of two versions may be mixed
        else:
            part.replace(target)
            _discard(part)
            return


def part_path(target: Path) -> Path:
    """Return where a file lies until it is complete."""
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


def _receive(file: File, part: Path, attempts: int, timeout: float, pause: float) -> bool:
    """Fill `part` to the end. Return whether that took more than one request."""
    resumed, fruitless, furthest = _offset(file, part) > 0, 0, _offset(file, part)
    while True:
        failure = _request(file, part, timeout)
        if failure is None:
            return resumed
        resumed = True
        # A server that cannot resume starts from zero each time: only bytes beyond the furthest point are progress.
        reached = part.stat().st_size if part.exists() else 0
        fruitless = 0 if reached > furthest else fruitless + 1
        furthest = max(furthest, reached)
        if fruitless >= attempts:
            raise OSError(
                f"{file.url}: gave up after {fruitless} attempts without progress, the last one: {failure.reason}; "
                f"{reached} bytes are kept in {part}, run the command again to go on"
            )
        wait = pause * 2**fruitless * random.uniform(0.5, 1.0) if failure.wait is None else failure.wait
        wait = min(LONGEST_PAUSE, wait)
        print(f"{file.url}: {failure.reason}; next attempt in {wait:.0f} s, {reached} bytes received", file=sys.stderr)
        time.sleep(wait)


def _request(file: File, part: Path, timeout: float) -> _Failure | None:
    """Make one request for what is missing of `part`; return why it is not complete.

    Raises:
        OSError: A failure that another attempt cannot fix.
        ValueError: The server has a file of another size.
    """
    offset, seconds = _offset(file, part), str(max(1, round(timeout)))
    if offset and offset == file.size:
        return None
    etag = _etag(part)
    words = ["curl", "--silent", "--show-error", "--fail", "--location", "--user-agent", "pcclip-data"]
    words += ["--speed-limit", "1", "--speed-time", seconds, "--connect-timeout", seconds, "--write-out", REPORT]
    words += ["--etag-save", str(_etag_path(part))]
    if offset:
        words += ["--continue-at", str(offset), *(["--header", f"If-Range: {etag}"] if etag else [])]
    try:
        # Through a pipe, so that curl ends when this process is killed.
        process = subprocess.Popen([*words, file.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise OSError("curl is not installed; install it with the system's package manager") from error
    with process, part.open("ab" if offset else "wb") as stream:
        assert process.stdout is not None
        assert process.stderr is not None
        bar: dict[str, Any] = {
            "desc": part.stem,
            "initial": offset,
            "delay": 2,
            "mininterval": 0.1 if sys.stderr.isatty() else 10,
        }
        with tqdm.wrapattr(stream, "write", total=file.size, **bar) as counted:
            shutil.copyfileobj(process.stdout, counted)
        said = process.stderr.read().decode(errors="replace").strip()
    message, _, report = said.rpartition("\n")
    status, wait, length = (int(field) if field.isdigit() else None for field in (*report.split(" "), "", "")[:3])
    reason = message.strip() or f"curl ended with {process.returncode}"
    reached = part.stat().st_size
    if offset and _etag(part) != etag:
        _discard(part)
        return _Failure("the server has another file now")
    if process.returncode == 0:
        if file.size is None or reached >= file.size:
            return None
        if length is not None and offset + length < file.size:
            raise ValueError(
                f"{file.url}: the server has {offset + length} bytes, expected {file.size}; fix `size` or `url`"
            )
        return _Failure(f"the connection ended after {reached} of {file.size} bytes")
    if process.returncode == CANNOT_RESUME or status == 416:
        _discard(part)
    elif process.returncode == BAD_CERTIFICATE:
        raise OSError(f"{file.url}: {reason}")
    elif process.returncode == HTTP_ERROR and status is not None and status < 500 and status not in PASSING:
        raise OSError(f"{file.url}: the server answers {status}; check the address")
    return _Failure(reason, wait)


def _offset(file: File, part: Path) -> int:
    """Return the bytes of `part` to continue from; 0 if nothing would show that they are of another file."""
    if not part.is_file() or not (file.md5 or file.sha256 or _etag(part)):
        return 0
    size = part.stat().st_size
    return size if file.size is None or size <= file.size else 0


def _etag_path(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _etag(part: Path) -> str:
    file = _etag_path(part)
    return file.read_text(encoding="latin-1").strip() if file.is_file() else ""


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_path(part).unlink(missing_ok=True)
