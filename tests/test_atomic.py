"""Atomic writes: complete or not at all, with the umask's mode, and errors that name the target."""

import errno
import os
from pathlib import Path

import pytest

from pcclip.atomic import atomic_folder, atomic_path, atomic_text, remove_leftovers


def test_a_file_appears_when_the_block_ends_with_the_mode_of_the_umask(tmp_path: Path) -> None:
    target = tmp_path / "new" / "table.csv"
    before = os.umask(0o027)
    try:
        with atomic_path(target) as temporary:
            assert temporary.suffix == ".csv"
            temporary.write_text("1", encoding="utf-8")
            temporary.chmod(0o600)
            assert not target.exists()
    finally:
        os.umask(before)
    assert target.read_text(encoding="utf-8") == "1"
    assert target.stat().st_mode & 0o777 == 0o640
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_earlier_content_and_nothing_else(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.txt", tmp_path / "folder"
    file.write_text("earlier", encoding="utf-8")
    folder.mkdir()
    (folder / "earlier").touch()

    def fail_halfway() -> None:
        with atomic_text(file) as stream, atomic_folder(folder) as inside:
            stream.write("later")
            (inside / "later").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert file.read_text(encoding="utf-8") == "earlier"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "earlier", "folder"]


def test_a_folder_replaces_the_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_folder(folder) as inside:
            (inside / name).touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "second"]


@pytest.mark.parametrize("name", ["target", "target.v1"])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_a_folder_replaces_a_file_or_link(tmp_path: Path, name: str, kind: str) -> None:
    target, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    if kind == "link":
        elsewhere.mkdir()
        (elsewhere / "kept").touch()
    if kind == "file":
        target.touch()
    else:
        target.symlink_to(elsewhere)
    with atomic_folder(target) as inside:
        (inside / "new").touch()
    assert not target.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        [name, "new"] + (["elsewhere", "kept"] if kind == "link" else [])
    )


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with atomic_text(target) as outer:
        outer.write("outer")
        with atomic_text(target) as inner:
            inner.write("inner")
        assert target.read_text(encoding="utf-8") == "inner"
    assert target.read_text(encoding="utf-8") == "outer"


def test_a_full_disk_names_the_target(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with pytest.raises(OSError, match=r"a\.txt") as caught, atomic_path(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(target)
    with pytest.raises(IsADirectoryError), atomic_path(tmp_path):
        pass


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("last.ckpt", "saved", "model.v2"):
        target = tmp_path / name
        left = [tmp_path / f".{target.stem}.{token}-0123abcd.tmp{target.suffix}" for token in ("89abcdef", "01234567")]
        keep = [
            target,
            tmp_path / f".{target.stem}.x.00000000-0123abcd.tmp{target.suffix}",
            tmp_path / f".{target.stem}.tmp",
        ]
        left[0].mkdir()
        for path in (*left[1:], *keep):
            path.touch()
        remove_leftovers(target)
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in keep)


def test_a_failed_copy_into_a_folder_names_the_target(tmp_path: Path) -> None:
    def copy() -> None:
        with atomic_folder(tmp_path / "sorted") as inside:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "photos/a.jpg", None, str(inside / "a.jpg"))

    with pytest.raises(OSError, match="sorted") as caught:
        copy()
    assert "tmp" not in str(caught.value).replace(str(tmp_path), "")
    assert caught.value.errno == errno.ENOSPC
