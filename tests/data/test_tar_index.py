"""The index of a shard says what tarfile says, and goes on behind damage where tarfile stops."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pcclip.data.damage import DamagedGroupError
from pcclip.data.tar_index import TarIndex

LONG = "folder/" + "k" * 120


def write(path: Path, names: list[str], form: int = tarfile.USTAR_FORMAT) -> dict[str, bytes]:
    """A tar of random members with a time that needs an extended header in PAX; returns them."""
    random = np.random.default_rng(0)
    members = {name: random.bytes(int(random.integers(0, 1500))) for name in names}
    with tarfile.open(path, "w", format=form) as tar:
        for name, payload in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(payload), 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(payload))
    return members


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(tmp_path: Path, form: int) -> None:
    keys = ["00000000", "00000001", "folder/00000002", "größe", LONG, "last"]
    if form == tarfile.USTAR_FORMAT:
        keys.remove(LONG)
    members = write(tmp_path / "a.tar", [f"{key}.{end}" for key in keys for end in ("00.jpg", "json")], form)
    with TarIndex(tmp_path / "a.tar") as index:
        assert [entry.key for entry in index.entries] == keys
        for place, key in enumerate(keys):
            assert index.read(place) == {end: members[f"{key}.{end}"] for end in ("00.jpg", "json")}
        with pytest.raises(DamagedGroupError, match=r"group at place \d"):
            index.read(len(keys))


@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"x"])
def test_groups_behind_an_overwritten_header_are_found(tmp_path: Path, filling: bytes) -> None:
    file = tmp_path / "a.tar"
    members = write(file, [f"{key:02d}.{end}" for key in range(20) for end in ("00.jpg", "json")])
    content = bytearray(file.read_bytes())
    header = content.index(b"07.json\0")
    content[header : header + 512] = filling * 512
    file.write_bytes(content)
    with TarIndex(file) as index:
        assert [entry.key for entry in index.entries] == [f"{key:02d}" for key in range(20)]
        assert index.damage == "broken_header"
        for place in range(20):
            present = ["00.jpg"] if place == 7 else ["00.jpg", "json"]
            assert index.read(place) == {end: members[f"{place:02d}.{end}"] for end in present}


def test_hostile_headers_are_survived(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    write(tmp_path / "a.tar", [f"{key:02d}.json" for key in range(8)])
    sound = (tmp_path / "a.tar").read_bytes()
    for round_ in range(200):
        content = bytearray(sound)
        for place in random.integers(0, len(content), 5 * (round_ % 3 + 1)):
            content[place] = random.integers(256)
        (tmp_path / "b.tar").write_bytes(content)
        with TarIndex(tmp_path / "b.tar") as index:
            for place in range(len(index.entries)):
                if index.entries[place].damage is None:
                    index.read(place)
