"""Each type of source yields the rows of its files, and survives errors in them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from PIL import Image

from data_prep.sources.caption_shards import class_caption
from data_prep.steps.captions import Captions
from tests.data_prep.conftest import Read, Rows
from tests.helpers.pictures import jpeg, write_tar


@pytest.fixture
def run(tmp_path: Path, read: Read) -> Callable[..., tuple[Rows, dict[str, Any]]]:
    """Run the step in this process and return its rows and its manifest."""

    def run_step(source: str, input: Path, **options: Any) -> tuple[Rows, dict[str, Any]]:
        output = tmp_path / "out/captions.jsonl"
        Captions(source=source, input=str(input), output=str(output), **{"workers": 1, **options}).run()  # type: ignore[arg-type]
        return read(output), json.loads(Path(f"{output}.manifest.json").read_text())

    return run_step


Run = Callable[..., tuple[Rows, dict[str, Any]]]


def pictures(folder: Path, *names: str) -> str:
    """Write different pictures of these names and return the folder."""
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(index))
    return str(folder)


def shards(folder: Path, *members: dict[str, bytes]) -> Path:
    """Write caption shards of these members and return their folder."""
    folder.mkdir()
    for index, each in enumerate(members):
        write_tar(folder / f"{index}.tar", each)
    return folder


def captions_of(rows: Rows) -> list[tuple[str, list[str]]]:
    return [(row["id"], row["captions"]) for row in rows]


def test_coco(tmp_path: Path, run: Run) -> None:
    pictures(tmp_path / "train", "a.jpg", "b.jpg", "c.jpg")
    images: list[Any] = [
        {"id": 7, "file_name": "b.jpg", "height": 1, "width": 1},
        {"id": 3, "file_name": "a.jpg"},
        {"id": 4, "file_name": "gone.jpg"},
        {"id": 5, "file_name": "c.jpg"},
        {"id": 6},
        "no record",
    ]
    given = [(3, "one"), (7, "two\n"), (3, "three"), (4, "four"), (5, " "), (None, "of nothing"), (99, "of nobody")]
    annotations: list[Any] = [
        {"id": number, "image_id": image, "caption": caption} for number, (image, caption) in enumerate(given, start=1)
    ]
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": [*annotations, 17]}))
    rows, manifest = run("coco", tmp_path / "captions.json", images=str(tmp_path / "train"))
    assert [(row["id"], row["captions"], row["width"], row["height"]) for row in rows] == [
        ("7", ["two"], 8, 6),
        ("3", ["one", "three"], 8, 6),
    ]
    assert rows[0]["file"] == str(tmp_path / "train/b.jpg")
    counts = {"images": 2, "missing": 1, "without_caption": 1, "bad_annotation": 3, "bad_image_record": 2}
    assert manifest["counts"] == {**counts, "captions_of_unknown_image": 1}
    assert manifest["left_out"]["bad_annotation"] == ["annotation 5", "annotation 6", "annotation 17"]


@pytest.mark.parametrize(
    "content",
    [
        '{"images": [',
        "[]",
        '{"images": [], "annotations": 3}',
        '{"images": [], "annotations": []}',
        '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"id": 1, "image_id": 1}]}',
    ],
)
def test_a_broken_coco_file_is_an_error(content: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "captions.json").write_text(content)
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"captions\.json"):
        run("coco", tmp_path / "captions.json", images=str(tmp_path / "train"))
    assert list((tmp_path / "out").glob("*")) == []


def write_parquet(file: Path, rows: list[tuple[Any, ...]], types: str) -> None:
    """Write rows with DuckDB."""
    file.parent.mkdir(exist_ok=True)
    with duckdb.connect() as database:
        database.execute(f"CREATE TABLE t ({types}, day DATE, unknown DOUBLE, raw BLOB)")
        places = "?, " * len(rows[0])
        database.executemany(f"INSERT INTO t VALUES ({places} '2024-02-29', 'nan', 'raw')", rows)
        database.execute(f"COPY t TO '{file}' (FORMAT parquet)")


@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_parquet_with_images(kind: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """As `datasets` writes them: images in the table, files in the order of their numbers."""
    struct = kind == "struct"
    types = f"image {'STRUCT(bytes BLOB, path VARCHAR)' if struct else 'BLOB'}, label INTEGER, text VARCHAR[]"
    for number in (2, 10):
        contents = [jpeg(number), jpeg(number + 1), b"no image", None]
        images = [{"bytes": content, "path": "x/a.jpeg"} if struct and content else content for content in contents]
        rows = [(image, place, [f"{number}, {place}", "b"]) for place, image in enumerate(images)]
        write_parquet(tmp_path / f"set/train-{number}.parquet", rows, types)
    options = {"images": str(tmp_path / "out/images"), "caption_column": "text"}
    rows_read, manifest = run("parquet", tmp_path / "set", **options)
    names = [f"0000000{number}.{'jpeg' if struct else 'jpg'}" for number in (0, 1, 4, 5)]
    assert [row["file"] for row in rows_read] == [f"images/{name}" for name in names]
    assert [(row["captions"], row["label"]) for row in rows_read] == [
        ([f"{number}, {place}", "b"], place) for number in (2, 10) for place in (0, 1)
    ]
    assert (rows_read[0]["day"], rows_read[0]["unknown"], rows_read[0]["raw"]) == ("2024-02-29", None, None)
    assert [(tmp_path / "out" / row["file"]).read_bytes() for row in rows_read] == [jpeg(n) for n in (2, 3, 10, 11)]
    assert manifest["counts"] == {"images": 4, "unreadable": 2, "missing": 2}
    run("parquet", tmp_path / "set", **options)
    assert "up to date" in capsys.readouterr().out


def test_parquet_with_paths(tmp_path: Path, run: Run) -> None:
    pictures(tmp_path / "images", "a.jpg", "b.jpg")
    rows = [("a.jpg", 0, "one", 5), ("b.jpg", 1, "two", 6), ("", 2, "three", 7), ("gone.jpg", 3, "four", 8)]
    write_parquet(tmp_path / "set/t.parquet", rows, "image VARCHAR, id INTEGER, caption VARCHAR, width DOUBLE")
    options: dict[str, Any] = {"images": str(tmp_path / "images"), "attribute_columns": ["width", "unknown"]}
    found, manifest = run("parquet", tmp_path / "set/t.parquet", **options)
    assert captions_of(found) == [("0", ["one"]), ("1", ["two"])]
    assert [(row["attributes"], row["width"]) for row in found] == [({"width": n, "unknown": None}, 8) for n in (5, 6)]
    assert manifest["counts"] == {"images": 2, "missing": 2}
    with pytest.raises(ValueError, match=r"t\.parquet, row 0: .*'price'.* caption"):
        run("parquet", tmp_path / "set/t.parquet", **{**options, "attribute_columns": ["price"]})
    with pytest.raises(ValueError, match=r"captions\.attribute_columns.*folder"):
        run("folder", tmp_path / "images", attribute_columns=["price"])


def test_splits_of_a_hugging_face_dataset_are_named(tmp_path: Path, run: Run) -> None:
    (tmp_path / "set/train").mkdir(parents=True)
    (tmp_path / "set/dataset_dict.json").write_text('{"splits": ["train"]}')
    (tmp_path / "set/train/state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    with pytest.raises(ValueError, match=r"set: .*train"):
        run("parquet", tmp_path / "set", images=str(tmp_path))
    (tmp_path / "hub/data").mkdir(parents=True)
    (tmp_path / "hub/data/test-00000-of-00001.parquet").touch()
    with pytest.raises(ValueError, match=r"hub: .*hub/data/"):
        run("parquet", tmp_path / "hub", images=str(tmp_path))


def test_split_that_save_to_disk_wrote(tmp_path: Path, run: Run) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    folder = tmp_path / "set"
    folder.mkdir()
    table = pyarrow.table({"image": [{"bytes": jpeg(n), "path": None} for n in range(2)], "caption": ["a", "b"]})
    for name in ("data-00000-of-00001.arrow", "cache-0.arrow"):
        with pyarrow.OSFile(str(folder / name), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    found, _ = run("parquet", folder, images=str(tmp_path / "out/images"))
    assert captions_of(found) == [("00000000.jpg", ["a"]), ("00000001.jpg", ["b"])]


def test_folder(tmp_path: Path, run: Run) -> None:
    root = tmp_path / "set"
    pictures(root, "z.jpg", "b/deep/x.PNG", "b/y.jpeg", "b/bare.jpg", "b/odd.jpg")
    Image.new("RGB", (3, 2)).save(root / "b/deep/x.PNG")
    (root / "z.txt").write_text("one\n\n two \n")
    (root / "b/deep/x.txt").write_text("\ufeffthree", encoding="utf-8")
    (root / "b/y.txt").write_text("four")
    (root / "b/alone.txt").write_text("five")
    (root / "b/odd.txt").write_bytes("caf\u00e9".encode("latin-1"))
    rows, manifest = run("folder", root)
    assert captions_of(rows) == [("z.jpg", ["one", "two"]), ("b/y.jpeg", ["four"]), ("b/deep/x.PNG", ["three"])]
    assert manifest["counts"] == {"images": 3, "without_caption": 1, "missing": 1, "not_utf8": 1}
    assert [name.split(":")[0] for name in manifest["left_out"]["missing"]] == ["b/alone.txt"]


def test_a_folder_that_holds_the_output_stays_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "a.txt").write_text("one")
    options = Captions(source="folder", input=str(tmp_path), output=str(tmp_path / "captions.jsonl"), workers=1)
    options.run()
    options.run()
    assert "up to date" in capsys.readouterr().out
    (tmp_path / "a.txt").write_text("one\ntwo")
    options.run()
    assert "1 images" in capsys.readouterr().out


def test_cub(tmp_path: Path, run: Run) -> None:
    root = tmp_path / "CUB_200_2011"
    names = ["001.Black_footed_Albatross/Black_Footed_Albatross_0046_18", "002.Laysan_Albatross/Laysan_0001"]
    pictures(root / "images", *(f"{name}.jpg" for name in names))
    for name, text in (*((name, "a bird\na white bird\n") for name in names), ("002.Laysan_Albatross/gone", "a bird")):
        (root / "text_c10" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "text_c10" / f"{name}.txt").write_text(text)
    (root / "images.txt").write_text(f"2 {names[1]}.jpg\n1 {names[0]}.jpg\n3 002.Laysan_Albatross/gone.jpg\nbroken\n")
    rows, manifest = run("cub", root)
    assert [(row["id"], row["class"], row["captions"]) for row in rows] == [
        ("2", "Laysan Albatross", ["a bird", "a white bird"]),
        ("1", "Black footed Albatross", ["a bird", "a white bird"]),
    ]
    assert manifest["counts"] == {"images": 2, "missing": 1, "bad_row": 1}
    shutil.move(root / "text_c10", tmp_path / "texts")
    with pytest.raises(FileNotFoundError, match=r"text_c10: .*captions\.texts"):
        run("cub", root)
    assert run("cub", root, texts=str(tmp_path / "texts"))[0] == rows
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        run("cub", tmp_path)


def test_images_are_unpacked_again_if_deleted_and_never_into_a_folder_of_somebody_else(
    tmp_path: Path, run: Run
) -> None:
    source = shards(tmp_path / "in", {"a.jpg": jpeg(1), "a.txt": b"one"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(jpeg(9))
    with pytest.raises(ValueError, match=r"mine: `images`"):
        run("shards", source, images=str(tmp_path / "mine"))
    assert (tmp_path / "mine/photo.jpg").read_bytes() == jpeg(9)
    run("shards", source, images=str(tmp_path / "images"))
    shutil.rmtree(tmp_path / "images")
    run("shards", source, images=str(tmp_path / "images"))
    assert (tmp_path / "images/a.jpg").is_file()


def test_jsonl_of_other_keys(tmp_path: Path, run: Run) -> None:
    images = pictures(tmp_path / "images", *(f"{index}.jpg" for index in range(4)))
    lines = [
        '{"file_name": "0.jpg", "text": "one", "note": 5}',
        '{"id": "x", "file_name": "1.jpg", "text": ["two", "", null, "three"], "width": 99}',
        "torn {",
        "[1]",
        '{"file_name": "2.jpg"}',
        '{"text": "no file"}',
        '{"id": 3, "file_name": "3.jpg", "text": "a number for an id", "value": NaN}',
        '{"file_name": "0.jpg", "text": "again"}',
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    columns = {"image_column": "file_name", "caption_column": "text"}
    rows, manifest = run("jsonl", tmp_path / "metadata.jsonl", images=images, **columns)
    assert [(row["id"], row["captions"], row["width"]) for row in rows] == [
        ("0.jpg", ["one"], 8),
        ("x", ["two", "three"], 8),
        ("3", ["a number for an id"], 8),
    ]
    assert rows[2]["value"] is None
    assert rows[0]["note"] == 5
    assert manifest["counts"] == {"images": 3, "bad_row": 4, "bad_caption": 1, "duplicate_id": 1}
    assert manifest["left_out"]["bad_row"][2].startswith("line 5: ")


def test_a_table_whose_rows_are_scattered_or_broken(tmp_path: Path, run: Run) -> None:
    images = pictures(tmp_path / "images", "a.jpg", "sub/b.jpg", "c.jpg")
    rows = [b"image\tcaption", b'sub/b.jpg\t"one" is quoted, not closed: "', b"a.jpg\ttwo", b"sub/b.jpg\tthree"]
    rows += [b"a.jpg\tcaf\xe9"]
    (tmp_path / "table.tsv").write_bytes(
        b"\n".join([*rows, b'c.jpg\t"' + b"x" * 200_000 + b'"', b"c.jpg\tfour", b"a.jpg"])
    )
    found, manifest = run("csv", tmp_path / "table.tsv", images=images)
    assert captions_of(found) == [
        ("sub/b.jpg", ['"one" is quoted, not closed: "', "three"]),
        ("a.jpg", ["two"]),
        ("c.jpg", ["four"]),
    ]
    assert manifest["counts"] == {"images": 3, "not_utf8": 1, "bad_row": 1, "incomplete_row": 1}
    with pytest.raises(ValueError, match=r"table\.tsv: .*'price'.* caption"):
        run("csv", tmp_path / "table.tsv", images=images, attribute_columns=["price"])
    (tmp_path / "table.csv").write_bytes(b"x" * 200_000)
    with pytest.raises(ValueError, match=r"table\.csv"):
        run("csv", tmp_path / "table.csv", images=images)


def test_commas_and_quotation_marks_that_break_rows_are_counted(tmp_path: Path, run: Run) -> None:
    images = pictures(tmp_path / "images", *(f"{index}.jpg" for index in range(6)))
    lines = [
        "image,caption",
        '0.jpg,"Two lines,\nquoted, as they may be"',
        "1.jpg,a dog, running",  # line 4
        '2.jpg,"open here',  # line 5
        '3.jpg,"fine, too"',
        '4.jpg,"open again',  # line 7
        '5.jpg,closed here"',
        '0.jpg,a 6" plate',
        '1.jpg,"never closed',  # line 10
        *["2.jpg,many rows"] * 40,
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    rows, manifest = run("csv", tmp_path / "table.csv", images=images)
    assert captions_of(rows) == [
        ("0.jpg", ["Two lines,\nquoted, as they may be", 'a 6" plate']),
        ("3.jpg", ["fine, too"]),
        ("5.jpg", ['closed here"']),
        ("2.jpg", ["many rows"] * 40),
    ]
    assert manifest["counts"] == {"images": 4, "bad_row": 3, "surplus_columns": 1}
    assert [row.split(":")[0] for row in manifest["left_out"]["bad_row"]] == ["line 5", "line 7", "line 10"]
    assert manifest["left_out"]["surplus_columns"][0].startswith("line 4:")
    # rows after a bad one are read, also if their names do not look like pictures
    (tmp_path / "table.csv").write_text('image,caption\n0.jpg,a dog\n1.jpg,"open\nx,one\ny,two\n')
    _, manifest = run("csv", tmp_path / "table.csv", images=images)
    assert manifest["counts"] == {"images": 1, "bad_row": 1, "missing": 2}


def test_bad_rows_never_end_the_step(tmp_path: Path, run: Run) -> None:
    pictures(tmp_path, "0.jpg", "1.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")  # which nobody writes
    deep = "[" * 100_000 + "]" * 100_000
    lines = [
        '{"file": "0.jpg", "captions": [null, 5, "", "good"]}',
        '{"file": "1.jpg", "captions": ["half a pair \\ud83d"]}',
        '{"file": "1.jpg", "captions": ["note"], "note": "\\ud83d"}',
        '{"id": "\\ud83d", "file": "1.jpg", "captions": ["id"]}',
        '{"file": "\\ud83d.jpg", "captions": ["file"]}',
        '{"file": "nul\\u0000.jpg", "captions": ["nul"]}',
        json.dumps({"file": "long" * 100 + ".jpg", "captions": ["long"]}),
        '{"file": "pipe.jpg", "captions": ["pipe"]}',
        f'{{"file": "1.jpg", "captions": {deep}}}',
        '{"file": "1.jpg", "captions": [null, 5, ""]}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    rows, manifest = run("jsonl", tmp_path / "in.jsonl")
    assert captions_of(rows) == [("0.jpg", ["good"])]
    counts = {"images": 1, "bad_caption": 2, "not_utf8": 3, "unreadable": 4, "bad_row": 1, "without_caption": 1}
    assert manifest["counts"] == counts


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_no_file_is_skipped(tmp_path: Path, run: Run, workers: int) -> None:
    root = tmp_path / "in"
    (root / "b").mkdir(parents=True)
    for name in ("a", "b/c"):
        (root / f"{name}.jpg").write_bytes(jpeg(len(name)))
        (root / f"{name}.txt").write_text(name)
    (root / "b/loop").symlink_to(root)
    (root / "again").symlink_to(root / "b")
    (root / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (root / "gone.txt").write_text("a link to nothing")
    for name in ("pipe.jpg", "d.txt"):
        os.mkfifo(root / name)
    (root / "d.jpg").write_bytes(jpeg(7))
    (root / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(8))
    (root / os.fsdecode(b"caf\xe9.txt")).write_text("a name that is not UTF-8")
    rows, manifest = run("folder", root, workers=workers)
    assert [row["id"] for row in rows] == ["a.jpg", "again/c.jpg"]
    counts = {"images": 2, "not_a_file": 2, "folder_again": 2, "without_caption": 1, "not_utf8": 1, "missing": 2}
    assert manifest["counts"] == counts


def test_a_replaced_image_of_equal_size_is_read_again(tmp_path: Path, run: Run) -> None:
    root = tmp_path / "in"
    root.mkdir()
    (root / "a.txt").write_text("a")
    Image.new("RGB", (4, 4), "red").save(root / "a.bmp")
    before, _ = run("folder", root)
    Image.new("RGB", (4, 4), "blue").save(root / "a.bmp")
    after, _ = run("folder", root)
    assert after[0]["sha256"] != before[0]["sha256"]


def test_damaged_tar_headers_cost_only_the_samples_they_are_in(tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    shard = tmp_path / "in/0.tar"
    write_tar(
        shard, {f"{n}.{kind}": jpeg(n) if kind == "jpg" else b"text" for n in range(10) for kind in ("jpg", "txt")}
    )
    payload = bytearray(shard.read_bytes())
    start = payload.index(b"3.jpg")
    payload[start : start + 8] = b"\xff" * 8
    shard.write_bytes(payload)
    write_tar(tmp_path / "in/1.tar", {"cut.jpg": jpeg(11), "cut.txt": b"text", "off.jpg": jpeg(12), "off.txt": b"text"})
    cut = (tmp_path / "in/1.tar").read_bytes()
    (tmp_path / "in/1.tar").write_bytes(cut[: cut.index(b"off.txt") + 512])
    (tmp_path / "in/2.tar").write_bytes(b"not a tar")
    rows, manifest = run("shards", tmp_path / "in", images=str(tmp_path / "images"))
    assert [row["id"] for row in rows] == [*"012456789", "cut"]
    assert manifest["counts"] == {"images": 10, "missing": 1, "without_caption": 1, "damaged_shard": 3}
    damaged = [Path(where.split(":")[0]).name for where in manifest["left_out"]["damaged_shard"]]
    assert damaged == ["0.tar", "1.tar", "2.tar"]


def test_parts_are_brought_together(tmp_path: Path, run: Run, read: Read) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for index in range(12):
        (root / f"{index}.jpg").write_bytes(jpeg(index % 10))  # 10 and 11 are copies
        (root / f"{index}.txt").write_text(f"number {index}")
    whole, _ = run("folder", root)
    parts = [tmp_path / f"out/part-{number}.jsonl" for number in (1, 2, 3)]
    for number, part in enumerate(parts, start=1):
        Captions(source="folder", input=str(root), output=str(part), workers=1, part=f"{number}/3").run()
    ids = [row["id"] for part in parts for row in read(part)]
    assert len(ids) == len(set(ids)) > len(whole)  # the copies of images in another part are still there
    rows, manifest = run("parts", tmp_path / "out/part-?.jsonl")
    assert {row["sha256"] for row in rows} == {row["sha256"] for row in whole}
    assert manifest["counts"] == {"images": 10, "duplicate": len(ids) - 10}
    by_id = {row["id"]: row for row in whole}
    assert all(row == by_id[row["id"]] for row in rows if row["id"] in by_id)


def test_parts_of_shards_are_whole_shards(tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    for index in range(5):
        write_tar(tmp_path / f"in/{index}.tar", {f"{index}.jpg": jpeg(index), f"{index}.txt": b"text"})
    found = [
        [row["id"] for row in run("shards", tmp_path / "in", images=str(tmp_path / f"images{part[0]}"), part=part)[0]]
        for part in ("1/2", "2/2")
    ]
    assert found == [["0", "2", "4"], ["1", "3"]]


# Caption shards


def test_shards_are_unpacked(tmp_path: Path, run: Run) -> None:
    dog = json.dumps({"caption": "a dog", "url": "http://dog", "status": "success", "width": 8}).encode()
    source = shards(
        tmp_path / "in",
        {"a.jpg": jpeg(1), "a.txt": b"a photo of a cat\n", "x/b.jpg": jpeg(2), "x/b.txt": b"a dog", "x/b.json": dog},
        {"c.png": jpeg(3), "c.json": b'{"caption": "a bird", "width": 8}', "d.jpg": jpeg(4), "e.txt": b"no picture"},
        {"a.jpg": jpeg(5), "a.txt": b"again", "f.jpg": b"damaged", "f.txt": b"nothing"},
        {"x__b.jpg": jpeg(6), "x__b.txt": b"a key that needs the same file as x/b"},
        {
            "g.txt": b"a cat",
            "g.json": b'{"status": "failed_to_download"}',
            "h.jpg": jpeg(7),
            "h.json": b'{"caption": null}',
        },
        {"i.jpg": jpeg(8), "i.txt": b"caf\xe9", f"{'k' * 300}.jpg": jpeg(9), f"{'k' * 300}.txt": b"a name too long"},
    )
    (tmp_path / "in/00000.parquet").write_bytes(b"")
    rows, manifest = run("shards", source, images=str(tmp_path / "images"))
    assert captions_of(rows) == [("a", ["a photo of a cat"]), ("x/b", ["a dog"]), ("c", ["a bird"])]
    assert (Path(rows[1]["file"]).read_bytes(), rows[1]["url"]) == (jpeg(2), "http://dog")
    left_out = {"without_caption": 2, "missing": 1, "unreadable": 1, "duplicate_key": 2}
    left_out |= {"failed_download": 1, "not_utf8": 1, "long_key": 1}
    assert manifest["counts"] == {"images": 3, **left_out}


@pytest.fixture
def labelled(tmp_path: Path) -> dict[str, Any]:
    """Options for a shard of pictures with labels, one of each fault, and the names of three classes."""
    labels = {"a": b"1", "b": b"0\n", "c": b"2", "beyond": b"3", "below": b"-1", "word": b"cat", "empty": b""}
    members = {"own.jpg": jpeg(20), "own.cls": b"0", "own.txt": b"its own caption", "bare.jpg": jpeg(21)}
    for index, (key, label) in enumerate(labels.items()):
        members |= {f"{key}.jpg": jpeg(index), f"{key}.cls": label}
    names = tmp_path / "classnames.txt"
    names.write_text("golden retriever\numbrella\nAlaskan {malamute}\n\n")
    shards(tmp_path / "in", members)
    return {"source": "shards", "input": tmp_path / "in", "images": str(tmp_path / "images"), "class_names": str(names)}


def test_labels_become_captions(labelled: dict[str, Any], tmp_path: Path, run: Run) -> None:
    rows, manifest = run(**labelled)
    assert dict(captions_of(rows)) == {
        "a": ["a photo of an umbrella"],
        "b": ["a photo of a golden retriever"],
        "c": ["a photo of an Alaskan {malamute}"],
        "own": ["its own caption"],
    }
    assert manifest["counts"] == {"images": 4, "without_class_name": 4, "without_caption": 1}
    assert manifest["left_out"]["without_class_name"] == ["beyond", "below", "word", "empty"]
    (tmp_path / "classnames.txt").write_text("cat\ndog\nowl\nfox\n")
    assert dict(captions_of(run(**labelled)[0]))["beyond"] == ["a photo of a fox"]
    assert dict(captions_of(run(**labelled, template="{}")[0]))["a"] == ["dog"]
    without_names = {**labelled, "class_names": None}
    assert [row["id"] for row in run(**without_names)[0]] == ["own"]


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
    ("change", "named"),
    [
        ({"class_names": "nowhere.txt"}, r"nowhere\.txt"),
        ({"template": "a photo"}, r"captions\.template: 'a photo'"),
        ({"template": "{} {}"}, r"captions\.template"),
        ({"class_names": "gap.txt"}, r"gap\.txt, line 2"),
    ],
)
def test_bad_class_settings(
    labelled: dict[str, Any], tmp_path: Path, run: Run, change: dict[str, str], named: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gap.txt").write_text("cat\n\nowl\n")
    with pytest.raises((ValueError, FileNotFoundError), match=named):
        run(**{**labelled, **change})
    assert not list((tmp_path / "out").glob("*"))
    assert not (tmp_path / "images").exists()
