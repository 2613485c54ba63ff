"""Unpack zip files from untrusted sources."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from data_prep.progress import progress
from pcclip.atomic import atomic_path

ENCRYPTED = 0x1  # bit of a member's flags


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
            missing = [(member, folder / place) for member, place in members if not _there(folder / place, member)]
            require_space(folder, sum(member.file_size for member, _ in missing), f"unpack {archive.name}")
            for member, target in progress(missing, desc=f"unpack {archive.name}", unit="file"):
                _extract(zipped, member, target)
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
            f"{folder}: to {purpose} takes {_gigabytes(needed)}, but its disk has {_gigabytes(free)} free; "
            "make room, or choose another folder"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


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


def _there(path: Path, member: zipfile.ZipInfo) -> bool:
    return path.is_file() and path.stat().st_size == member.file_size


def _extract(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    with atomic_path(target) as temporary, zipped.open(member) as source, temporary.open("wb") as stream:
        shutil.copyfileobj(source, stream)  # zipfile compares size and checksum at the end
