"""Step `download`: fetch files of a public data set, COCO 2017 by default, and unpack them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from omegaconf import MISSING

from data_prep.fetch import Patience, Wanted, fetch, part_path, verify
from data_prep.lock import locks_output
from data_prep.manifest import Manifest
from data_prep.unpack import require_space, unpack

STEP_VERSION = 1


@dataclass
class File:
    """A file to fetch.

    Attributes:
        url: Its address, http or https.
        size: Its size in bytes, if known: then it is checked before and after.
        md5: Its checksum, if known.
        sha256: The same, by the stronger hash.
        unpack: Whether to unpack it, which must then be a zip file, into the output folder.
        name: Its name in the output folder; by default the end of the address.
    """

    url: str = MISSING
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    unpack: bool = False
    name: str | None = None

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


@dataclass
class Options:
    """Options of the step.

    Attributes:
        output: The folder to fetch into, and to unpack into.
        files: The files; by default those of COCO 2017.
        only: Names of the files to fetch, of all in `files`; empty for all.
        keep_archives: Whether to keep files after they were unpacked.
        attempts: Attempts in a row that bring nothing new before giving up.
        timeout: Seconds without a byte after which a connection counts as broken.
        pause: Seconds before the second attempt; the pause doubles with each further one, up to a minute.
    """

    output: str = MISSING
    files: list[File] = field(default_factory=coco_2017)
    only: list[str] = field(default_factory=list)
    keep_archives: bool = True
    attempts: int = 8
    timeout: float = 60.0
    pause: float = 1.0


@locks_output
def run(options: Options) -> None:
    """Fetch and unpack; what is there already is not fetched again, and broken transfers go on where they were.

    Raises:
        OSError: A server refuses or cannot be reached, or the disk has too little space.
        ValueError: A setting makes no sense, a file has another size or checksum than it should have, or an archive is
            damaged or not to be trusted.
    """
    files, output = _chosen(options), Path(options.output)
    manifest = Manifest("download", STEP_VERSION, {}, {"files": [asdict(file) for file in files]})
    if manifest.matches(output):
        print(f"{output} is up to date")
        return
    require_space(output, sum(_to_come(file, output) for file in files), "fetch and unpack everything")
    patience = Patience(options.attempts, options.timeout, options.pause)
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
        if options.keep_archives or not file.unpack:
            kept.append(target)
    written = {path.relative_to(output).as_posix(): path for path in kept + unpacked}
    manifest.write(output, {"files": len(files), "unpacked": len(unpacked)}, files=written)
    if not options.keep_archives:  # after the manifest, without which they would be fetched again
        for file in files:
            if file.unpack:
                (output / file.file_name).unlink()
    print(f"{output}: {len(files)} files" + (f", {len(unpacked)} unpacked from them" if unpacked else ""))


def _chosen(options: Options) -> list[File]:
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
