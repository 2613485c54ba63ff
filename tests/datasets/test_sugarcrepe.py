"""SugarCrepe's files, in their official layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pcclip.datasets.sugarcrepe import CaptionChoice, read_caption_choices

ROW = {"filename": "000000085329.jpg", "caption": "a dog on a mat ", "negative_caption": "a mat on a dog"}


def test_file_and_folder(tmp_path: Path) -> None:
    for stem in ("swap_obj", "add_att"):
        (tmp_path / f"{stem}.json").write_text(json.dumps({"0": ROW, "1": {**ROW, "caption": stem}}))
    both = read_caption_choices(tmp_path)
    assert list(both) == ["add_att", "swap_obj"]
    assert both["swap_obj"] == [
        CaptionChoice("000000085329.jpg", "a dog on a mat", "a mat on a dog"),
        CaptionChoice("000000085329.jpg", "swap_obj", "a mat on a dog"),
    ]
    assert read_caption_choices(tmp_path / "swap_obj.json") == {"swap_obj": both["swap_obj"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", 'expected {"0"'),
        ("{}", 'expected {"0"'),
        ('{"3": []}', 'entry "3": `filename` is missing'),
        (json.dumps({"3": {"filename": "a.jpg", "caption": "x"}}), 'entry "3": `negative_caption` is missing'),
        (json.dumps({"3": {**ROW, "caption": " "}}), 'entry "3": `caption` is missing, empty'),
    ],
)
def test_bad_files(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "swap_obj.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_caption_choices(tmp_path)


def test_missing(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "swap_obj.json"):
        with pytest.raises(FileNotFoundError, match=r"no SugarCrepe JSON file; download .*sugar-crepe"):
            read_caption_choices(source)
