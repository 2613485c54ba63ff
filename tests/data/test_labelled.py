"""Readers of evaluation images, tables and texts: what they find, and what they say about bad input."""

import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from pcclip.data import encoding
from pcclip.data.labelled import read_images
from pcclip.datasets.tables import read_table
from tests.helpers.pictures import png, write_tar


def picture(level: int) -> bytes:
    return png((level, 0, 0), (4, 3))


def transform(image: Image.Image) -> Tensor:
    return pil_to_tensor(image)


def test_flat_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "notes.txt"):
        (tmp_path / name).write_bytes(picture(9))
    found = read_images(tmp_path)
    assert [image.key for image in found.images] == ["a.PNG", "b.png"]
    assert found.classes == []
    assert {image.label for image in found.images} == {None}


def test_class_folders(tmp_path: Path) -> None:
    for name in ("zebra/1.png", "ant/2.png", "ant/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture(9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_images(tmp_path)
    assert found.classes == ["ant", "zebra"]
    assert [(image.key, image.label) for image in found.images] == [
        ("ant/1.png", 0),
        ("ant/2.png", 0),
        ("zebra/1.png", 1),
    ]
    for name in ("bee", "cat", ".cache"):  # no classes
        (tmp_path / name).mkdir()
    (tmp_path / "bee" / "notes.txt").touch()
    with pytest.warns(UserWarning, match="2 of 4 folders have no image and are left out as classes: bee, cat;"):
        assert read_images(tmp_path) == found


@pytest.mark.parametrize(
    ("tars", "content", "message"),
    [
        (2, "3", r"test: 2 tars, but its nshards\.txt says 3; copy the dataset again"),
        (2, "1\n", r"test: 2 tars, but its nshards\.txt says 1;"),
        (2, "two", r"nshards\.txt: holds 'two', expected the number of tars"),
        (0, "4", r"0 tars, but its nshards\.txt says 4"),
    ],
)
def test_shards_that_are_not_all_there(tmp_path: Path, tars: int, content: str, message: str) -> None:
    folder = tmp_path / "test"
    folder.mkdir()
    files = [write_tar(folder / f"{number}.tar", {f"s{number}.png": picture(1)}) for number in range(tars)]
    (folder / "nshards.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_images(folder)
    for file in files:  # who names one tar wants that one
        assert len(read_images(file).images) == 1
    (folder / "nshards.txt").write_text(f"{tars}\n")
    assert not tars or len(read_images(folder).images) == tars


@pytest.mark.parametrize("beside", [True, False])
def test_tars_in_clip_benchmark_layout(tmp_path: Path, beside: bool) -> None:
    folder = tmp_path / "test"
    write_tar(folder / "0.tar", {"s0.png": picture(10), "s0.cls": b"1", "s1.cls": b"0\n", "s1.png": picture(20)})
    write_tar(folder / "1.tar", {"s2.png": picture(30), "s2.cls": b"1", "s2.pyd": b"never opened"})
    (folder if beside else tmp_path).joinpath("classnames.txt").write_text("ant\nbig zebra\n")
    with pytest.warns(UserWarning, match=r"test: skipped 1 \.pyd"):
        found = read_images(folder)
    assert found.classes == ["ant", "big zebra"]
    assert [(image.key, image.label) for image in found.images] == [("s0", 1), ("s1", 0), ("s2", 1)]
    levels = [int(transform(image.decode())[0, 0, 0]) for image in found.images]
    assert levels == [10, 20, 30]
    assert [image.key for image in read_images(folder / "1.tar").images] == ["s2"]


class Levels:
    """An image tower that returns the brightness of the first pixel."""

    image_transform = staticmethod(transform)
    embed_dim = 1
    device = torch.device("cpu")

    def require_image_tower(self, pictures: str) -> None:
        pass

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, :1]


@pytest.mark.parametrize("workers", [0, 2])
def test_embeddings_come_with_the_numbers_of_their_pictures(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "FEW", 0)
    for level in range(1, 8):
        (tmp_path / f"{level}.png").write_bytes(picture(level))
    (tmp_path / "2.png").write_bytes(picture(2)[:50])
    pictures = [(10 * number, image) for number, image in enumerate(read_images(tmp_path).images, start=1)]
    batches = list(encoding.encode_pictures(Levels(), pictures, batch_size=2, workers=workers))
    assert [batch.places.tolist() for batch in batches] == [[10], [30, 40], [50, 60], [70]]
    assert [list(batch.unreadable) for batch in batches] == [[20], [], [], []]
    assert torch.cat([batch.embeddings for batch in batches])[:, 0].tolist() == [1, 3, 4, 5, 6, 7]


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="evaluation images not found"):
        read_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no images"):
        read_images(tmp_path)
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "1.png").write_bytes(picture(1))
    (tmp_path / "1.png").write_bytes(picture(1))
    with pytest.raises(ValueError, match="class folders"):
        read_images(tmp_path)


