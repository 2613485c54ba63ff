"""Step `download`: fetch files of a public data set and unpack them."""

import re
import shutil
import stat
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from data_prep.manifest import Manifest
from data_prep.progress import progress
from data_prep.step import Made, OutputStep
from data_prep.steps.fetch import File, fetch, part_path, verify
from pcclip.atomic import atomic_path

ENCRYPTED = 0x1  # bit of a zip member's flags


@dataclass(kw_only=True)
class Download(OutputStep):
    """Fetch files of a public data set and unpack them."""

    version: ClassVar[int] = 1

    files: list[File]
    """The files, e.g. those of COCO 2017 in conf/data/coco.yaml."""
    only: list[str] = field(default_factory=list)
    """Names of the files to fetch, of all in `files`; empty for all."""
    keep_archives: bool = True
    """Keep files after they were unpacked."""
    attempts: PositiveInt = 8
    """Attempts in a row that bring nothing new before giving up."""
    timeout: PositiveFloat = 60.0
    """Seconds without a byte after which a connection counts as broken."""
    pause: NonNegativeFloat = 1.0
    """Seconds before the second attempt; the pause doubles with each further one, up to a minute."""

    def check_options(self) -> None:
        names = [file.file_name for file in self.files]
        for index, (file, name) in enumerate(zip(self.files, names, strict=True)):
            where, address = f"download.files[{index}]", urlsplit(file.url)
            if address.scheme not in ("http", "https") or not address.hostname:
                raise ValueError(f"{where}: {file.url!r} is no http or https address")
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise ValueError(f"{where}: {name!r} is no file name; give `name`")
            if name in names[:index]:
                raise ValueError(f"{where}: {name!r} is already the name of another file; give `name`")
            for kind, digits in (("md5", 32), ("sha256", 64)):
                checksum = getattr(file, kind)
                if checksum is not None and re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", checksum) is None:
                    raise ValueError(f"{where}: `{kind}` must be {digits} hexadecimal digits, found {checksum!r}")
        for name in self.only:
            if name not in names:
                raise ValueError(f"download.only: no file {name!r}; `files` has {', '.join(names)}")
        if not names:
            raise ValueError("download.files: nothing to fetch")

    @property
    def chosen(self) -> list[File]:
        """The files to fetch."""
        return [file for file in self.files if not self.only or file.file_name in self.only]

    def settings(self) -> dict[str, Any]:
        return {"files": [asdict(file) for file in self.chosen]}

    def work(self) -> None:
        super().work()
        if not self.keep_archives:  # after the manifest, without which they would be fetched again
            for file in self.chosen:
                if file.unpack:
                    (Path(self.output) / file.file_name).unlink(missing_ok=True)

    def make(self, manifest: Manifest) -> Made:
        """Fetch what is missing, continue broken downloads, and unpack.

        Raises:
            OSError: A server refuses or cannot be reached, or the disk has too little space.
            ValueError: A file has another size or checksum than it should have, or an archive is damaged or unsafe.
        """
        output = Path(self.output)
        require_space(output, sum(_to_come(file, output) for file in self.chosen), "fetch and unpack everything")
        unpacked: list[Path] = []
        kept: list[Path] = []
        for file in self.chosen:
            target = output / file.file_name
            if target.exists():
                _accept(target, file)
            else:
                fetch(file, target, self.attempts, self.timeout, self.pause)
            if file.unpack:
                unpacked += unpack(target, output)
            if self.keep_archives or not file.unpack:
                kept.append(target)
        counts = {"files": len(self.chosen), "unpacked": len(unpacked)}
        written = {path.relative_to(output).as_posix(): path for path in kept + unpacked}
        rest = f", {len(unpacked)} unpacked from them" if unpacked else ""
        return Made(counts, files=written, message=f"{len(self.chosen)} files{rest}")


def _to_come(file: File, output: Path) -> int:
    """Return the bytes that a file will still take; unpacked about as many again, as pictures hardly shrink in an archive."""
    target = output / file.file_name
    if file.size is None or target.exists():  # what is left to unpack of an archive that is there, `unpack` knows
        return 0
    part = part_path(target)
    received = part.stat().st_size if part.exists() else 0
    return max(0, file.size - received) + (file.size if file.unpack else 0)


def _accept(target: Path, file: File) -> None:
    try:
        verify(target, file)
    except ValueError as error:
        raise ValueError(f"{error}: the file was there before; move it away to fetch it again") from error


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip file into a folder and return its files there.

    A file that exists with the right size is skipped, so an interrupted run continues where it stopped.

    Raises:
        ValueError: Not a zip file, a damaged or encrypted one, or one with links or with paths that lead out of the folder;
            such an archive is refused before anything is written.
        OSError: Too little space on the disk.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [(member, _place(archive, member)) for member in zipped.infolist() if not member.is_dir()]
            missing = [
                (member, folder / place)
                for member, place in members
                if not (folder / place).is_file() or (folder / place).stat().st_size != member.file_size
            ]
            require_space(folder, sum(member.file_size for member, _ in missing), f"unpack {archive.name}")
            for member, target in progress(missing, desc=f"unpack {archive.name}", unit="file"):
                with atomic_path(target) as temporary, zipped.open(member) as source, temporary.open("wb") as stream:
                    shutil.copyfileobj(source, stream)  # zipfile compares size and checksum at the end
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ValueError(f"{archive}: damaged, or not a zip file ({error}); delete it and fetch it again") from error
    return [folder / place for _, place in members]


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Check the free space on the disk of a folder.

    Raises:
        OSError: It is less than `needed` bytes.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise OSError(
            f"{folder}: to {purpose} takes {needed / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB free; "
            "make room, or choose another folder"
        )


def _place(archive: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or not path.parts:
        raise ValueError(
            f"{archive}: {member.filename!r} would lie outside of the folder; this archive is not to be trusted"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ValueError(f"{archive}: {member.filename!r} is a link; this archive is not to be trusted")
    if member.flag_bits & ENCRYPTED:
        raise ValueError(
            f"{archive}: {member.filename!r} is encrypted; unpack the archive by hand and set `unpack: false`"
        )
    return path
