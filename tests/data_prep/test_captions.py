"""Tables, shards and JSON Lines of captioned images come out as one; bad rows are left out and listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.sources.caption_shards import class_caption
from data_prep.steps import captions
from tests.data_prep.conftest import Rows
from tests.helpers.pictures import jpeg, write_tar

Read = Callable[[Path], Rows]


@pytest.fixture
def table(tmp_path: Path) -> captions.Captions:
    """A CSV of two good images, and one of each fault."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, name in enumerate(("a.jpg", "b.jpg")):
        (folder / name).write_bytes(jpeg(index))
    (folder / "broken.jpg").write_bytes(jpeg(3)[:80])
    (folder / "text.jpg").write_bytes(b"no picture")
    rows = ["image,caption", "a.jpg,one", 'a.jpg,"two, with a comma"', "b.jpg,three", "b.jpg,", "gone.jpg,four"]
    (tmp_path / "captions.csv").write_text("\n".join([*rows, "broken.jpg,five", "text.jpg,six"]) + "\n")
    return captions.Captions(
        source="csv",
        input=str(tmp_path / "captions.csv"),
        output=str(tmp_path / "out/captions.jsonl"),
        images=str(folder),
    )


def test_csv(table: captions.Captions, tmp_path: Path, read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    table.run()
    rows = read(Path(table.output))
    assert [(row["id"], row["captions"]) for row in rows] == [
        ("a.jpg", ["one", "two, with a comma"]),
        ("b.jpg", ["three"]),
    ]
    assert [row["file"] for row in rows] == [str(tmp_path / "pictures" / row["id"]) for row in rows]
    manifest = json.loads(Path(table.output + ".manifest.json").read_text())
    assert manifest["counts"] == {"images": 2, "incomplete_row": 1, "missing": 1, "unreadable": 2}
    assert manifest["left_out"]["missing"][0].startswith("gone.jpg: ")
    table.run()
    assert "up to date" in capsys.readouterr().out
    (tmp_path / "pictures/gone.jpg").write_bytes(jpeg(9))
    table.run()
    assert len(read(Path(table.output))) == 3


def test_files_below_the_output_are_relative(table: captions.Captions, tmp_path: Path, read: Read) -> None:
    table.output = str(tmp_path / "captions.jsonl")
    table.run()
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
    options = captions.Captions(
        source="shards", input=str(tmp_path / "in"), output=str(tmp_path / "out.jsonl"), images=str(tmp_path / "images")
    )
    options.run()
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
    options.run()
    assert "up to date" in capsys.readouterr().out


@pytest.fixture
def labelled(tmp_path: Path) -> captions.Captions:
    """A shard of pictures with labels, one of each fault, and names of three classes."""
    (tmp_path / "in").mkdir()
    labels = {"a": b"1", "b": b"0\n", "c": b"2", "beyond": b"3", "below": b"-1", "word": b"cat", "empty": b""}
    members: dict[str, bytes] = {}
    for index, (key, label) in enumerate(labels.items()):
        members |= {f"{key}.jpg": jpeg(index), f"{key}.cls": label}
    members |= {"told.jpg": jpeg(20), "told.cls": b"0", "told.txt": b"its own caption", "bare.jpg": jpeg(21)}
    write_tar(tmp_path / "in/0.tar", members)
    (tmp_path / "classnames.txt").write_text("golden retriever\numbrella\nAlaskan {malamute}\n\n")
    return captions.Captions(
        source="shards",
        input=str(tmp_path / "in"),
        output=str(tmp_path / "out.jsonl"),
        images=str(tmp_path / "images"),
        class_names=str(tmp_path / "classnames.txt"),
    )


def test_labels_become_captions(
    labelled: captions.Captions, tmp_path: Path, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled.run()
    assert {row["id"]: row["captions"] for row in read(tmp_path / "out.jsonl")} == {
        "a": ["a photo of an umbrella"],
        "b": ["a photo of a golden retriever"],
        "c": ["a photo of an Alaskan {malamute}"],
        "told": ["its own caption"],
    }
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["counts"] == {"images": 4, "without_class_name": 4, "without_caption": 1}
    assert manifest["left_out"]["without_class_name"] == ["beyond", "below", "word", "empty"]
    labelled.run()
    assert "up to date" in capsys.readouterr().out
    (tmp_path / "classnames.txt").write_text("cat\ndog\nowl\nfox\n")
    labelled.run()
    assert {row["id"]: row["captions"] for row in read(tmp_path / "out.jsonl")}["beyond"] == ["a photo of a fox"]
    labelled.template = "{}"
    labelled.run()
    assert read(tmp_path / "out.jsonl")[0]["captions"] == ["dog"]


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("a photo of a(n) {}", "orange", "a photo of an orange"),
        ("a photo of a(n) {}", "lemon", "a photo of a lemon"),
        ("A(n) {} on a table", "Iron", "An Iron on a table"),
        ("a photo of a(n) small {}", "orange", "a photo of a small orange"),
        ("the {}", "a(n)chor", "the a(n)chor"),
    ],
)
def test_articles_fit_the_word_after_them(template: str, name: str, expected: str) -> None:
    assert class_caption(template, name) == expected


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"class_names": None}, None, ""),
        (
            {"class_names": "nowhere.txt"},
            FileNotFoundError,
            r"nowhere.txt: `class_names` of the captions step not found",
        ),
        ({"template": "a photo"}, ValueError, r"captions.template: 'a photo' must hold \{\} once"),
        ({"template": "{} {}"}, ValueError, r"captions.template"),
        ({"class_names": "GAP"}, ValueError, r"gap.txt, line 2: no class name; labels count lines"),
    ],
)
def test_bad_class_settings(
    labelled: captions.Captions,
    tmp_path: Path,
    read: Read,
    change: dict[str, str | None],
    error: type[Exception] | None,
    message: str,
) -> None:
    (tmp_path / "gap.txt").write_text("cat\n\nowl\n")
    for name, value in change.items():
        setattr(labelled, name, str(tmp_path / "gap.txt") if value == "GAP" else value)
    if error is None:  # without names, labels say nothing
        labelled.run()
        assert [row["id"] for row in read(tmp_path / "out.jsonl")] == ["told"]
        return
    with pytest.raises(error, match=message):
        labelled.run()
    assert not (tmp_path / "out.jsonl").exists()
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": "excel"}, ValueError, r"captions.source: 'excel'; choose one of coco, csv"),
        ({"duplicates": "merge"}, ValueError, r"captions.duplicates: 'merge'; choose one of drop, keep"),
        ({"workers": 0}, ValueError, r"captions.workers must be at least 1, found 0"),
        ({"input": "EMPTY"}, IsADirectoryError, r"empty: is a folder, expected a file: `input`"),
        ({"source": "folder"}, NotADirectoryError, r"captions.csv: .*`folder`"),
        ({"caption_column": "text"}, ValueError, r"captions.csv: no column 'text'; its columns are image, caption"),
        ({"images": None}, ValueError, r"captions.images: source `csv` needs"),
        ({"images": "nowhere"}, FileNotFoundError, r"nowhere: image folder .* not found"),
        ({"input": "nowhere.csv"}, FileNotFoundError, r"nowhere.csv: `input` of the captions step not found"),
        ({"source": "shards", "input": "EMPTY"}, FileNotFoundError, r"no .tar files in it"),
        ({"images": "EMPTY"}, ValueError, r"not one usable captioned image \(1 incomplete_row, 5 missing\)"),
    ],
)
def test_bad_input(
    table: captions.Captions, tmp_path: Path, change: dict[str, str], error: type[Exception], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name, value in change.items():
        setattr(table, name, str(tmp_path / "empty") if value == "EMPTY" else value)
    with pytest.raises(error, match=message):
        table.run()
    assert not Path(table.output).exists()
