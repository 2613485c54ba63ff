"""Files arrive complete and correct or not at all, whatever the server does; archives are not trusted."""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data_prep.steps import download
from data_prep.steps.download import Download, File
from tests.helpers.http_server import Fault, FileServer, file_server

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server(CONTENT) as running:
        yield running


@pytest.fixture
def run(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Download the server's file and return what arrived."""
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.001)

    def run_step(attempts: int = 4, timeout: float = 5, **file: Any) -> bytes:
        wanted = File(**{"url": server.url, "size": len(CONTENT), "sha256": SHA256, **file})
        Download(output=str(tmp_path / "out"), files=[wanted], attempts=attempts, timeout=timeout).run()
        assert names(tmp_path / "out") == [wanted.file_name]
        return (tmp_path / "out" / wanted.file_name).read_bytes()

    return run_step


Run = Callable[..., bytes]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_plain(run: Run, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == CONTENT
    for _ in range(2):  # other settings: the existing file is checked
        assert run(md5=hashlib.md5(CONTENT).hexdigest().upper()) == CONTENT
    assert "up to date" in capsys.readouterr().out
    assert server.ranges == [None]
    assert json.loads((tmp_path / "out.manifest.json").read_text())["counts"] == {"files": 1, "unpacked": 0}


@pytest.mark.parametrize(
    ("faults", "options", "ranges"),
    [
        # More breaks than attempts: each made progress, so none counts.
        ([Fault(drop_after=50_000)] * 3, {"attempts": 2}, [None, "bytes=50000-", "bytes=100000-", "bytes=150000-"]),
        ([Fault(stall_after=1)], {"timeout": 0.5}, [None, "bytes=1-"]),  # curl averages: one byte is soon too slow
        ([Fault(status=500), Fault(status=503), Fault(status=429, headers={"Retry-After": "0"})], {}, [None] * 4),
        ([Fault(drop_after=100_000), Fault(ignore_range=True)], {}, [None, "bytes=100000-", None]),
        # Without a checksum nothing shows that the rest is of the same file.
        ([Fault(drop_after=100_000)], {"sha256": None}, [None, None]),
        # Two versions never mix.
        ([Fault(drop_after=100_000, content=OTHER), Fault(content=CONTENT)], {}, [None, "bytes=100000-", None]),
    ],
    ids=["broken", "silent", "transient", "no ranges", "no checksum", "two versions"],
)
def test_failures_are_overcome(
    run: Run, server: FileServer, faults: list[Fault], options: dict[str, Any], ranges: list[str | None]
) -> None:
    server.faults = [*faults]
    assert run(**options) == CONTENT
    assert server.ranges == ranges


def test_retry_after_is_honoured(run: Run, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    server.faults = [
        Fault(status=503, headers={"Retry-After": "17"}),
        Fault(status=503, headers={"Retry-After": "9999"}),
    ]
    run()
    assert pauses == [17, 60]


def test_it_ends_when_nothing_new_comes(run: Run, server: FileServer, tmp_path: Path) -> None:
    # Bytes come each time, but never one beyond those of the first time.
    server.always = Fault(ignore_range=True, drop_after=100_000)
    with pytest.raises(OSError, match=r"3 attempts .*file\.bin\.part"):
        run(attempts=3)
    assert len(server.requests) == 4
    assert not (tmp_path / "out/file.bin").exists()


def test_an_interrupted_run_is_continued_by_the_next(run: Run, server: FileServer) -> None:
    server.faults = [Fault(drop_after=100_000), Fault(status=500), Fault(status=500)]
    with pytest.raises(OSError, match="500"):
        run(attempts=2)
    assert run() == CONTENT
    assert server.ranges[-1] == "bytes=100000-"


@pytest.mark.parametrize(("surplus", "ranges"), [(b"", []), (b"x", ["bytes=300001-", None])])
def test_a_complete_part_needs_no_request_and_a_longer_one_is_dropped(
    run: Run, server: FileServer, tmp_path: Path, surplus: bytes, ranges: list[str | None]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file.bin.part").write_bytes(CONTENT + surplus)
    assert run() == CONTENT
    assert server.ranges == ranges


@pytest.mark.parametrize(
    ("fault", "file", "message"),
    [
        (Fault(status=404), {}, r"file\.bin: .*404"),
        (Fault(content=OTHER[:1000]), {}, r"1000 bytes, expected 300000"),
        (Fault(content=CONTENT[:1000], headers={"Content-Length": None}), {}, r"1000 bytes, expected 300000"),
        (Fault(content=CONTENT + b"x", headers={"Content-Length": None}), {}, r"300001 bytes, expected 300000"),
        (Fault(content=OTHER), {}, r"sha256 is [0-9a-f]{64}, expected"),
        (Fault(content=OTHER), {"sha256": None, "md5": "0" * 32}, r"md5 is [0-9a-f]{32}, expected 0000"),
    ],
)
def test_wrong_answers_are_errors(
    fault: Fault, file: dict[str, Any], message: str, run: Run, server: FileServer, tmp_path: Path
) -> None:
    server.always = fault
    with pytest.raises((OSError, ValueError), match=message):
        run(**file)
    assert not (tmp_path / "out/file.bin").exists()
    assert len(server.requests) == 1  # the same would come again
    server.always = Fault(content=CONTENT)
    assert run() == CONTENT


def test_a_file_that_was_there_is_checked_and_never_deleted(run: Run, server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file.bin").write_bytes(OTHER)
    with pytest.raises(ValueError, match=r"file\.bin: sha256 is"):
        run()
    assert (tmp_path / "out/file.bin").read_bytes() == OTHER
    assert server.requests == []


def test_killed_and_started_again(server: FileServer, tmp_path: Path) -> None:
    server.faults = [Fault(stall_after=150_000)]
    config = tmp_path / "conf.yaml"
    config.write_text(
        f"download:\n  output: {tmp_path}/out\n  files: [{{url: '{server.url}', size: 300000, sha256: {SHA256}}}]\n"
    )
    command = [sys.executable, "-m", "data_prep", "download", "--config", str(config)]
    process = subprocess.Popen(command)
    part = tmp_path / "out/file.bin.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = part.stat().st_size
    assert subprocess.run(command, check=False).returncode == 0
    assert server.ranges == [None, f"bytes={kept}-"]
    assert (tmp_path / "out/file.bin").read_bytes() == CONTENT


def test_without_curl(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="curl"):
        run()


def test_too_little_space_is_found_before_the_start(
    run: Run, server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = type(shutil.disk_usage("/"))

    def free(size: int) -> None:
        monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage(10**7, 10**7, size))

    free(299_999)
    with pytest.raises(OSError, match=r"out: .*0\.0 GB free"):
        run()
    assert server.requests == []
    free(300_000)
    assert run() == CONTENT
    free(999_999)
    (tmp_path / "a.zip").write_bytes(zipped({"zeros": b"\0" * 1_000_000}))
    with pytest.raises(OSError, match=r"a\.zip"):
        download.unpack(tmp_path / "a.zip", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": []}, r"download.files"),
        ({"files": [File("file:///etc/passwd")]}, r"files\.0\.url.*'file:///etc/passwd'"),
        ({"files": [File("http://host/")]}, r"files\[0\]: ''"),
        ({"files": [File("http://host/..%2f..%2fx")]}, r"files\[0\]: '\.\./\.\./x'"),
        ({"files": [File("http://host/a"), File("http://other/a")]}, r"files\[1\]: .*'a'"),
        ({"files": [File("http://host/a", md5="12")]}, r"files\.0\.md5.*'12'"),
    ],
)
def test_bad_settings(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        Download(**{"output": str(tmp_path / "out"), "files": [File("http://host/a")], **change}).run()


# Archives


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def archive(server: FileServer, tmp_path: Path) -> Download:
    """Options to fetch and unpack a small zip file."""
    server.content = zipped({"train/a.jpg": b"a" * 1000, "train/b.jpg": b"b" * 2000, "train/empty.txt": b""})
    return Download(
        output=str(tmp_path / "out"), files=[File(server.url.replace(".bin", ".zip"), unpack=True)], attempts=1
    )


def test_archives_are_unpacked_and_interrupted_unpacking_goes_on(archive: Download, tmp_path: Path) -> None:
    train = tmp_path / "out/train"
    archive.run()
    assert (train / "b.jpg").read_bytes() == b"b" * 2000
    assert names(train) == ["a.jpg", "b.jpg", "empty.txt"]
    assert names(tmp_path / "out") == ["file.zip", "train"]
    assert json.loads((tmp_path / "out.manifest.json").read_text())["counts"] == {"files": 1, "unpacked": 3}
    untouched = (train / "b.jpg").stat().st_mtime_ns
    (train / "a.jpg").write_bytes(b"a" * 10)  # torn
    (train / "empty.txt").unlink()
    (tmp_path / "out.manifest.json").unlink()
    archive.run()
    assert (train / "a.jpg").read_bytes() == b"a" * 1000
    assert (train / "empty.txt").exists()
    assert (train / "b.jpg").stat().st_mtime_ns == untouched


@pytest.mark.parametrize("name", ["file.zip", "train/b.jpg"])
def test_a_cut_or_missing_file_is_not_up_to_date(
    archive: Download, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    archive.run()
    (tmp_path / "out/notes.txt").write_text("a user's")
    file = tmp_path / "out" / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=str(file)):
        archive.run()
    file.unlink()
    archive.run()
    assert file.read_bytes() == whole
    assert "up to date" not in capsys.readouterr().out
    archive.run()
    assert "up to date" in capsys.readouterr().out
    assert (tmp_path / "out/notes.txt").is_file()


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt"])
def test_paths_outside_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"good.txt": b"good", name: b"evil"}))
    with pytest.raises(ValueError, match=r"a\.zip: .*evil\.txt'"):
        download.unpack(tmp_path / "a.zip", tmp_path / "deep/out")
    assert names(tmp_path) == ["a.zip"]


def test_links_become_plain_files(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    download.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out/link").is_symlink()
    assert (tmp_path / "out/link").read_text() == "/etc/passwd"


@pytest.mark.parametrize("place", [None, 20, 300])
def test_a_damaged_archive_is_named(tmp_path: Path, place: int | None) -> None:
    content = bytearray(
        zipped({"a.txt": b"text " * 100 + random.Random(2).randbytes(1000)}) if place else b"no archive"
    )
    if place:
        content[place : place + 20] = bytes(20)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip"):
        download.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))
