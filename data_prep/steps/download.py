"""Step `download`: download files of a public data set and unpack them."""

import shutil
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from data_prep.manifest import Manifest
from data_prep.progress import progress
from data_prep.step import Made, OutputStep
from data_prep.steps.fetch import File, fetch, part_path, verify
from pcclip.atomic import atomic_path


@dataclass(kw_only=True)
class Download(OutputStep):
    """Download files of a public data set and unpack them."""

    version: ClassVar[int] = 1

    files: list[File]
    """The files, e.g. those of COCO 2017 in conf/data/coco.yaml."""
    only: list[str] = field(default_factory=list)
    """Names of the files to download. Default: all in `files`."""
    keep_archives: bool = True
    """Keep archives after unpacking."""
    attempts: PositiveInt = 8
    """Consecutive attempts without progress before giving up."""
    timeout: PositiveFloat = 60.0
    """Seconds without a byte after which a connection counts as broken."""
    pause: NonNegativeFloat = 1.0
    """Seconds before the second attempt. The pause doubles with each further attempt, up to a minute."""

    def check_options(self) -> None:
        names = [file.file_name for file in self.files]
        for index, name in enumerate(names):
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise ValueError(f"download.files[{index}]: {name!r} is not a file name; set `name`")
            if name in names[:index]:
                raise ValueError(f"download.files[{index}]: another file is also named {name!r}; set `name`")
        for name in self.only:
            if name not in names:
                raise ValueError(f"download.only: no file {name!r}; `files` has {', '.join(names)}")
        if not names:
            raise ValueError("download.files: the list is empty")

    @property
    def chosen(self) -> list[File]:
        """The files to download."""
        return [file for file in self.files if not self.only or file.file_name in self.only]

    def settings(self) -> dict[str, Any]:
        return {"files": [asdict(file) for file in self.chosen]}

    def work(self) -> None:
        super().work()
        if not self.keep_archives:  # only now: without the manifest they would be downloaded again
            for file in self.chosen:
                if file.unpack:
                    (Path(self.output) / file.file_name).unlink(missing_ok=True)

    def make(self, manifest: Manifest) -> Made:
        output = Path(self.output)
        require_space(
            output, sum(_missing_bytes(file, output) for file in self.chosen), "download and unpack all files"
        )
        unpacked: list[Path] = []
        kept: list[Path] = []
        for file in self.chosen:
            target = output / file.file_name
            if target.exists():
                try:
                    verify(target, file)
                except ValueError as error:
                    raise ValueError(
                        f"{error}: the file was there before; move it away to download it again"
                    ) from error
            else:
                fetch(file, target, self.attempts, self.timeout, self.pause)
            if file.unpack:
                unpacked += unpack(target, output)
            if self.keep_archives or not file.unpack:
                kept.append(target)
        counts = {"files": len(self.chosen), "unpacked": len(unpacked)}
        written = {path.relative_to(output).as_posix(): path for path in kept + unpacked}
        return Made(counts, files=written, message=f"{len(self.chosen)} files, {len(unpacked)} unpacked from them")


def _missing_bytes(file: File, output: Path) -> int:
    """Return the bytes that a download will take, twice the size of an archive: images hardly shrink in one."""
    target = output / file.file_name
    part = part_path(target)
    if file.size is None or target.exists():  # `unpack` knows what is missing of an existing archive
        return 0
    received = part.stat().st_size if part.exists() else 0
    return max(0, file.size - received) + (file.size if file.unpack else 0)


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
