"""Step `download`: fetch files of a public data set, COCO 2017 by default, and unpack them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from data_prep.manifest import Manifest
from data_prep.step import UNRECORDED, Made, OutputStep
from data_prep.steps.fetch import Patience, Wanted, fetch, part_path, verify
from data_prep.steps.unpack import require_space, unpack


@dataclass
class File:
    """A file to fetch."""

    url: str
    """Its address, http or https."""
    size: int | None = None
    """Its size in bytes, if known: then it is checked before and after."""
    md5: str | None = None
    """Its checksum, if known."""
    sha256: str | None = None
    """The same, by the stronger hash."""
    unpack: bool = False
    """Whether to unpack it, which must then be a zip file, into the output folder."""
    name: str | None = None
    """Its name in the output folder; by default the end of the address."""

    @property
    def file_name(self) -> str:
        """What it is called in the output folder."""
        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1]) if self.name is None else self.name


def coco_2017() -> list[File]:
    """The images and annotations of COCO 2017 (train, val) at their official addresses.

    These have no https, so that the hash is what vouches for the files.
    """
    return [
        File(
            url="http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
            size=252_907_541,
            sha256="113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
            unpack=True,
        ),
        File(
            url="http://images.cocodataset.org/zips/val2017.zip",
            size=815_585_330,
            sha256="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            unpack=True,
        ),
        File(
            url="http://images.cocodataset.org/zips/train2017.zip",
            size=19_336_861_798,
            sha256="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            unpack=True,
        ),
    ]


@dataclass(kw_only=True)
class Download(OutputStep):
    """Fetch files of a public data set, COCO 2017 by default, and unpack them."""

    name: ClassVar[str] = "download"
    version: ClassVar[int] = 1

    output: str = field(metadata=UNRECORDED)
    """The folder to fetch into, and to unpack into."""
    files: list[File] = field(default_factory=coco_2017)
    """The files; by default those of COCO 2017."""
    only: list[str] = field(default_factory=list)
    """Names of the files to fetch, of all in `files`; empty for all."""
    keep_archives: bool = True
    """Whether to keep files after they were unpacked."""
    attempts: int = 8
    """Attempts in a row that bring nothing new before giving up."""
    timeout: float = 60.0
    """Seconds without a byte after which a connection counts as broken."""
    pause: float = 1.0
    """Seconds before the second attempt; the pause doubles with each further one, up to a minute."""

    def check_options(self) -> None:
        """Check the numbers and the files."""
        _chosen(self)

    def settings(self) -> dict[str, Any]:
        """Return the files that are wanted."""
        return {"files": [asdict(file) for file in _chosen(self)]}

    def work(self) -> None:
        """Fetch and unpack; then delete the archives that are not to be kept."""
        super().work()
        if not self.keep_archives:  # after the manifest, without which they would be fetched again
            for file in _chosen(self):
                if file.unpack:
                    (Path(self.output) / file.file_name).unlink(missing_ok=True)

    def make(self, manifest: Manifest) -> Made:
        """Fetch and unpack; what is there already is not fetched again, and broken transfers go on where they were.

        Raises:
            OSError: A server refuses or cannot be reached, or the disk has too little space.
            ValueError: A file has another size or checksum than it should have, or an archive is damaged or not to be
                trusted.
        """
        files, output = _chosen(self), Path(self.output)
        require_space(output, sum(_to_come(file, output) for file in files), "fetch and unpack everything")
        patience = Patience(self.attempts, self.timeout, self.pause)
        unpacked: list[Path] = []
        kept: list[Path] = []
        for file in files:
            target = output / file.file_name
            wanted = Wanted(file.url, file.size, file.md5, file.sha256)
            if target.exists():
                _accept(target, wanted)
            else:
                fetch(wanted, target, patience)
            if file.unpack:
                unpacked += unpack(target, output)
            if self.keep_archives or not file.unpack:
                kept.append(target)
        written = {path.relative_to(output).as_posix(): path for path in kept + unpacked}
        rest = f", {len(unpacked)} unpacked from them" if unpacked else ""
        return Made(
            {"files": len(files), "unpacked": len(unpacked)}, files=written, message=f"{len(files)} files{rest}"
        )


def _chosen(options: Download) -> list[File]:
    for name in ("attempts", "timeout", "pause"):
        if getattr(options, name) <= 0:
            raise ValueError(f"download.{name} must be above 0, found {getattr(options, name)}")
    names = [file.file_name for file in options.files]
    for index, (file, name) in enumerate(zip(options.files, names, strict=True)):
        where = f"download.files[{index}]"
        if urlsplit(file.url).scheme not in ("http", "https") or not urlsplit(file.url).hostname:
            raise ValueError(f"{where}: {file.url!r} is no http or https address")
        if name in ("", ".", "..") or "/" in name or "\\" in name:
            raise ValueError(f"{where}: {name!r} is no file name; give `name`")
        if name in names[:index]:
            raise ValueError(f"{where}: {name!r} is already the name of another file; give `name`")
        for kind, digits in (("md5", 32), ("sha256", 64)):
            checksum = getattr(file, kind)
            if checksum is not None and re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", checksum) is None:
                raise ValueError(f"{where}: `{kind}` must be {digits} hexadecimal digits, found {checksum!r}")
    for name in options.only:
        if name not in names:
            raise ValueError(f"download.only: no file {name!r}; `files` has {', '.join(names)}")
    chosen = [file for file, name in zip(options.files, names, strict=True) if name in options.only or not options.only]
    if not chosen:
        raise ValueError("download.files: nothing to fetch")
    return chosen


def _to_come(file: File, output: Path) -> int:
    """Bytes that a file will yet take; unpacked about as many again, as pictures hardly shrink in an archive."""
    target = output / file.file_name
    if file.size is None or target.exists():  # what is left to unpack of an archive that is there, `unpack` knows
        return 0
    part = part_path(target)
    there = part.stat().st_size if part.exists() else 0
    return max(0, file.size - there) + (file.size if file.unpack else 0)


def _accept(target: Path, wanted: Wanted) -> None:
    try:
        verify(target, wanted)
    except ValueError as error:
        raise ValueError(f"{error}: the file was there before; move it away to fetch it again") from error
