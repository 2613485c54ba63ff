"""Step `download`: download files of a public data set with curl, check them, and unpack them."""

import hashlib
import random
import shutil
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import Field, PositiveFloat, PositiveInt
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, stop_after_attempt
from tqdm import tqdm

from data_prep.manifest import Manifest
from data_prep.progress import progress, timing
from data_prep.step import UNRECORDED, Made, OutputStep
from pcclip.atomic import atomic_path

CHUNK = 1 << 18  # bytes
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before an attempt; the pause doubles each time
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


@dataclass(kw_only=True)
class Download(OutputStep):
    """Download files of a public data set and unpack them."""

    version: ClassVar[int] = 1

    files: list[File]
    """The files, e.g. those of COCO 2017 in conf/data/coco.yaml."""
    attempts: PositiveInt = field(default=8, metadata=UNRECORDED)
    """Consecutive attempts without progress before giving up."""
    timeout: PositiveFloat = field(default=60.0, metadata=UNRECORDED)
    """Seconds without a byte after which a connection counts as broken."""

    def check_options(self) -> None:
        names = [file.file_name for file in self.files]
        for index, name in enumerate(names):
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise ValueError(f"download.files[{index}]: {name!r} is not a file name; set `name`")
            if name in names[:index]:
                raise ValueError(f"download.files[{index}]: another file is also named {name!r}; set `name`")
        if not names:
            raise ValueError("download.files: the list is empty")

    def make(self, manifest: Manifest) -> Made:
        output = Path(self.output)
        require_space(output, sum(_missing_bytes(file, output) for file in self.files), "download and unpack all files")
        unpacked: list[Path] = []
        targets = [output / file.file_name for file in self.files]
        for file, target in zip(self.files, targets, strict=True):
            if target.exists():
                try:
                    verify(target, file)
                except ValueError as error:
                    raise ValueError(
                        f"{error}: the file was there before; move it away to download it again"
                    ) from error
            else:
                fetch(file, target, self.attempts, self.timeout)
            if file.unpack:
                unpacked += unpack(target, output)
        counts = {"files": len(self.files), "unpacked": len(unpacked)}
        return Made(
            counts, files=(*targets, *unpacked), message=f"{len(self.files)} files, {len(unpacked)} unpacked from them"
        )


def _missing_bytes(file: File, output: Path) -> int:
    """Return the bytes that a download will take, twice the size of an archive: images hardly shrink in one."""
    target = output / file.file_name
    part = part_path(target)
    if file.size is None or target.exists():  # `unpack` knows what is missing of an existing archive
        return 0
    received = part.stat().st_size if part.exists() else 0
    return max(0, file.size - received) + (file.size if file.unpack else 0)


class _TransferError(Exception):
    """A failed transfer that may succeed later. `wait` is the server's Retry-After in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(file: File, target: Path, attempts: int, timeout: float) -> None:
    """Download a file to `target`, which appears only when it is complete and correct.

    Received bytes are in `<target>.part`. If the file has a checksum, the next attempt or run resumes from them.

    Args:
        file: The file.
        target: Where to write it.
        attempts: Consecutive attempts without progress before giving up.
        timeout: Seconds without a byte after which a connection counts as broken.

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
        backoff = FIRST_PAUSE * 2**state.attempt_number * random.uniform(0.5, 1)
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
        fetch(file, target, attempts, timeout)
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


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip file into a folder and return the paths of its files.

    Existing files of the right size are skipped, so an interrupted run continues.

    Raises:
        ValueError: A damaged or encrypted archive, or a path outside of the folder. Such a path is found before anything
            is written.
        OSError: The disk has too little space.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [
                (member, folder / _place(archive, member)) for member in zipped.infolist() if not member.is_dir()
            ]
            missing = [
                (member, target)
                for member, target in members
                if not target.is_file() or target.stat().st_size != member.file_size
            ]
            require_space(folder, sum(member.file_size for member, _ in missing), f"unpack {archive.name}")
            for member, target in progress(missing, desc=f"unpack {archive.name}", unit="file"):
                with atomic_path(target) as temporary, zipped.open(member) as source, temporary.open("wb") as stream:
                    shutil.copyfileobj(source, stream)  # zipfile checks the CRC at the end; a link becomes a plain file
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise ValueError(f"{archive}: cannot be unpacked ({error}); delete it, or set `unpack: false`") from error
    return [target for _, target in members]


def _place(archive: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
        raise ValueError(f"{archive}: {member.filename!r} would lie outside of the folder; do not trust this archive")
    return path


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Check the free space on the disk of a folder.

    Raises:
        OSError: It is less than `needed` bytes.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise OSError(
            f"{folder}: to {purpose} takes {needed / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB free; "
            "free some space, or choose another folder"
        )