@pytest.mark.parametrize(
    ("members", "names", "message"),
    [
        ({"a.png": picture(1), "a.cls": b"2"}, "ant\nbee\n", "label 2, but classnames.txt names 2 classes"),
        ({"a.png": picture(1), "a.cls": b"ant"}, "ant\n", "expected a class index"),
        (
            {"a.png": picture(1), "a.cls": b"0", "b.png": picture(1)},
            "ant\n",
            r"\.tar: b'\] have an image but no .cls",
        ),
        ({"a.png": picture(1), "a.cls": b"0"}, None, "labelled tars need classnames.txt"),
        ({"a.png": picture(1), "a.cls": b"0"}, "ant\nant\n", "same class name twice"),
        ({"a.png": picture(1), "a.cls": b"1"}, "ant\n\nbee\n", "line 2 is empty"),
        ({"a.txt": b"x"}, "ant\n", "no image"),
    ],
)
def test_bad_tars(tmp_path: Path, members: dict[str, bytes], names: str | None, message: str) -> None:
    write_tar(tmp_path / "set" / "0.tar", members)
    if names is not None:
        (tmp_path / "set" / "classnames.txt").write_text(names)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_images(tmp_path / "set")


def test_torn_tar(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "0.tar", {"a.png": picture(1)})
    file.write_bytes(b"x" * 700)
    with pytest.raises(ValueError, match="not a readable tar"):
        read_images(tmp_path)


CSV = "image,size,split\na.png,1.5,x\nb.png,,y\nc.png,3,x\n"
JSONL = """{"name": "ant", "size": 1, "wild": true}

{"name": "bee", "size": null, "wild": false}
{"name": "cat", "wild": true}
"""


def test_tables(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(CSV)
    table = read_table(tmp_path / "table.csv", "image")
    numbers = table.numbers("size", ["c.png", "b.png", "a.png", "unheard.png"])
    torch.testing.assert_close(numbers, torch.tensor([3, torch.nan, 1.5, torch.nan]).double(), equal_nan=True)
    assert read_table(tmp_path / "table.csv", "image", {"split": "x"}).keys == ["a.png", "c.png"]

    (tmp_path / "table.jsonl").write_text(JSONL)
    table = read_table(tmp_path / "table.jsonl", "name", {"wild": "true"})
    assert table.keys == ["ant", "cat"]
    assert table.numbers("size", ["ant", "cat"]).isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "content", "key", "where", "message"),
    [
        ("t.csv", CSV, "file", None, 'no column "file"; its columns are image, size, split'),
        ("t.csv", CSV, "image", {"part": "x"}, 'no column "part"'),
        ("t.csv", CSV, "image", {"split": "z"}, "no row where"),
        ("t.csv", CSV, "split", None, 't.csv: "x" appears twice'),
        ("t.csv", CSV + ",4,x\n", "image", None, 'row 4: .*column "image"'),
        ("t.csv", CSV + "d.png,4\n", "image", None, "t.csv, line 5: "),
        ("t.csv", CSV + "d.png,4,x,\n", "image", None, "t.csv, line 5: "),
        ("t.csv", "image,size,size\na,1,2\n", "image", None, "t.csv.*'size'"),
        ("t.csv", "", "image", None, "t.csv: "),
        ("t.jsonl", JSONL + "{", "name", None, "line 5: "),
        ("t.jsonl", JSONL + "[]", "name", None, "line 5: "),
        ("t.txt", CSV, "image", None, "t.txt: .*csv.*jsonl.*parquet"),
    ],
)
def test_bad_tables(
    tmp_path: Path, name: str, content: str, key: str, where: dict[str, str] | None, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name, key, where)


def test_bad_columns(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="table not found"):
        read_table(tmp_path / "table.csv", "image")
    (tmp_path / "table.csv").write_text(CSV)
    table = read_table(tmp_path / "table.csv", "image")
    with pytest.raises(ValueError, match='no column "age"; its columns are image, size, split'):
        table.numbers("age", ["a.png"])
    with pytest.raises(ValueError, match=r'row "a\.png", column "split" holds \'x\', expected a number'):
        table.numbers("split", ["a.png"])
    (tmp_path / "table.csv").write_text(CSV.replace("1.5", "inf"))
    with pytest.raises(ValueError, match=r'row "a\.png", column "size" holds \'inf\''):
        read_table(tmp_path / "table.csv", "image").numbers("size", ["a.png"])
