"""Captioned image sets of three kinds come out as one; bad rows are left out and listed."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from data_prep import captions
from tests.data_prep.conftest import Rows

Read = Callable[[Path], Rows]


def jpeg(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (level, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, payload in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(payload)
            tar.addfile(entry, io.BytesIO(payload))


@pytest.fixture
def table(tmp_path: Path) -> captions.Options:
    """A CSV of two good images, and one of each fault."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, name in enumerate(("a.jpg", "b.jpg")):
        (folder / name).write_bytes(jpeg(index))
    (folder / "broken.jpg").write_bytes(jpeg(3)[:80])
    (folder / "text.jpg").write_bytes(b"no picture")
    rows = ["image,caption", "a.jpg,one", 'a.jpg,"two, with a comma"', "b.jpg,three", "b.jpg,", "gone.jpg,four"]
    (tmp_path / "captions.csv").write_text("\n".join([*rows, "broken.jpg,five", "text.jpg,six"]) + "\n")
    return captions.Options("csv", str(tmp_path / "captions.csv"), str(tmp_path / "out/captions.jsonl"), str(folder))


def test_csv(table: captions.Options, tmp_path: Path, read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    captions.run(table)
    rows = read(Path(table.output))
    assert [(row["id"], row["captions"]) for row in rows] == [
        ("a.jpg", ["one", "two, with a comma"]),
        ("b.jpg", ["three"]),
    ]
    assert [row["file"] for row in rows] == [str(tmp_path / "pictures" / row["id"]) for row in rows]
    manifest = json.loads(Path(table.output + ".manifest.json").read_text())
    assert manifest["counts"] == {"images": 2, "incomplete_row": 1, "missing": 1, "unreadable": 2}
    assert manifest["left_out"]["missing"][0].startswith("gone.jpg: ")
    captions.run(table)
    assert "up to date" in capsys.readouterr().out
    (tmp_path / "pictures/gone.jpg").write_bytes(jpeg(9))
    captions.run(table)
    assert len(read(Path(table.output))) == 3


def test_files_below_the_output_are_relative(table: captions.Options, tmp_path: Path, read: Read) -> None:
    table.output = str(tmp_path / "captions.jsonl")
    captions.run(table)
    assert [row["file"] for row in read(tmp_path / "captions.jsonl")] == ["pictures/a.jpg", "pictures/b.jpg"]


def test_shards_are_unpacked(tmp_path: Path, read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    write_tar(
        tmp_path / "in/0.tar",
        {"a.jpg": jpeg(1), "a.txt": b"a photo of a cat\n", "x/b.jpg": jpeg(2), "x/b.txt": b"a dog"},
    )
    write_tar(
        tmp_path / "in/1.tar",
        {
            "c.png": jpeg(3),
            "c.json": b'{"caption": "a bird", "width": 8}',
            "d.jpg": jpeg(4),
            "e.txt": b"no picture",
            "f.jpg": b"damaged",
            "f.txt": b"nothing",
        },
    )
    write_tar(tmp_path / "in/2.tar", {"a.jpg": jpeg(5), "a.txt": b"again"})
    options = captions.Options("shards", str(tmp_path / "in"), str(tmp_path / "out.jsonl"), str(tmp_path / "images"))
    captions.run(options)
    rows = read(tmp_path / "out.jsonl")
    assert [(row["id"], row["captions"]) for row in rows] == [
        ("a", ["a photo of a cat"]),
        ("x/b", ["a dog"]),
        ("c", ["a bird"]),
    ]
    assert (tmp_path / rows[1]["file"]).read_bytes() == jpeg(2)
    assert json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["counts"] == {
        "images": 3,
        "without_caption": 1,
        "missing": 1,
        "unreadable": 1,
        "duplicate_key": 1,
    }
    captions.run(options)
    assert "up to date" in capsys.readouterr().out


def test_a_damaged_shard_is_counted_and_the_others_are_read(tmp_path: Path, read: Read) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.tar").write_bytes(b"not a tar")
    write_tar(tmp_path / "in/1.tar", {"a.jpg": jpeg(1), "a.txt": b"fine"})
    captions.run(
        captions.Options("shards", str(tmp_path / "in"), str(tmp_path / "out.jsonl"), str(tmp_path / "images"))
    )
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == ["a"]
    assert json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["counts"]["damaged_shard"] == 1


def test_jsonl_is_checked_and_keeps_attributes(world: Path, tmp_path: Path, read: Read) -> None:
    source = world / "shapes/train/captions.jsonl"
    captions.run(captions.Options("jsonl", str(source), str(tmp_path / "out.jsonl")))
    before, after = read(source), read(tmp_path / "out.jsonl")
    assert [{**row, "file": ""} for row in before] == [{**row, "file": ""} for row in after]
    assert all(Path(row["file"]).is_file() for row in after)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": "coco"}, ValueError, r"captions.source: unknown source 'coco'; choose one of csv"),
        ({"caption_column": "text"}, ValueError, r"captions.csv: no column 'text'; its columns are image, caption"),
        ({"images": None}, ValueError, r"captions.images: source `csv` needs"),
        ({"images": "nowhere"}, FileNotFoundError, r"nowhere: image folder .* not found"),
        ({"input": "nowhere.csv"}, FileNotFoundError, r"nowhere.csv: `input` of the captions step not found"),
        ({"source": "shards", "input": "EMPTY"}, FileNotFoundError, r"no .tar files in it"),
        ({"images": "EMPTY"}, ValueError, r"not one usable captioned image \(1 incomplete_row, 5 missing\)"),
    ],
)
def test_bad_input(
    table: captions.Options, tmp_path: Path, change: dict[str, str], error: type[Exception], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name, value in change.items():
        setattr(table, name, str(tmp_path / "empty") if value == "EMPTY" else value)
    with pytest.raises(error, match=message):
        captions.run(table)
    assert not Path(table.output).exists()
