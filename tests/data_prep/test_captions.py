"""The step captions: any number of workers gives the same output, duplicates are found, and the manifest stays small."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data_prep.sources import source
from data_prep.sources.source import Candidate
from data_prep.steps import captions
from data_prep.steps.captions import Captions
from tests.data_prep.conftest import Read, Rows, Write
from tests.helpers.pictures import jpeg


@pytest.fixture
def table(tmp_path: Path) -> Captions:
    """A CSV of two good images, and one of each fault."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, name in enumerate(("a.jpg", "b.jpg")):
        (folder / name).write_bytes(jpeg(index))
    (folder / "broken.jpg").write_bytes(jpeg(3)[:80])
    (folder / "text.jpg").write_bytes(b"no picture")
    rows = ["image,caption", "a.jpg,one", 'a.jpg,"two, with a comma"', "b.jpg,three", "b.jpg,", "gone.jpg,four"]
    (tmp_path / "captions.csv").write_text("\n".join([*rows, "broken.jpg,five", "text.jpg,six"]) + "\n")
    return Captions(
        source="csv",
        input=str(tmp_path / "captions.csv"),
        output=str(tmp_path / "out/captions.jsonl"),
        images=str(folder),
    )


def test_csv(table: Captions, tmp_path: Path, read: Read, capsys: pytest.CaptureFixture[str]) -> None:
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
    table.output = str(tmp_path / "captions.jsonl")
    table.run()
    names = ["a.jpg", "b.jpg", "gone.jpg"]  # below the output, so the paths are relative
    assert [row["file"] for row in read(Path(table.output))] == [f"pictures/{name}" for name in names]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": "excel"}, ValueError, r"captions\.source.*excel"),
        ({"input": "EMPTY"}, IsADirectoryError, r"empty: .*`input`"),
        ({"source": "folder"}, NotADirectoryError, r"captions.csv: .*`folder`"),
        ({"caption_column": "text"}, ValueError, r"captions.csv: .*'text'"),
        ({"images": None}, ValueError, r"captions\.images"),
        ({"images": "nowhere"}, FileNotFoundError, r"nowhere: "),
        ({"input": "nowhere.csv"}, FileNotFoundError, r"nowhere\.csv: `input`"),
        ({"source": "shards", "input": "EMPTY", "images": "EMPTY"}, FileNotFoundError, r"empty: "),
        ({"images": "EMPTY"}, ValueError, r"captions\.csv: .*1 incomplete_row, 5 missing"),
    ],
)
def test_bad_input(
    table: Captions, tmp_path: Path, change: dict[str, str], error: type[Exception], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name, value in change.items():
        setattr(table, name, str(tmp_path / "empty") if value == "EMPTY" else value)
    with pytest.raises(error, match=message):
        table.run()
    assert not Path(table.output).exists()


@pytest.fixture
def run(tmp_path: Path, write: Write) -> Callable[..., tuple[bytes, dict[str, Any]]]:
    """Run the step on these image files and return the output's bytes and the manifest."""

    def run_step(images: dict[str, bytes], **options: Any) -> tuple[bytes, dict[str, Any]]:
        for name, content in images.items():
            (tmp_path / name).write_bytes(content)
        table = write("in.jsonl", [{"id": name, "file": name, "captions": [f"it is {name}"]} for name in images])
        output = tmp_path / "captions.jsonl"
        output.unlink(missing_ok=True)
        Captions(source="jsonl", input=str(table), output=str(output), **{"workers": 1, **options}).run()
        return output.read_bytes(), json.loads(Path(f"{output}.manifest.json").read_text())

    return run_step


Run = Callable[..., tuple[bytes, dict[str, Any]]]


def rows(output: bytes) -> Rows:
    return [json.loads(line) for line in output.splitlines()]


def test_output_does_not_depend_on_the_number_of_processes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "CHUNK", 3)
    images = {f"{index:02d}.jpg": jpeg(index, (8 + index, 6)) if index % 7 else b"damaged" for index in range(31)}
    alone = run(images)
    assert len(rows(alone[0])) == 26
    shared = run(images, workers=3)
    assert shared[0] == alone[0]
    assert shared[1]["left_out"] == alone[1]["left_out"]


def test_few_candidates_are_taken_ahead(tmp_path: Path) -> None:
    taken = 0

    def endless() -> Iterator[Candidate]:
        nonlocal taken
        while True:
            taken += 1
            yield Candidate(str(taken), tmp_path / "gone.jpg", ["x"])

    checked = captions.check_candidates(endless(), workers=2)
    for _ in range(100):
        assert next(checked)[1].reason == "missing"
    checked.close()
    assert taken <= 100 + (2 * 2 + 1) * captions.CHUNK


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_image(orientation: int, run: Run) -> None:
    [row] = rows(run({"a.jpg": jpeg(1, (30, 20), orientation)})[0])
    assert (row["width"], row["height"]) == ((20, 30) if orientation >= 5 else (30, 20))


def test_duplicates(run: Run) -> None:
    images = {"a.jpg": jpeg(1), "b.jpg": jpeg(2), "c.jpg": jpeg(1), "d.jpg": jpeg(1)}
    output, manifest = run(images)
    sha256 = hashlib.sha256(jpeg(1)).hexdigest()
    assert rows(output)[0]["sha256"] == sha256
    assert [row["id"] for row in rows(output)] == ["a.jpg", "b.jpg"]
    assert manifest["counts"] == {"images": 2, "duplicate": 2}
    assert manifest["left_out"] == {"duplicate": [f"c.jpg: {sha256}", f"d.jpg: {sha256}"]}
    output, manifest = run(images, duplicates="keep")
    assert [row["id"] for row in rows(output)] == list(images)
    assert manifest["counts"] == {"images": 4, "duplicate_kept": 2}


def test_an_image_that_was_left_out_makes_no_duplicate(run: Run, tmp_path: Path, write: Write, read: Read) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    table = write(
        "in.jsonl", [{"id": name, "file": "a.jpg", "captions": texts} for name, texts in (("x", []), ("y", ["t"]))]
    )
    Captions(source="jsonl", input=str(table), output=str(tmp_path / "out.jsonl"), workers=1).run()
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == ["y"]


def test_the_manifest_lists_the_first_names_and_counts_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LISTED", 3)
    _, manifest = run({"good.jpg": jpeg(1), **{f"{index}.jpg": b"" for index in range(5)}})
    assert manifest["counts"] == {"images": 1, "unreadable": 5}
    names = manifest["left_out"]["unreadable"]
    assert [name.split(":")[0] for name in names] == ["0.jpg", "1.jpg", "2.jpg", "... and 2 more"]
