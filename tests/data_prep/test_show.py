"""Pages of sample pairs show what the data contain, and escape all texts."""

import base64
import io
import json
import random
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.steps import show
from tests.data_prep.conftest import Write
from tests.helpers.shards import group_record, image_sample, write_dataset, write_embedded_shards, write_image_shards


def articles(page: Path) -> list[str]:
    return page.read_text(encoding="utf-8").split("<article>")[1:]


def test_pairs_of_shards(shards: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "page.html"
    show.Show(output=str(page), shards=str(shards), pairs=10).run()
    found = articles(page)
    assert len(found) == 10
    groups = set()
    for article in found:
        first, second = re.findall(r'<span class="id">(\w+)</span>', article)
        text, reverse = re.findall(r"<dd>(.*)</dd>", article)
        assert text == f"the first is {first}, the second is {second}"
        assert reverse == f"the first is {second}, the second is {first}"
        assert f"<li>picture {first}</li><li>this is {first}</li>" in article
        group, index = re.fullmatch(r"g(\d+)i(\d+)", first).groups()  # type: ignore[union-attr]
        groups.add(group)
        # The helper paints picture i of group g in a colour drawn with the seed 4 g + i.
        payload = re.findall(r'src="data:image/png;base64,([^"]+)"', article)[0]
        colour = tuple(np.random.default_rng(int(group) * 4 + int(index)).integers(0, 256, 3))
        assert Image.open(io.BytesIO(base64.b64decode(payload))).getpixel((0, 0)) == colour
    assert len(groups) == 10  # each from another group
    assert not re.search(r'(src|href)="(?!data:)', page.read_text())  # needs no other file


NASTY = "<script>alert(\"x\")</script> & 'quotes'"


def test_nothing_in_the_data_becomes_markup(tmp_path: Path) -> None:
    record = group_record(0, 2)
    record["images"][0] |= {"id": f"0{NASTY}", "captions": [NASTY]}
    for pair in record["pairs"]:
        pair["text"] = NASTY
    info: dict[str, Any] = {"kind": "images", "group_size": 2, "images": 2, "pairs": 2}
    folder = write_dataset(tmp_path / "a<b>&", [[image_sample(0, record)]], info)
    show.Show(output=str(tmp_path / "page.html"), shards=str(folder), pairs=1).run()
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "a<b>" not in page
    assert unescape(page).count(NASTY) == 4
    assert page.count("&lt;script&gt;") == 4


def rows_and_captions(tmp_path: Path, write: Write) -> tuple[Path, Path]:
    for name in "abc":
        Image.new("RGB", (900, 600), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    captions = write("captions.jsonl", [{"id": n, "file": f"{n}.png", "captions": [f"cap {n}"]} for n in "abcd"])
    rows = []
    for number in range(50):
        row = {"pair_id": f"p{number}", "group": "g", "first": "a", "second": "bcd"[number % 3]}
        texts = {"text": f"text {number}", "reverse_text": f"reverse {number}"}
        rows.append({**row, **texts, "reason": "empty", "detail": "no <words>"})
    return write("rejected.jsonl", rows), captions


def test_pairs_of_rows(tmp_path: Path, write: Write) -> None:
    differences, captions = rows_and_captions(tmp_path, write)
    page = tmp_path / "page.html"
    show.Show(output=str(page), differences=str(differences), captions=[str(captions)], pairs=20).run()
    found = articles(page)
    numbers = [int(re.findall(r"<dd>text (\d+)</dd>", article)[0]) for article in found]
    assert len(set(numbers)) == 20
    assert numbers == sorted(numbers)
    for number, article in zip(numbers, found, strict=True):
        assert f"<dd>reverse {number}</dd>" in article
        assert '<p class="reason">empty: no &lt;words&gt;</p>' in article
        assert article.count("unreadable") == (number % 3 == 2)  # there is no d.png
    assert len(page.read_text()) < 300_000  # pictures are shrunk
    few = show.pairs_from_rows(differences, [captions], 1000, random.Random(0))
    assert [pair["text"] for pair in few] == [f"text {number}" for number in range(50)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "page.pdf"}, r"page\.pdf"),
        ({"shards": None}, r"`shards`.*`differences`"),
        ({"differences": "d.jsonl"}, r"`shards`.*`differences`"),
    ],
)
def test_bad_options(shards: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    good = {"output": str(tmp_path / "page.html"), "shards": str(shards)}
    with pytest.raises(ValueError, match=message):
        show.Show(**{**good, **change}).run()


def test_what_cannot_be_shown(tmp_path: Path, write: Write) -> None:
    embedded = write_embedded_shards(tmp_path / "embedded", np.ones((2, 3, 4)), "print")
    page = str(tmp_path / "page.html")
    with pytest.raises(ValueError, match=r"embedded: .*embeddings"):
        show.Show(output=page, shards=str(embedded)).run()
    empty = write("none.jsonl", [])
    with pytest.raises(ValueError, match=r"none\.jsonl"):
        show.Show(output=page, differences=str(empty)).run()
    differences, captions = rows_and_captions(tmp_path, write)
    captions.write_text(json.dumps({"id": "a", "file": "a.png", "captions": []}) + "\n")
    with pytest.raises(ValueError, match=r"rejected\.jsonl: image 'b'"):
        show.Show(output=page, differences=str(differences), captions=[str(captions)]).run()
    folder = write_image_shards(tmp_path / "damaged", 2, 2, 2)
    size = (folder / "00000.tar").stat().st_size
    (folder / "00000.tar").write_bytes(b"x" * size)
    with pytest.raises(ValueError, match=r"damaged"):
        show.Show(output=page, shards=str(folder)).run()
    assert not Path(page).exists()
