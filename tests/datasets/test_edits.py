"""Edits of our own and SIMAT's, in its official layout."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from pcclip.data.labelled import read_images
from pcclip.datasets.edits import read_edits, read_simat, without
from pcclip.metrics.arithmetic import Edits
from tests.helpers.official_trees import write_simat


@pytest.fixture
def simat(tmp_path: Path) -> Path:
    """A tiny `simat_db` with SIMAT's own names."""
    write_simat(tmp_path)
    return tmp_path


def test_simat_by_its_oracle(simat: Path) -> None:
    images, edits = read_simat(simat, "test")
    assert [image.key.split("/")[1] for image in images.images] == [
        "7.jpg", "88.jpg", "104.jpg", "300.jpg", "61.jpg", "9.jpg",
    ]  # fmt: skip
    assert edits.images.tolist() == [2, 2, 4]
    assert (edits.sources, edits.targets) == (["dog", "bench", "dog"], ["cat", "rug", "zebra"])
    assert edits.weights.tolist() == [0.5, 0.25, 0.5]  # 1 / sqrt(norm2)
    assert edits.right[edits.answers].tolist() == [
        [True, True, False, False, False, False],
        [False, False, False, False, True, True],
        [False, False, True, False, False, False],
    ]
    assert read_simat(simat, "dev")[1].targets == ["bench"]


def test_simat_by_triplets_needs_no_oracle(simat: Path) -> None:
    (simat / "oscar_similarity_matrix.pt").unlink()
    _, edits = read_simat(simat, "test", "triplets")
    assert edits.right[edits.answers].tolist() == [
        [True, True, False, False, False, False],
        [False, False, False, False, True, True],
        [False] * 6,  # there is no zebra sitting on a rug
    ]
    kept, left_out = without(edits, list(range(6)), 6)
    assert (kept.targets, left_out) == (["cat", "rug"], 1)
    with pytest.raises(FileNotFoundError, match=r"oscar_similarity_matrix\.pt .*SIMAT"):
        read_simat(simat)


def test_simat_that_is_not_whole(simat: Path) -> None:
    for similarities, named in ((torch.zeros(5, 4), r"\(5, 4\).* 6 images"), (torch.zeros(6, 2), r"target 3.* 2 ")):
        torch.save(similarities, simat / "oscar_similarity_matrix.pt")
        with pytest.raises(ValueError, match=named):
            read_simat(simat)
    (simat / "images" / "A cat sitting on a bench" / "7.jpg").unlink()
    with pytest.raises(ValueError, match=r"number 2 .*104\.jpg"):
        read_simat(simat, "test", "triplets")
    with pytest.raises(FileNotFoundError, match=r"transfos\.csv"):
        read_simat(simat / "images")


def test_damaged_images_leave_their_edits_out(simat: Path) -> None:
    _, edits = read_simat(simat)
    few, left_out = without(edits, [1, 2, 3, 5], 6)  # image 4 is edited, 0 and 4 are answers
    assert left_out == 1 + 0
    assert few.images.tolist() == [1, 1]
    assert few.sources == ["dog", "bench"]
    assert few.right[few.answers].tolist() == [[True, False, False, False], [False, False, False, True]]
    assert few.labels is not None
    assert few.labels.tolist() == [0, 1, 1, 2]
    few, left_out = without(edits, [2, 3, 4, 5], 6)  # no cat is left; the only right image of the last edit is number 2
    assert left_out == 1
    assert few.targets == ["rug", "zebra"]


def test_an_edit_answered_by_its_own_image_only_is_left_out() -> None:
    right = torch.tensor([[True, False, False], [True, True, False]])
    edits = Edits(torch.tensor([0, 0]), ["a", "a"], ["b", "c"], torch.tensor([0, 1]), right, torch.ones(2))
    few, left_out = without(edits, [0, 1, 2], 3)
    assert (few.targets, left_out) == (["c"], 1)


ROW = {"image": "cat/0.png", "source": "cat", "target": "dog", "answer": "dog"}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("cat/0.png", "dog/0.png", "dog/1.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def test_own_edits(folders: Path, tmp_path: Path) -> None:
    rows = [ROW, {"image": "dog/1.png", "source": "a dog", "target": "a cat", "answer": "cat"}]
    (tmp_path / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    edits = read_edits(tmp_path / "edits.jsonl", read_images(folders))
    assert edits.images.tolist() == [0, 2]
    assert (edits.sources, edits.targets) == (["cat", "a dog"], ["dog", "a cat"])
    assert edits.right[edits.answers].tolist() == [[False, True, True], [True, False, False]]
    assert edits.weights.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (None, "edits.jsonl: "),
        ({**ROW, "image": "cat/7.png"}, 'line 1: .*"cat/7.png"'),
        ({**ROW, "answer": "cow"}, 'line 1: .*"cow"'),
        ({**ROW, "target": ""}, "line 1: target"),
    ],
)
def test_bad_own_edits(folders: Path, tmp_path: Path, row: dict[str, str] | None, message: str) -> None:
    (tmp_path / "edits.jsonl").write_text("" if row is None else json.dumps(row))
    with pytest.raises(ValueError, match=message):
        read_edits(tmp_path / "edits.jsonl", read_images(folders))


def test_own_edits_need_classes(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "edits.jsonl").write_text(json.dumps(ROW))
    with pytest.raises(ValueError, match=r"cat: .*edits\.jsonl"):
        read_edits(tmp_path / "edits.jsonl", read_images(folders / "cat"))
